"""Copies of models, with some of their layers converted on the way."""

import contextlib
import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import keras

from keras_overparam.configuration import configuration
from keras_overparam.conversion.kernels import projections
from keras_overparam.conversion.paths import counterparts, name_scopes, rename
from keras_overparam.conversion.refusals import LayerRefusal, in_short, naming, refusal_of
from keras_overparam.conversion.state import carry_seeds, carry_state, own_variables
from keras_overparam.holding import all_layers, places_of, replace_held
from keras_overparam.typing import Layer, Pair, Tensor


class Copier:
    """Copies a layer and all that it contains, and converts the chosen layers on the way.

    Args:
        chosen: function from a built layer to a boolean.
        converted: function from a chosen layer to the one that takes its place.
        what_else: what to do with a copy that cannot be saved, as the end of a sentence.

    Attributes:
        pairs: list of pairs (original, copy or conversion), outer layers before inner ones.
        replaced: those of them that were converted.
    """

    def __init__(
        self,
        chosen: Callable[[Layer], bool],
        converted: Callable[[Layer], Layer],
        what_else: str,
    ) -> None:
        self._chosen = chosen
        self._choices: dict[int, bool] = {}
        self.converted = converted
        self.what_else = what_else
        self.copies: dict[int, Layer] = {}  # by identity: what is shared stays shared
        self.pairs: list[Pair] = []
        self.replaced: list[Pair] = []

    def chosen(self, layer: Layer) -> bool:
        """Whether a layer is to be converted. What is not built has no kernel yet."""
        if id(layer) not in self._choices:
            self._choices[id(layer)] = bool(layer.built) and bool(self._chosen(layer))
        return self._choices[id(layer)]

    def copy_all(self, model: Layer) -> Layer:
        """Copy of a model, trainable where the model is.

        Raises:
            ValueError: if a layer cannot be copied or converted; it names the innermost such.
        """
        for layer in all_layers(model):
            self.chosen(layer)  # a user's function, which fails as itself
        with _telling(model):
            copy = self.copy(model)
        self._refuse_what_is_untied()
        for original, copied in self.pairs:  # from the outside in: the setting reaches the inside
            copied.trainable = original.trainable
            carry_seeds(original, copied)
        for original, copied in self._alike():
            for variable, counterpart in _variables(original, copied):
                counterpart.trainable = variable.trainable
        return copy

    def copy(self, layer: Layer) -> Layer:
        """Copy of one layer, the same one for the same layer."""
        if id(layer) not in self.copies:
            place = len(self.pairs)
            with naming(layer):
                copy = self._copied(layer)
            self.copies[id(layer)] = copy
            if isinstance(layer, keras.layers.Layer):
                self.pairs.insert(place, (layer, copy))
        return self.copies[id(layer)]

    def _copied(self, layer: Layer) -> Layer:
        if not isinstance(layer, keras.layers.Layer):  # an operation of a functional model
            return type(layer).from_config(layer.get_config())
        if self.chosen(layer):
            copy = self.converted(layer)
            self.replaced.append((layer, copy))
            self._fill_conversion(layer, copy)
            return copy
        copy = _made_again_if_it_can(layer) if is_graph(layer) else made_again(layer)
        if copy is None or (is_graph(layer) and not self._can_be_filled(layer, copy, {})):
            with _uncompiled(layer):
                return self._graph(layer)
        rename(layer, copy)
        self._fill(layer, copy)
        return copy

    def _can_be_filled(self, layer: Layer, copy: Layer, found: dict[int, Layer]) -> bool:
        """Whether a copy that was made again can be given all that belongs into it.

        What a layer holds can be replaced, but not the layers that a graph calls: these must be the
        copies themselves, wherever they stand.
        """
        for inner, counterpart in counterparts(layer, copy):
            known = self.copies.get(id(inner), found.setdefault(id(inner), counterpart))
            chosen = self.chosen(inner)
            if is_graph(layer) and (chosen or known is not counterpart):
                return False
            if not chosen and not self._can_be_filled(inner, counterpart, found):
                return False
        return True

    def _graph(self, model: keras.Model) -> keras.Model:
        """Copy of a sequential or functional model, made by calling copies of its layers."""
        if isinstance(model, keras.Sequential):
            copy = keras.models.clone_model(model, clone_function=self.copy)
        else:
            inputs = keras.tree.map_structure(_InputsOf(model), model.input)
            copy = keras.models.clone_model(model, inputs, clone_function=self.copy)
        if type(copy) is not type(model):
            _check_plain_copy(model, copy)
        copy.dtype_policy = model.dtype_policy  # by which it is compiled
        return copy

    def _fill(self, layer: Layer, copy: Layer) -> None:
        """Give a layer that was made again the weights, layers and state of the original."""
        _build_alike(layer, copy)
        pairs = counterparts(layer, copy)
        copy._layers[:] = [counterpart for _, counterpart in pairs]  # weights in the same order
        copies = {id(counterpart): self._held(inner, counterpart) for inner, counterpart in pairs}
        replacements = {old: new for old, new in copies.items() if id(new) != old}
        carry_state(layer, copy)
        if replacements:
            replace_held(copy, replacements)
        changed = [inner.name for inner in layer._layers if self._converts(inner)]
        if changed and not _is_told_by_its_configuration(copy, [new for _, new in self.replaced]):
            copy.get_config = _Untold(copy.name, changed, self.what_else)

    def _fill_conversion(self, layer: Layer, copy: Layer) -> None:
        """Give a converted layer what else it holds, as an activation with weights."""
        for inner, counterpart in zip(layer._layers, copy._layers, strict=True):
            if type(inner) is not type(counterpart):  # kernels of attention, which are converted
                self.pairs.append((inner, counterpart))
            elif id(inner) in self.copies:
                replace_held(copy, {id(counterpart): self.copies[id(inner)]})
            else:
                self.copies[id(inner)] = counterpart
                self.pairs.append((inner, counterpart))
                self._fill(inner, counterpart)

    def _held(self, layer: Layer, counterpart: Layer) -> Layer:
        """The copy of a layer within another, whose copy made a counterpart of it already.

        The counterpart serves, unless the layer is converted, or has a copy elsewhere.
        """
        serves = not self.chosen(layer)
        if is_graph(layer):
            serves = serves and self._can_be_filled(layer, counterpart, {})
        if id(layer) in self.copies or not serves:
            return self.copy(layer)
        with naming(layer):
            self.copies[id(layer)] = counterpart
            self.pairs.append((layer, counterpart))
            self._fill(layer, counterpart)
        return counterpart

    def _converts(self, layer: Layer) -> bool:
        """Whether a layer is converted, or contains one that is."""
        return any(map(self.chosen, all_layers(layer)))

    def _alike(self) -> list[Pair]:
        """The pairs of layers of the same class, which have the same variables."""
        return [(layer, copy) for layer, copy in self.pairs if type(layer) is type(copy)]

    def _refuse_what_is_untied(self) -> None:
        """A variable of two layers must not become two, nor one of a layer that is converted."""
        copies: dict[int, tuple[Layer, Tensor | None]] = {
            id(variable): (layer, None)
            for layer, _ in self.replaced
            for each in (layer, *projections(layer))
            for variable in own_variables(each)
        }
        for layer, copy in self._alike():
            for variable, counterpart in _variables(layer, copy):
                other, earlier = copies.setdefault(id(variable), (layer, counterpart))
                if earlier is not counterpart:
                    raise refusal_of(
                        layer,
                        f"it uses a variable of the layer {other.name!r}, {variable.path!r}, and "
                        "its copy would have one of its own",
                        f"Leave {other.name!r} out by `layers`, or share a layer instead.",
                    )


