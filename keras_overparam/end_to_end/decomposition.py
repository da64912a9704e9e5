"""Singular values and vectors through a Gram matrix, small ones told apart."""

from keras import ops

from keras_overparam.end_to_end.matrices import (
    cond,
    eigenvectors,
    gram,
    largest_magnitude,
    norm,
    resolved,
)
from keras_overparam.typing import Tensor

# Where mixed singular vectors are told apart: in so many steps of that factor each, if there is a
# singular value below that fraction of the largest.
MIXED_BELOW = 2.0**-11
UNMIXING_FACTOR = 2.0**-4
UNMIXING_LEVELS = 4


def decompose(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values and vectors `U, σ, V` of a kernel, through its Gram matrix.

    A Gram matrix squares the condition number: right singular vectors whose singular values are
    below `√ε ‖K‖` come out mixed. The singular values are therefore measured on the kernel itself,
    `σ_r = ‖K v_r‖`; and as fractional powers magnify what is small, the mixed vectors are
    decomposed again among themselves.
    """
    scale = largest_magnitude(kernel)
    kernel = kernel / scale
    right = eigenvectors(gram(kernel))
    left = kernel @ right
    left, right = _unmixed(kernel, left, right)
    singular, inverse = resolved(norm(left, axis=-2))
    return left * inverse, ops.squeeze(singular * scale, -2), right


def _unmixed(kernel: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """`K V` and `V`, the vectors of ever smaller singular values decomposed among themselves."""

    def decomposed_again() -> tuple[Tensor, Tensor]:
        products, vectors = left, right
        for level in range(1, UNMIXING_LEVELS + 1):
            vectors = decompose_small(products, vectors, UNMIXING_FACTOR**level)
            products = kernel @ vectors
        return products, vectors

    norms = norm(left, axis=-2)
    mixed = norms < MIXED_BELOW * ops.max(norms, axis=-1, keepdims=True)
    return cond(ops.any(mixed), decomposed_again, lambda: (left, right))


def decompose_small(left: Tensor, right: Tensor, below: float) -> Tensor:
    """Decompose the vectors whose singular values are below a fraction of the largest.

    The others are kept out by distinct negative numbers on the diagonal, coupled to nothing.
    """
    norms = norm(left, axis=-2)
    small = norms < below * ops.max(norms, axis=-1, keepdims=True)
    columns = ops.where(small, left, 0)
    columns = columns / largest_magnitude(columns)
    size = right.shape[-1]
    apart = -1 - ops.cast(ops.arange(size), right.dtype) / size
    diagonal = ops.where(small[..., 0, :], 0, apart)
    matrix = gram(columns) + diagonal[..., None, :] * ops.eye(size, dtype=right.dtype)
    return right @ eigenvectors(matrix)
