"""Deep linear networks on regression problems, and beside them one layer trained by the rule.

Everything is float64 and has leading batch axes: the networks of one depth, over starts of several
seeds, and the kernels that the rule trains are advanced together in one compiled loop.
"""

import numpy as np
from keras import ops

from keras_overparam import chain_product, end_to_end_step
from keras_overparam.factorization import factor_gradients
from keras_overparam.precision import frobenius_norm, maximum
from keras_overparam.sweep.compilation import compiled
from keras_overparam.sweep.problems import Regression


class Problem(Regression):
    """Linear regression with the loss `1/(p n) Σ |X K − Y|^p` over n rows, a sum over outputs.

    Kernels have any number of leading axes.

    Args:
        features: `X`, array of shape `(n, inputs)`.
        targets: `Y`, array of shape `(n, outputs)`.
        power: `p`, even.
    """

    def __init__(self, features, targets, power=2):
        super().__init__(features, targets, power, "float64")
        self.terms = len(self.features)
        self._gradient, self._losses = self.functions()

    def loss(self, kernels):
        """Losses of kernels `(…, inputs, outputs)`, as a NumPy array of shape `(…)`."""
        flat = ops.reshape(kernels, (-1, *self.kernel_shape))
        return ops.convert_to_numpy(self._losses(flat)).reshape(kernels.shape[:-2])

    def gradient(self, kernels):
        """Gradients of the losses of kernels, a tensor of their shape."""
        flat = ops.reshape(kernels, (-1, *self.kernel_shape))
        return ops.reshape(self._gradient(flat), kernels.shape)


def random_matrix_problem(rows=200, inputs=20, outputs=10, noise=0.1, seed=0):
    """Standard normal features, and targets of a random kernel with noise.

    The kernel's entries have variance `1 / inputs`, so that its singular values spread below two.
    """
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, inputs))
    kernel = random.normal(size=(inputs, outputs)) / np.sqrt(inputs)
    return Problem(features, features @ kernel + noise * random.normal(size=(rows, outputs)))


def trainer(problem, depth, learning_rate):
    """Gradient descent on networks and, beside it, the end-to-end rule, as one compiled loop.

    Args:
        problem: a `Problem`.
        depth: of the networks, and the rule's.
        learning_rate: of both.

    Returns:
        Function of `networks` (list of lists of factors), `kernels` (the rule's, along a leading
        axis), the `largest` relative difference so far, and a number of steps. It returns the first
        three after so many steps.
    """

    def step(_, state):
        networks, kernels, largest = state
        products = _products(networks)
        gradients = problem.gradient(ops.concatenate([products, kernels]))
        networks = [
            [
                factor - learning_rate * slope
                for factor, slope in zip(
                    factors, factor_gradients(factors, gradients[index]), strict=True
                )
            ]
            for index, factors in enumerate(networks)
        ]
        kernels = end_to_end_step(kernels, gradients[len(networks) :], learning_rate, depth)
        difference = relative_difference(_products(networks), kernels)
        return networks, kernels, maximum(largest, difference)

    def advance(networks, kernels, largest, steps):
        return ops.fori_loop(0, steps, step, (networks, kernels, largest))

    return compiled(advance, xla=False)


def relative_difference(kernels, others):
    """Frobenius norm of the difference, relative to that of the others: a tensor."""
    return frobenius_norm(kernels - others) / frobenius_norm(others)


def _products(networks):
    return ops.stack([chain_product(factors) for factors in networks])
