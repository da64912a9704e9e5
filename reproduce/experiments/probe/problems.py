"""Real problems to check the probe on: which of them it was tuned on, and which it never saw."""

import dataclasses
from collections.abc import Callable

import numpy as np

from datasets import gas_sensor
from datasets.gas_archive import GASES
from datasets.gas_sensor import standardize
from datasets.images import load_images

IMAGES = 1000  # of MNIST
SHARE = 10  # the full run's iterations over the probe's
SHORTEST = 8 * SHARE  # full run: the probe asks for 8 iterations
HEAD_STEPS = 200  # of training, of the network whose head is probed
POWERS = {"l2": 2, "l4": 4}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A regression or classification on real data.

    Attributes:
        data: what the data are, in words.
        loss: "cross-entropy", or a key of `POWERS`.
        tuned_on: whether the probe's constants were chosen with this problem in sight.
        load: function of the folders of prepared data and of archives, that returns features
            `(n, inputs)` and targets.
        horizon: iterations of the full run; the probe runs a tenth of them.
    """

    data: str
    loss: str
    tuned_on: bool
    load: Callable
    horizon: int = 5000

    @property
    def name(self):
        """What tells it from the others."""
        return f"{self.data}, {self.loss}"


def _with_ones(features):
    """Features and an input that is one, whose weights are a bias."""
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _gas(gas):
    def load(data_dir, archives):
        data = gas_sensor.load_gas(gas, data_dir, archives)
        return data.features, data.target

    return load


def _bundled(name):
    """Features and targets of a data set that comes with scikit-learn."""
    from sklearn import datasets  # half a second, which no command line should wait for

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def _regression(name):
    """scikit-learn's regression, features and targets standardized."""

    def load(data_dir, archives):
        features, targets = _bundled(name)
        return standardize(features), standardize(targets.reshape(len(targets), -1))

    return load


def _classes(name):
    """scikit-learn's classification, features standardized."""

    def load(data_dir, archives):
        features, classes = _bundled(name)
        return _with_ones(standardize(features)), classes

    return load


def _one_hot_classes(name):
    """A regression of the classes' indicators, centred."""

    def load(data_dir, archives):
        features, classes = _bundled(name)
        return standardize(features), standardize(np.eye(classes.max() + 1)[classes])

    return load


def _digits(data_dir, archives):
    features, classes = _bundled("digits")
    return _with_ones(features / 16), classes


def _mnist(data_dir, archives):
    images = load_images("mnist", data_dir, archives)
    pixels = images.train_images[:IMAGES].reshape(IMAGES, -1) / 255
    return _with_ones(pixels), images.train_labels[:IMAGES]


def _mnist_head(data_dir, archives):
    """What the tutorial network's last layer gets after a short training, on other images."""
    import keras

    from experiments.mnist import tutorial_cnn
    from experiments.mnist.settings import Settings

    images = load_images("mnist", data_dir, archives)
    settings = Settings(regularize="none")
    network = tutorial_cnn.build_network(settings)
    tutorial_cnn.compile_network(network, settings, len(images.train_labels))
    steps = tutorial_cnn.batches(images.train_images, images.train_labels, 0, HEAD_STEPS)
    network.fit(steps, verbose=0, shuffle=False)
    body = keras.Model(network.inputs, network.get_layer("logits").input)
    features = tutorial_cnn.logits(body, images.test_images[:IMAGES])
    return _with_ones(features), images.test_labels[:IMAGES]


def _problems():
    for power in POWERS:
        yield Problem("Ethanol", power, True, _gas("ethanol"))
        yield Problem("diabetes", power, True, _regression("diabetes"))
    yield Problem("digits", "cross-entropy", True, _digits, horizon=1500)
    for gas in GASES[1:]:
        for power in POWERS:
            yield Problem(gas.capitalize(), power, False, _gas(gas))
    for power in POWERS:
        yield Problem("Linnerud", power, False, _regression("linnerud"))
    for data in ("iris", "wine", "breast cancer"):
        name = data.replace(" ", "_")
        yield Problem(data, "cross-entropy", False, _classes(name))
        yield Problem(data, "l4", False, _one_hot_classes(name))
    yield Problem("MNIST pixels", "cross-entropy", False, _mnist, horizon=1500)
    yield Problem("MNIST head", "cross-entropy", False, _mnist_head, horizon=1500)


PROBLEMS = {problem.name: problem for problem in _problems()}
