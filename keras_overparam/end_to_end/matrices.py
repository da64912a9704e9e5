"""Small matrix operations that the rule's numerics share."""

from collections.abc import Callable
from typing import TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.typing import Tensor

Result = TypeVar("Result")


def resolved(singular: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values `(…, 1, n)`, zero below the arithmetic's resolution, and their inverses."""
    resolved = singular > 2 * epsilon(singular) * norm(singular, axis=-1)
    return ops.where(resolved, singular, 0), ops.where(
        resolved, 1 / ops.where(resolved, singular, 1), 0
    )


def cond(predicate: Tensor, true: Callable[[], Result], false: Callable[[], Result]) -> Result:
    """`ops.cond`, but what is known is not compiled: JAX would do so at each call."""
    try:
        known = bool(predicate)
    except TypeError:  # traced
        return ops.cond(predicate, true, false)
    return true() if known else false()


def eigenvectors(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix; of some other one if it is not finite, which TensorFlow refuses.

    Rounding leaves TensorFlow's vectors less orthogonal the more there are: 1e-5 in float32 for a
    hundred. One step of Newton's method for the polar factor, `V ← V + V (I − VᵀV) / 2`, mends it.
    """
    finite = ops.all(ops.isfinite(matrix), axis=(-2, -1), keepdims=True)
    vectors = ops.linalg.eigh(ops.where(finite, matrix, 0))[1]
    missing = ops.eye(matrix.shape[-1], dtype=vectors.dtype) - gram(vectors)
    return vectors + (vectors @ missing) / 2


def transpose(matrix: Tensor) -> Tensor:
    """Each matrix with rows for columns."""
    return ops.swapaxes(matrix, -1, -2)


def gram(matrix: Tensor) -> Tensor:
    """`AᵀA`."""
    return inner(matrix, matrix)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """`AᵀB`."""
    return transpose(a) @ b


def sum_of_products(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """`a b + c d` as one product."""
    return ops.concatenate([a, c], axis=-1) @ ops.concatenate([b, d], axis=-2)


def epsilon(tensor: Tensor) -> float:
    """The resolution of a tensor's arithmetic."""
    return float(np.finfo(keras.backend.standardize_dtype(tensor.dtype)).eps)


def largest_magnitude(matrix: Tensor) -> Tensor:
    """Largest absolute entry of each matrix, `(…, 1, 1)`; 1 for a matrix of zeros."""
    largest = ops.max(ops.abs(matrix), axis=(-2, -1), keepdims=True)
    return ops.where(largest > 0, largest, 1)


def norm(tensor: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """Euclidean norm over axes that are kept; neither overflows nor underflows on the way."""
    largest = ops.max(ops.abs(tensor), axis=axis, keepdims=True)
    scale = ops.where(largest > 0, largest, 1)
    return scale * ops.sqrt(ops.sum(ops.square(tensor / scale), axis=axis, keepdims=True))