def made_again(layer: Layer) -> Layer:
    """A layer from the configuration of another, neither built nor filled yet."""
    if type(layer) is keras.layers.Lambda:  # its function need not go through text
        parts = layer.function, layer._output_shape, layer.mask, layer.arguments
        return keras.layers.Lambda(*parts, **keras.layers.Layer.get_config(layer))
    try:
        return type(layer).from_config(configuration(layer))
    except Exception as error:  # whatever a user's class raises
        if len(inspect.signature(type(layer).__init__).parameters) == 1:
            return _made_by_its_class(layer)
        raise refusal_of(
            layer,
            f"it cannot be made from its configuration, as for loading: {in_short(error)}",
            "Give the class a get_config that holds its arguments, and a constructor that passes "
            "`**kwargs` on.",
        ) from error


def _made_by_its_class(layer: Layer) -> Layer:
    """A layer whose constructor takes nothing, not even a name, made again under its policy."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(layer.dtype_policy)
    try:
        return type(layer)()
    finally:
        keras.config.set_dtype_policy(policy)


def _made_again_if_it_can(model: keras.Model) -> keras.Model | None:
    """The same for a graph, if a class of its own makes it: others are made by their calls."""
    if not _is_of_its_own_class(model):
        return None
    try:
        return made_again(model)
    except LayerRefusal:
        return None


def _build_from_configuration(layer: Layer, copy: Layer) -> None:
    build_config = layer.get_build_config()
    if layer.built and not copy.built and build_config:
        with name_scopes(layer), warnings.catch_warnings():  # of a failure, which is found later
            warnings.simplefilter("ignore")
            copy.build_from_config(build_config)


def _build_alike(layer: Layer, copy: Layer) -> None:
    """Build a copy as its original was, unless making it did that already."""
    _build_from_configuration(layer, copy)
    shapes, found = ([variable.shape for variable in own_variables(each)] for each in (layer, copy))
    paired = [id(inner) for pair in counterparts(layer, copy) for inner in pair]
    missing = set(map(id, (*places_of(layer).values(), *copy._layers))).difference(paired)
    if shapes != found or missing:
        raise refusal_of(
            layer,
            "made anew from its configuration, it has other weights or layers than the given one",
            "Let its get_config and build make all of them.",
        )
    copy.built = layer.built  # Keras builds what a subclassed model holds, not the model
    rename(layer, copy)  # layers that were made by building, too


def _variables(layer: Layer, copy: Layer) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(own_variables(layer), own_variables(copy), strict=True)


class _InputsOf:
    """Makes an input of a functional model anew: a function of its tensors."""

    def __init__(self, model: keras.Model) -> None:
        inputs = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
        self.layers = {id(layer.output): layer for layer in inputs}

    def __call__(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self.layers:
            return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse)
        layer = self.layers[id(tensor)]
        return type(layer).from_config(layer.get_config()).output


class _Untold:
    """In place of a `get_config` that would describe another layer, and saving lose the factors."""

    def __init__(self, name: str, changed: list[str], what_else: str) -> None:
        self.name = name
        self.changed = changed
        self.what_else = what_else

    def __call__(self) -> NoReturn:
        raise ValueError(
            f"The layer {self.name!r} makes {', '.join(map(repr, self.changed))} itself, so its "
            "configuration cannot say that they are converted. Save the model's weights "
            f"(save_weights) and convert it again before loading them, or {self.what_else}."
        )


@contextlib.contextmanager
def _telling(model: Layer) -> Iterator[None]:
    """Has layers whose factors their configurations cannot tell of describe themselves without."""
    untold = [layer for layer in all_layers(model) if isinstance(layer.get_config, _Untold)]
    kept = [layer.__dict__.pop("get_config") for layer in untold]
    try:
        yield
    finally:
        for layer, get_config in zip(untold, kept, strict=True):
            layer.__dict__["get_config"] = get_config


@contextlib.contextmanager
def _uncompiled(model: keras.Model) -> Iterator[None]:
    """Keeps Keras from compiling a clone: from a configuration, which a lambda does not have."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def is_graph(layer: Layer) -> bool:
    """Whether a model is sequential or functional: made of calls of layers that can be redone."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations")
    )


def _is_of_its_own_class(model: keras.Model) -> bool:
    """Whether a class that is derived from Keras's graphs has a constructor of its own."""
    kinds = type(model).__mro__
    derived = kinds[: [kind.__module__.startswith("keras.") for kind in kinds].index(True)]
    return any("__init__" in vars(kind) for kind in derived)


