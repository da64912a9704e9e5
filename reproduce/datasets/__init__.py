"""The data sets, and the ways to them. Knows no experiment."""

# Their names in the titles of figures.
TITLES = {
    "mnist": "MNIST",
    "digits": "scikit-learn's digits",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "gas_sensor": "Gas sensor (Ethanol)",
    "diabetes": "scikit-learn's diabetes",
    "random": "random matrix",
}


def title_of(name):
    """A data set's name in the titles of figures; of an unknown one, the name itself."""
    return TITLES.get(name, name)
