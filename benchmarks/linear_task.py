"""What the contenders of a training step are to do, and how much work that is."""

import dataclasses
import functools
import math
from itertools import accumulate, pairwise

import numpy as np

MOMENTUM = 0.9
ITEM_SIZES = {"bfloat16": 2, "float32": 4, "float64": 8}
ACCESSES = 8  # of a step to each parameter, see `Task.traffic`


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained: a chain of sizes `(inputs, widths…, units)`, and on how many examples.

    All contenders start from the same matrices, and a step is the same to all: outputs, the mean of
    their squares, its gradients in the weights and (as inside a network) in the inputs, and an
    update with momentum.

    The rate is so small that nothing moves: no contender then gets other numbers to work on than
    another, such as denormal ones.
    """

    sizes: tuple
    batch: int
    dtype: str = "float32"
    jit: bool = False
    rate: float = 1e-9

    @property
    def plain(self):
        """The task of the plain layer between the same inputs and units."""
        return dataclasses.replace(self, sizes=(self.sizes[0], self.sizes[-1]))

    @property
    def parameters(self):
        """Number of the matrices' entries."""
        return sum(rows * columns for rows, columns in pairwise(self.sizes))

    def inputs(self):
        """The examples, normal."""
        return np.random.default_rng(0).normal(size=(self.batch, self.sizes[0])).astype("float32")

    def matrices(self):
        """The matrices at the start: each as Glorot and Bengio's, uniform."""
        rng = np.random.default_rng(1)
        for shape in pairwise(self.sizes):
            limit = math.sqrt(6 / sum(shape))
            yield rng.uniform(-limit, limit, shape).astype("float32")

    def trained(self, steps):
        """The matrices after some steps, written with NumPy in float64: an oracle."""
        x = self.inputs().astype("float64")
        weights = [np.zeros(self.sizes[-1]), *(m.astype("float64") for m in self.matrices())]
        momenta = [0.0] * len(weights)
        for _ in range(steps):
            bias, *matrices = weights
            states = list(accumulate([x, *matrices], np.matmul))
            slope = 2 * (states.pop() + bias) / (self.batch * self.sizes[-1])
            gradients = [slope.sum(axis=0)]
            for matrix, state in zip(reversed(matrices), reversed(states), strict=True):
                gradients.insert(1, state.T @ slope)
                slope = slope @ matrix.T
            momenta = [MOMENTUM * m + g for m, g in zip(momenta, gradients, strict=True)]
            weights = [w - self.rate * m for w, m in zip(weights, momenta, strict=True)]
        return weights[1:]

    def orders(self):
        """All orders of the products of inputs and matrices: nested pairs of their indices."""
        return list(_orders(0, len(self.sizes) - 1))

    def operations(self, order):
        """Additions and multiplications of a step's matrix products in an order.

        Either gradient of a product takes as many as the product itself.
        """
        return 6 * _multiplications(order, (self.batch, *self.sizes))

    def cheapest_order(self):
        """The order of fewest operations."""
        return min(self.orders(), key=self.operations)

    def in_sequence(self):
        """The order of one matrix after another."""
        return functools.reduce(lambda order, index: (order, index), range(len(self.sizes)))

    def traffic(self):
        """Bytes of a step's accesses to parameters, which a small batch does not hide.

        They are read forward and backward, their gradients are written, and the update reads
        gradients, momenta and parameters and writes the latter two.
        """
        return ACCESSES * ITEM_SIZES[self.dtype] * self.parameters


def _orders(first, last):
    if first == last:
        yield first
    for split in range(first, last):
        for left in _orders(first, split):
            for right in _orders(split + 1, last):
                yield left, right


def _multiplications(order, sizes):
    """Of the products of matrices of shapes `(sizes[i], sizes[i + 1])`."""
    if isinstance(order, int):
        return 0
    left, right = order
    here = sizes[_first(left)] * sizes[_first(right)] * sizes[_last(right) + 1]
    return here + _multiplications(left, sizes) + _multiplications(right, sizes)


def _first(order):
    return order if isinstance(order, int) else _first(order[0])


def _last(order):
    return order if isinstance(order, int) else _last(order[1])


def multiply(order, matrices):
    """The product of matrices in an order."""
    if isinstance(order, int):
        return matrices[order]
    return multiply(order[0], matrices) @ multiply(order[1], matrices)


def in_words(order):
    """An order as a product with brackets, the inputs as x."""
    if isinstance(order, int):
        return f"A{order}" if order else "x"
    return "(" + " ".join(map(in_words, order)) + ")"