def _check_plain_copy(model: keras.Model, copy: keras.Model) -> None:
    """Say what a copy lacks that is of a class of Keras's; refuse it if that is how it computes."""
    kind, plain = type(model).__name__, type(copy).__name__
    if type(model).call is not type(copy).call:
        raise refusal_of(
            model,
            f"it is a {plain} model whose class has a `call` of its own, which a copy would lose",
            "Let the class hold the model in an attribute, and call it.",
        )
    warnings.warn(
        f"The copy of {model.name!r} is a plain {plain} model: what the class {kind} adds to it is "
        "not kept.",
        stacklevel=2,
    )


def _is_told_by_its_configuration(layer: Layer, converted: Sequence[Layer]) -> bool:
    """Whether saving and loading a layer gives the converted layers that are within it."""
    return _is_described(layer, converted) or _is_made_so(layer)


def _is_described(layer: Layer, converted: Sequence[Layer]) -> bool:
    """Whether the configurations of the converted layers are in that of the layer."""
    within = set(map(id, all_layers(layer)))
    try:
        told = Counter(_described(keras.saving.serialize_keras_object(layer)))
    except Exception:  # whatever a user's class raises
        return False
    return Counter((type(x).__name__, x.name) for x in converted if id(x) in within) <= told


def _is_made_so(layer: Layer) -> bool:
    """Whether the layer's class makes layers that have the weights of the converted ones."""
    try:
        again = made_again(layer)
        _build_from_configuration(layer, again)
    except Exception:
        return False
    return len(again.weights) == len(layer.weights) and _is_like(again, layer)


def _is_like(layer: Layer, other: Layer) -> bool:
    """Whether two layers hold the same classes in the same places, with weights of the same shapes.

    Names do not matter: Keras numbers those that it makes, and saves by places.
    """
    found, own = ([tuple(w.shape) for w in own_variables(each)] for each in (layer, other))
    return (
        type(layer) is type(other)
        and found == own
        and all(_is_like(*pair) for pair in counterparts(layer, other))
    )


def _described(config: object) -> Iterator[tuple[str, str]]:
    """The class and the name of each layer that a serialized object holds."""
    if isinstance(config, dict):
        own = config.get("config")
        if isinstance(own, dict) and {"class_name", "name"} <= config.keys() | own.keys():
            yield str(config.get("class_name")), str(own.get("name"))
        for each in config.values():
            yield from _described(each)
    elif isinstance(config, (list, tuple)):
        for each in config:
            yield from _described(each)
