"""What a layer is made of again."""

import types
import warnings
from typing import Any

import keras

from keras_overparam.typing import Config


def configuration(layer: keras.layers.Layer) -> Config:
    """What another layer of the class is made of: `get_config()`, for a copy that is made at once.

    Functions that the layer was given are themselves in it. (As text, functions are found again
    only if they are Keras's own or registered, and a `lambda` not at all.) Layers in it are not
    built when they are made, but when the copy builds them, which gives their variables its path.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*includes a `lambda`")
        config = {key: _unbuilt(value) for key, value in layer.get_config().items()}
    given = {key: getattr(layer, key, getattr(layer, f"_{key}", None)) for key in config}
    return config | {k: v for k, v in given.items() if isinstance(v, types.FunctionType)}


def _unbuilt(value: Any) -> Any:
    """A serialized value, in which no layer is said to be built."""
    if isinstance(value, dict):
        serialized = {"class_name", "config"} <= value.keys()
        kept = {k: v for k, v in value.items() if not (serialized and k == "build_config")}
        return {key: _unbuilt(item) for key, item in kept.items()}
    return [_unbuilt(item) for item in value] if type(value) is list else value
