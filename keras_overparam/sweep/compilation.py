"""Compiling, for which `keras.ops` has no word."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import keras

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, xla: bool = True) -> Function:
    """A function of tensors, compiled by XLA on TensorFlow and JAX, as it is on PyTorch.

    Args:
        function: from nested structures of tensors to such structures. Variables that it assigns to
            must exist before its first call; on JAX it must not assign to any.
        xla: whether TensorFlow compiles it, or only makes a graph of it.

    Returns:
        Function of the same arguments.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # An object of its own, without code: TensorFlow warns of code that is compiled again and
        # again, and a sweep's is, for each sweep.
        own = functools.partial(function)
        return tf.function(own, jit_compile=xla, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function
