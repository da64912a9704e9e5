"""Compiling, and what is known while compiling: what `keras.ops` has no words for."""

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.typing import Array, Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """A function of tensors, compiled by XLA on TensorFlow and JAX, as it is on PyTorch.

    Args:
        function: from nested structures of tensors to such structures. Variables that it assigns to
            must exist before its first call; on JAX it must not assign to any.

    Returns:
        Function of the same arguments.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # An object of its own, without code: TensorFlow warns of code that is compiled again and
        # again, and a sweep's is, for each sweep.
        own = functools.partial(function)
        return tf.function(own, jit_compile=True, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def known_values(tensor: Tensor) -> Array | None:
    """The values of a tensor or a variable, also while a function that uses it is traced.

    Args:
        tensor: tensor or variable.

    Returns:
        NumPy array; `None` for a symbol, and for a variable that is not initialized yet.
    """
    with _outside_of_graphs():
        try:
            values = np.asarray(ops.convert_to_numpy(tensor))
        except (NotImplementedError, TypeError):  # as TensorFlow, JAX or PyTorch says so
            return None
    # TensorFlow reads a variable that is not initialized yet as an empty array.
    return values if values.shape == tuple(tensor.shape) else None


def _outside_of_graphs() -> AbstractContextManager[None]:
    """A scope in which TensorFlow computes at once, also while it traces a graph."""
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    scope: AbstractContextManager[None] = tf.init_scope()
    return scope
