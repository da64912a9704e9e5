"""What is known while a function is traced, for which `keras.ops` has no word."""

import contextlib
import functools
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.typing import Array, Tensor

Result = TypeVar("Result")


def remembered(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function of positional arguments that computes each result once.

    Not `functools.cache`, of whose functions `torch.compile` warns.
    """
    results: dict[tuple[Hashable, ...], Result] = {}

    @functools.wraps(function)
    def found(*args: Hashable) -> Result:
        if args not in results:
            results[args] = function(*args)
        return results[args]

    return found


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
