"""Deep linear networks on regression problems, and beside them one layer trained by the rule.

Everything is float64 and has leading batch axes: the networks of one depth, over starts of several
seeds, and the kernels that the rule trains are advanced together in one compiled loop.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from keras import ops

from keras_overparam import chain_product, end_to_end_step
from keras_overparam.factorization import factor_gradients


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Linear regression with the loss `1/(p n) Σ |X K − Y|^p` over n rows.

    Attributes:
        features: `X`, float64 array of shape `(n, inputs)`.
        targets: `Y`, float64 array of shape `(n, outputs)`.
        power: `p`, even.
    """

    features: np.ndarray
    targets: np.ndarray
    power: int = 2

    @property
    def shape(self):
        """Inputs and outputs."""
        return self.features.shape[1], self.targets.shape[1]

    def loss(self, kernels):
        """Losses of kernels `(…, inputs, outputs)`, as a NumPy array of shape `(…)`."""
        residuals = self.features @ np.asarray(kernels) - self.targets
        return np.sum(residuals**self.power, axis=(-2, -1)) / (self.power * len(self.features))

    def gradient_function(self):
        """The loss's gradient, a function of tensors `(…, inputs, outputs)`."""
        rows = len(self.features)
        if self.power == 2:  # then the rows are needed only once
            gram = ops.convert_to_tensor(self.features.T @ self.features / rows)
            moment = ops.convert_to_tensor(self.features.T @ self.targets / rows)
            return lambda kernels: ops.matmul(gram, kernels) - moment
        features = ops.convert_to_tensor(self.features)
        targets = ops.convert_to_tensor(self.targets[:, None, :])

        def gradient(kernels):
            columns = ops.moveaxis(kernels, -2, 0)  # all kernels' columns beside one another
            flat = ops.reshape(columns, (columns.shape[0], -1))
            outputs = ops.reshape(ops.matmul(features, flat), (rows, -1, targets.shape[-1]))
            slopes = ops.reshape((outputs - targets) ** (self.power - 1), (rows, -1))
            flat = ops.matmul(ops.transpose(features), slopes) / rows
            return ops.moveaxis(ops.reshape(flat, columns.shape), 0, -2)

        return gradient


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
    gradient = problem.gradient_function()

    def step(_, state):
        networks, kernels, largest = state
        products = _products(networks)
        gradients = gradient(ops.concatenate([products, kernels]))
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
        return networks, kernels, ops.maximum(largest, difference)

    @tf.function(autograph=False)
    def advance(networks, kernels, largest, steps):
        return ops.fori_loop(0, steps, step, (networks, kernels, largest))

    return advance


def relative_difference(kernels, others):
    """Frobenius norm of the difference, relative to that of the others: a tensor."""
    difference = ops.norm(kernels - others, axis=(-2, -1))
    return difference / ops.norm(others, axis=(-2, -1))


def _products(networks):
    return ops.stack([chain_product(factors) for factors in networks])
