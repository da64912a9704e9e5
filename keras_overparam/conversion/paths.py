"""Names and paths, which a copy has from the layer that it is a copy of."""

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def name_scopes(layer: keras.layers.Layer) -> Iterator[None]:
    """Scopes in which a layer of the same name gives its variables the paths of this one's."""
    names = (layer.path or layer.name).split("/")
    opens_its_own = not getattr(layer.build, "_is_default", False)
    with contextlib.ExitStack() as scopes:
        for name in names[:-1] if opens_its_own else names:
            scopes.enter_context(keras.name_scope(name))
        yield


def rename(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Give the layers that a layer's constructor makes the names of those it made before."""
    copy.name = layer.name
    for inner, rebuilt in zip(layer._layers, copy._layers, strict=False):
        rename(inner, rebuilt)
