"""What a conversion refuses, in one sentence that names the layer."""

import contextlib
import re
from collections.abc import Iterator

import keras

COLOURS = re.compile(r"\x1b\[\d+m")
SHOWN = 400  # characters of a reason
WHAT_TO_DO = "Give its class what is missing, or convert a model without it."
LEAVE_OUT = "Leave the layer out by `layers`."


class LayerRefusal(ValueError):
    """A layer that a conversion cannot carry over; outer layers pass it on as it is."""


def refusal_of(
    layer: keras.layers.Layer, reason: object, what_to_do: str = WHAT_TO_DO
) -> LayerRefusal:
    """The error to raise for a layer: its name, its class, the reason and what to do."""
    kind, name = type(layer).__name__, getattr(layer, "name", type(layer).__name__)
    return LayerRefusal(
        f"The layer {name!r} of the class {kind} cannot be converted: {in_short(reason)}. "
        f"{what_to_do}"
    )


def in_short(reason: object) -> str:
    """A reason, or an error that is one, on one line and without the colours of a terminal."""
    told = " ".join(COLOURS.sub("", str(reason)).split())
    told = told if len(told) <= SHOWN else f"{told[:SHOWN]}…"
    return told.rstrip(".") or type(reason).__name__


@contextlib.contextmanager
def naming(layer: keras.layers.Layer, what_to_do: str = WHAT_TO_DO) -> Iterator[None]:
    """Has whatever goes wrong with a layer, in Keras or in a user's class, name that layer."""
    try:
        yield
    except LayerRefusal:
        raise
    except Exception as error:
        raise refusal_of(layer, error.__context__ or error, what_to_do) from error
