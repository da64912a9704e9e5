"""Checks of arguments, shared by functions, layers and optimizers."""

import numbers


def positive_integer(name: str, value: object) -> int:
    """The value as an `int`; a `ValueError` that names the argument if it is not one above 0."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return int(value)
