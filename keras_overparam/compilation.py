"""Compiling a function on Keras's backend: the one thing that `keras.ops` has no word for."""

from collections.abc import Callable
from typing import Any, TypeVar

import keras

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

        # A function object of its own: TensorFlow warns of one that is compiled again and again.
        return tf.function(lambda *args: function(*args), jit_compile=True, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
