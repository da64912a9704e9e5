"""Operations that compute in the precision of what they are given.

Those of `keras.ops` make float32 of float64 in places (Keras 3.15): of products, maxima and norms
on PyTorch, of norms on JAX. Operators of tensors do not.
"""

import keras
from keras import ops

from keras_overparam.typing import Tensor


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`ops.matmul`, in float64 if one of the arguments is."""
    if "float64" in {keras.backend.standardize_dtype(tensor.dtype) for tensor in (a, b)}:
        return ops.cast(a, "float64") @ ops.cast(b, "float64")
    return ops.matmul(a, b)


def frobenius_norm(matrix: Tensor) -> Tensor:
    """`‖A‖` of matrices `(…, rows, columns)`."""
    return ops.sqrt(ops.sum(ops.square(matrix), axis=(-2, -1)))


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger of two, element by element; NaN where one of them is."""
    return ops.where(ops.logical_or(a < b, ops.isnan(b)), b, a)
