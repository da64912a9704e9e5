"""Names and paths, which a copy has from the layer that it is a copy of."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_overparam.holding import places_of
from keras_overparam.typing import Layer, Pair


@contextlib.contextmanager
def name_scopes(layer: Layer) -> Iterator[None]:
    """Scopes in which a layer of the same name gives its variables the paths of this one's."""
    names = (layer.path or layer.name).split("/")
    opens_its_own = not getattr(layer.build, "_is_default", False)
    with contextlib.ExitStack() as scopes:
        for name in names[:-1] if opens_its_own else names:
            scopes.enter_context(keras.name_scope(name))
        yield


def counterparts(layer: Layer, copy: Layer) -> list[Pair]:
    """The layers that a layer holds, each with the one that its copy holds in the same place.

    Places are attributes, as for saving, and not the order in which layers came: a layer that was
    given another one later holds the same in another order. What stands in no attribute goes by
    order, if the copy has such too. (Keras still lists a layer whose attribute was given another
    one. Like saving, this passes it over.)
    """
    in_copy, places = places_of(copy), _first_places(layer)
    elsewhere = iter(_without_a_place(copy))
    pairs = []
    for inner in layer._layers:
        if id(inner) not in places:
            counterpart = next(elsewhere, None)
        else:
            counterpart = in_copy.get(places[id(inner)])
        if counterpart is not None:
            pairs.append((inner, counterpart))
    return pairs


def _first_places(layer: Layer) -> dict[int, tuple[Any, ...]]:
    return {id(inner): place for place, inner in reversed(places_of(layer).items())}


def _without_a_place(layer: Layer) -> list[Layer]:
    places = _first_places(layer)
    return [inner for inner in layer._layers if id(inner) not in places]


def rename(layer: Layer, copy: Layer) -> None:
    """Give the layers that a layer's constructor makes the names of those it made before."""
    copy.name = layer.name
    for inner, counterpart in counterparts(layer, copy):
        rename(inner, counterpart)
