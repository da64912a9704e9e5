"""All that a layer keeps, carried over to another one of the same class."""

import tempfile
from collections.abc import Iterator, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_overparam.typing import Array, Layer, Pair, Tensor

# What Keras puts into graphs, and into models that are trained or called in loops, beside what any
# new model has.
OF_KERAS = {
    *("input_names", "output_names"),
    *("stop_training", "stop_evaluating", "stop_predicting"),
    *("train_function", "test_function", "predict_function", "unrolled_steps_per_execution"),
}


def carry_state(layer: Layer, copy: Layer) -> None:
    """Give a layer the state of another, as saving one and loading the other would.

    A layer's state may be in variables, in attributes that it makes of them when they are loaded
    (`Normalization`'s mean), in files (`StringLookup`'s vocabulary) or in a store of its own; all
    of it goes through the methods that Keras saves and loads a layer with. Variables are copied one
    by one too, since some layers save less than they hold (LoRA's weights are merged). What inner
    layers keep is left to them.

    Args:
        layer: a layer.
        copy: a layer made from its configuration, and built if it is.
    """
    store: dict[str, Tensor] = {}
    layer.save_own_variables(store)
    copy.load_own_variables({name: values_of(value) for name, value in store.items()})
    if hasattr(layer, "save_assets") and hasattr(copy, "load_assets"):
        _carry_assets(layer, copy)
    for variable, counterpart in zip(own_variables(layer), own_variables(copy), strict=True):
        counterpart.assign(values_of(variable))
    if isinstance(layer, keras.layers.RNN) and layer.stateful:  # which is not saved
        states = (keras.tree.flatten(each.states) for each in (layer, copy))
        for state, counterpart in zip(*states, strict=True):
            if state is not None:
                counterpart.assign(values_of(state))


def carry_seeds(layer: Layer, copy: Layer) -> None:
    """Let a layer draw the random numbers that another would draw next."""
    for seeds, counterpart in zip(layer._seed_generators, copy._seed_generators, strict=False):
        counterpart.state.assign(values_of(seeds.state))


def _carry_assets(layer: Layer, copy: Layer) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layer.save_assets(folder)
        if any(Path(folder).iterdir()):
            copy.load_assets(folder)


def left_behind(pairs: Sequence[Pair]) -> list[str]:
    """Plain values in attributes that differ between layers and their copies, as short texts.

    Numbers, strings, booleans, None, and tuples and lists of such: a configuration may hold them,
    but nothing else carries them over. Only public attributes of classes that are not Keras's.
    """
    of_keras = vars(keras.Model(name="any")).keys() | OF_KERAS
    return [
        f"{layer.name}.{name} is {value!r} and not {kept!r}"
        for layer, copy in pairs
        if type(layer) is type(copy) and not type(layer).__module__.startswith("keras.")
        for name, kept, value in _other_values(layer, copy)
        if name not in of_keras
    ]


def _other_values(layer: Layer, copy: Layer) -> Iterator[tuple[str, Any, Any]]:
    """Name, a layer's value and its copy's, of public plain attributes that differ."""
    for name, kept in vars(layer).items():
        if not name.startswith("_") and _is_plain(kept):
            value = getattr(copy, name, None)
            if not _is_plain(value) or (value != kept and repr(value) != repr(kept)):  # NaN
                yield name, kept, value


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (Number, str, bytes))


def own_variables(layer: Layer) -> list[keras.Variable]:
    """A layer's weights without those of the layers that it holds."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def values_of(variable: Tensor) -> Array:
    """A copy: on JAX a variable given to another would share its buffer, which training frees."""
    return np.array(ops.convert_to_numpy(variable))
