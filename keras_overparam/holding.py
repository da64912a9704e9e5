"""Layers that layers hold in their attributes, and how others take their place."""

from collections.abc import Mapping
from typing import Any

import keras

# Attributes in which Keras and TensorFlow list what others hold.
LISTS = (
    *("_tracker", "_layers"),
    *("_self_unconditional_checkpoint_dependencies", "_self_unconditional_dependency_names"),
)


def replace_held(layer: keras.layers.Layer, replacements: Mapping[int, keras.layers.Layer]) -> None:
    """Put other layers in the place of some that a layer holds in its attributes.

    Args:
        layer: a built layer, which must be opened for it.
        replacements: dictionary from the identities of the old ones to the new ones.
    """
    before = list(layer._layers)
    layer._tracker.unlock()
    try:
        for name, value in list(vars(layer).items()):
            if name not in LISTS:
                new = _substituted(value, replacements)
                if new is not value:
                    setattr(layer, name, new)
        used = {id(inner) for held in places_of(layer).values() for inner in all_layers(held)}
        missing = [new.name for new in replacements.values() if id(new) not in used]
        for inner in before:
            if id(inner) in replacements:
                layer._tracker.untrack(inner)
    finally:
        layer._tracker.lock()
    if missing:
        raise ValueError(
            f"The layer {layer.name!r} does not hold {', '.join(missing)} in an attribute, a list, "
            "a tuple or a dictionary, so that it cannot be replaced. Leave it out by `layers`."
        )
    layer._layers[:] = [replacements.get(id(inner), inner) for inner in before]  # weights' order


def _substituted(value: Any, replacements: Mapping[int, keras.layers.Layer]) -> Any:
    """A value with some layers replaced; the same object if it has none of them."""
    if isinstance(value, keras.layers.Layer):
        return replacements.get(id(value), value)
    if isinstance(value, dict):
        new = {key: _substituted(item, replacements) for key, item in value.items()}
        return new if any(new[key] is not item for key, item in value.items()) else value
    if isinstance(value, (list, tuple)):
        items = [_substituted(item, replacements) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        kind: Any = type(getattr(value, "__wrapped__", value))  # TensorFlow wraps a tuple
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    return value


def places_of(layer: keras.layers.Layer) -> dict[tuple[Any, ...], keras.layers.Layer]:
    """The layers that a layer holds, by the attribute, and the places in it, where they are.

    A layer that stands in several places is there as often.
    """
    found: dict[tuple[Any, ...], keras.layers.Layer] = {}

    def visit(value: Any, place: tuple[Any, ...]) -> None:
        if isinstance(value, keras.layers.Layer):
            found[place] = value
        elif isinstance(value, (dict, list, tuple)):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                visit(item, (*place, key))

    for name, value in vars(layer).items():
        if name not in LISTS:
            visit(value, (name,))
    return found


def is_built(model: keras.layers.Layer) -> bool:
    """Whether a model has the weights that it will have.

    Keras may call a model built whose layers are not: `build` of a class that has none of its own
    cannot always call it. A layer without a `build` of its own has nothing to be built.
    """

    def waits(layer: keras.layers.Layer) -> bool:
        return not layer.built and type(layer).build is not keras.layers.Layer.build

    return bool(model.built and (model.weights or not any(map(waits, all_layers(model)))))


def all_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers in it, each once."""
    found: dict[int, keras.layers.Layer] = {}

    def visit(layer: keras.layers.Layer) -> None:
        if id(layer) not in found:
            found[id(layer)] = layer
            for inner in layer._layers:
                visit(inner)

    visit(layer)
    return list(found.values())
