"""Starts of linear networks that several experiments train from."""

from itertools import pairwise

import numpy as np

from keras_overparam import balanced_factors
from keras_overparam.factorization import hidden_widths


def balanced_start(shape, depth, width, norm, seeds):
    """Balanced factors of a random kernel of the given Frobenius norm for each seed.

    Args:
        shape: inputs and outputs.
        depth: number of factors.
        width: that of the hidden layers; the kernel does not depend on it.
        norm: of the kernel.
        seeds: one kernel for each, along a leading axis.

    Returns:
        List of float64 arrays, the factors.
    """
    kernels = np.stack([np.random.default_rng(seed).normal(size=shape) for seed in seeds])
    kernels *= norm / np.linalg.norm(kernels, axis=(-2, -1), keepdims=True)
    return balanced_factors(kernels, depth, width)


def independent_start(shape, depth, width, norm, seeds):
    """Factors of independent Gaussians, all of the same variance.

    The variance makes `norm` the root mean square of the end-to-end kernel's Frobenius norm:
    `E ‖A1 … AN‖² = σ^{2N} s0 s1 … sN` for sizes `s`.

    Args:
        shape: inputs and outputs.
        depth: number of factors.
        width: that of the hidden layers.
        norm: of the kernel, its root mean square.
        seeds: one list of factors for each, along a leading axis.

    Returns:
        List of float64 arrays, the factors.
    """
    sizes = hidden_widths(*shape, depth, width)
    deviation = (norm / np.sqrt(np.prod(np.array(sizes, float)))) ** (1 / depth)
    randoms = [np.random.default_rng(seed) for seed in seeds]
    return [
        np.stack([random.normal(scale=deviation, size=pair) for random in randoms])
        for pair in pairwise(sizes)
    ]


STARTS = {"balanced": balanced_start, "independent": independent_start}
