"""Checks of arguments, shared by functions, layers and optimizers.

Each returns the value, and raises a `ValueError` of one sentence that names the argument.
"""

import math
import numbers
import re
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.typing import Array, Tensor

LARGEST_SIZE = 2**31 - 1  # that backends count with
REAL = re.compile(r"(u?int|b?float)\d+")  # names of the types of real numbers
SHOWN = 200  # characters of a value in a message


def refusal(name: str, wanted: str, value: object) -> ValueError:
    """The error to raise for an argument that is not what is wanted."""
    shown = " ".join(repr(value).split())
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"
    return ValueError(f"`{name}` must be {wanted}. Received: {name}={shown}")


def positive_integer(name: str, value: Any) -> int:
    """The value as an `int`, if it is one above 0 that can be a size."""
    fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not fits or value < 1:
        raise refusal(name, "a positive integer", value)
    size = int(value)
    if size > LARGEST_SIZE:
        raise refusal(name, f"a positive integer up to {LARGEST_SIZE}", size)
    return size


def finite_number(name: str, value: Any) -> Any:
    """The value, if it is a finite number, or a scalar tensor, whose value may not be known."""
    if isinstance(value, numbers.Real):
        fits = not isinstance(value, bool) and _is_finite(value)
    else:
        fits = tuple(getattr(value, "shape", (None,))) == () and _is_real(value)
    if not fits:
        raise refusal(name, "a finite number", value)
    return value


def fraction(name: str, value: Any) -> float:
    """The value, if it is a number of at least 0 and below 1."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not fits or not 0 <= value < 1:
        raise refusal(name, "at least 0 and below 1", value)
    return float(value)


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer of many digits
        return False


def boolean(name: str, value: object) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise refusal(name, "True or False", value)
    return bool(value)


def one_of(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse what is not one of some words."""
    if not (isinstance(value, str) and value in choices):
        raise refusal(name, f"one of {', '.join(map(repr, choices))}", value)


def regular_expression(name: str, value: object) -> str:
    """The value, if it is a regular expression."""
    wanted = "a regular expression"
    try:
        if isinstance(value, str) and re.compile(value):
            return value
    except re.error as error:
        wanted += f", without {error}"
    raise refusal(name, wanted, value)


def hidden_width(value: object, depth: int) -> int | list[int] | None:
    """A width as in `FactoredLinear`: None, an int, or a list of `depth − 1` ints.

    (A list, as JSON gives it back.)
    """
    if value is None or isinstance(value, numbers.Integral):
        return value if value is None else positive_integer("width", value)
    if not isinstance(value, (list, tuple)) or len(value) != depth - 1:
        wanted = (
            "None, a positive integer or one positive integer for each of the "
            f"depth − 1 = {depth - 1} hidden layers"
        )
        raise refusal("width", wanted, value)
    return [positive_integer("width", size) for size in value]


def real_matrices(name: str, value: npt.ArrayLike) -> Array:
    """The value as a NumPy array of shape `(…, rows, columns)`, if it is one of finite numbers."""
    array = _finite_array(value)
    if array is None or not _has_entries(array):
        wanted = "a non-empty array of finite real numbers with at least two axes"
        raise refusal(name, wanted, value)
    return array


def real_array(name: str, value: npt.ArrayLike) -> Array:
    """The value as a NumPy array of shape `(n, …)`, if it is one of finite numbers."""
    array = _finite_array(value)
    if array is None or not array.ndim or not array.size:
        raise refusal(name, "a non-empty array of finite real numbers", value)
    return array


def _finite_array(value: npt.ArrayLike) -> Array | None:
    try:
        array = np.asarray(value)
    except Exception:  # ragged lists, and whatever a class raises that cannot become an array
        return None
    return array if REAL.fullmatch(array.dtype.name) and np.isfinite(array).all() else None


def real_tensor(name: str, value: Tensor) -> Tensor:
    """The value as a tensor of shape `(…, rows, columns)`, if it is real; at least float32."""
    try:
        tensor = ops.convert_to_tensor(value)
        fits = _is_real(tensor) and _has_entries(tensor)
    except Exception:  # each backend raises its own
        fits = False
    if not fits:
        wanted = "a non-empty array of real numbers with at least two axes"
        raise refusal(name, wanted, value)
    wide = keras.backend.standardize_dtype(tensor.dtype) in ("float32", "float64")
    return tensor if wide else ops.cast(tensor, "float32")


def real_numbers(name: str, array: Tensor) -> None:
    """Refuse an array or a tensor of other than real numbers."""
    if not _is_real(array):
        raise refusal(name, "of real numbers", array)


def _is_real(array: Tensor) -> bool:
    dtype: Any = getattr(array, "dtype", None)
    try:
        named = isinstance(dtype, np.dtype)
        name = dtype.name if named else keras.backend.standardize_dtype(dtype)
    except ValueError:  # strings and other things that are no numbers
        return False
    return REAL.fullmatch(name) is not None


def _has_entries(array: Tensor) -> bool:
    return len(array.shape) >= 2 and 0 not in tuple(array.shape)
