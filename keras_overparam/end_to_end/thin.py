"""Gradients of low rank as products of two thin matrices."""

import functools
from typing import TypeAlias

import numpy as np
from keras import ops

from keras_overparam.end_to_end.matrices import epsilon, largest_magnitude, norm, transpose
from keras_overparam.typing import Float64Array, Tensor

Thin: TypeAlias = tuple[Tensor, Tensor]  # Y and Z of a gradient `G = Y Zᵀ` of low rank

# Columns and rows of a sketch beyond the rank that is looked for, and its greatest rounding.
OVERSAMPLED = 8
PROBES = 8
SKETCH_ROUNDING = 2.0**6


def thin_gradient(gradient: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """A gradient as a product of two thin matrices, if its rank allows it.

    The gradient of a dense layer's kernel has at most the rank of the number of rows in its batch.
    Random combinations of its rows then span all its rows; further random combinations, which the
    basis was not made of, tell whether it spans them: their part outside of the basis measures
    that of the gradient, whatever the gradient is.

    Args:
        gradient: `G` of shape `(…, m, n)`.
        rank: rank that is looked for.

    Returns:
        Tensors `Y`, `Z` of shapes `(…, m, k)` and `(…, n, k)`, `G = Y Zᵀ` with `ZᵀZ = I`, and a
        boolean scalar: whether that is so, up to rounding.
    """
    size = rank + OVERSAMPLED
    scale = largest_magnitude(gradient)
    sketch = ops.convert_to_tensor(_random(size + PROBES, gradient.shape[-2]), gradient.dtype)
    combined = (sketch @ gradient) / scale
    rows = ops.linalg.qr(transpose(combined[..., :size, :]))[0]
    probes = combined[..., size:, :]
    outside = probes - probes @ rows @ transpose(rows)
    bound = SKETCH_ROUNDING * epsilon(gradient) * norm(probes, axis=(-2, -1))
    spanned = ops.all(norm(outside, axis=(-2, -1)) <= bound)
    return gradient @ rows, rows, spanned


@functools.cache
def _random(rows: int, columns: int) -> Float64Array:
    """A fixed matrix of standard normal numbers."""
    return np.random.default_rng(0).standard_normal((rows, columns))
