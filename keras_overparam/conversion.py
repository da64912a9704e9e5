"""From a plain model to an overparameterized one and back, without changing what it computes."""

import collections
import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NoReturn, TypeAlias, TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import positive_integer, refusal, regular_expression
from keras_overparam.factorization import chain_sizes, truncation_error
from keras_overparam.layers import (
    FactoredConv1D,
    FactoredConv2D,
    FactoredConv3D,
    FactoredDense,
    FactoredDepthwiseConv2D,
    FactoredEinsumDense,
    FactoredKernel,
    FactoredMultiHeadAttention,
)
from keras_overparam.layers.holding import all_layers, replace_held
from keras_overparam.typing import Array, Config, Shape, Tensor, Width

Layer: TypeAlias = keras.layers.Layer
Choice: TypeAlias = type[Layer] | str | Callable[[Layer], bool]
Pair: TypeAlias = tuple[Layer, Layer]  # a layer, and its copy or conversion
# A model keeps its class. A layer alone changes it, which types could say only if Keras had any.
Model = TypeVar("Model", bound=Layer)

FACTORED = {
    layer.stock: layer
    for layer in (
        FactoredConv1D,
        FactoredConv2D,
        FactoredConv3D,
        FactoredDense,
        FactoredDepthwiseConv2D,
        FactoredEinsumDense,
    )
}
TRUNCATED_ABOVE = 1e-6  # relative error of a kernel that a width does not let through
CANCELLING_ABOVE = 1e3  # product of the factors' norms over the norm of the product


def overparameterize(
    model: Model,
    depth: int = 2,
    width: Width = None,
    layers: Choice | Sequence[Choice] | None = None,
    factorization: Literal["balanced", "identity"] = "balanced",
    report: Callable[[str], object] | None = None,
) -> Model:
    """A new model that computes the same, with factored kernels in the chosen layers.

    Trained kernels are split into balanced factors, so that gradient descent on the new model
    starts where the end-to-end update rule holds. Names, weights, shared and frozen layers are
    kept; the given model is not touched. The new model is not compiled.

    Functional and sequential models are rebuilt layer by layer, models within models too. A
    subclassed model or layer is rebuilt from its configuration, and the layers that it holds in its
    attributes are replaced.

    Args:
        model: a built `keras.Model` or layer.
        depth: number of factors, N ≥ 1, of each chosen layer.
        width: sizes between the factors: None for as wide as no kernel needs more, an integer, or
            one integer for each hidden layer. Kernels of higher rank are truncated, with a warning.
        layers: which layers: None for all `Dense`, `EinsumDense`, `Conv1D`, `Conv2D`, `Conv3D`,
            `DepthwiseConv2D` and `MultiHeadAttention`; a class of layers; a regular expression that
            is looked for in the layer's name; a function from a layer to a boolean; or a list of
            such, any of which may choose. Only layers of these classes (not of classes derived from
            them) are chosen.
        factorization: "balanced" or "identity", see `FactoredLinear`.
        report: a function that takes a text, such as `print`: it is given a table of the layers and
            the largest difference of the outputs for random inputs.

    Returns:
        A new, built model of the same kind.

    Raises:
        ValueError: for arguments out of range, or if the model is not built, or no layer is
            chosen, or a layer cannot be rebuilt or factored; the message names it.

    Example:

    >>> import keras, numpy as np
    >>> from keras_overparam import collapse, overparameterize
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> deep = overparameterize(model, depth=3)
    >>> [tuple(factor.shape) for factor in deep.get_layer("head").factors]
    [(8, 4), (4, 4), (4, 4)]
    >>> x = np.ones((2, 8), "float32")
    >>> (
    ...     np.allclose(model(x), deep(x), atol=1e-5),
    ...     np.allclose(model(x), collapse(deep)(x), atol=1e-5),
    ... )
    (True, True)

    Reference:
        Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
        Overparameterization", ICML 2018, Sections 3 and 8.
    """
    positive_integer("depth", depth)
    if not (isinstance(factorization, str) and factorization in ("balanced", "identity")):
        raise ValueError(
            '`factorization` must be "balanced" or "identity", which keep the function. '
            f"Received: factorization={factorization!r}"
        )
    by_user = _chooser(layers)
    own = {"depth": depth, "width": width, "factorization": factorization}

    def chosen(layer: Layer) -> bool:
        if type(layer) is keras.layers.MultiHeadAttention:  # as a whole, or what is within it
            return by_user(layer) or all(map(chosen, _projections(layer)))
        return type(layer) in FACTORED and by_user(layer)

    copier = _Copier(chosen, lambda layer: _factored(layer, own))
    new = _convert(model, copier, report)
    if not copier.replaced:
        classes = sorted({type(layer).__name__ for layer in all_layers(model)})
        raise ValueError(
            f"No layer of the model {model.name!r} was chosen to be factored. It has layers of the "
            f"classes {', '.join(classes)}."
        )
    return new


def collapse(model: Model, report: Callable[[str], object] | None = None) -> Model:
    """A new model with stock Keras layers in place of factored ones, which computes the same.

    Products are multiplied in float64. The new model has as many parameters as before it was
    overparameterized, and can be saved, loaded where this package is not installed, exported and
    quantized as any Keras model. A model without factored layers is copied.

    Where the factors' norms multiply to much more than the norm of the product, their rounding is
    magnified by as much, and a warning names the layer.

    Args:
        model: a built `keras.Model` or layer. It is not touched.
        report: a function that takes a text, such as `print`: it is given a table of the layers and
            the largest difference of the outputs for random inputs.

    Returns:
        A new, built model of the same kind. It is not compiled.

    Raises:
        ValueError: if the model is not built or a layer cannot be rebuilt; the message names it.

    Example:

    >>> import keras
    >>> from keras_overparam import FactoredDense, collapse
    >>> model = keras.Sequential([keras.Input((8,)), FactoredDense(4, depth=3)])
    >>> model.count_params(), collapse(model).count_params()
    (68, 36)
    """

    def chosen(layer: Layer) -> bool:
        return isinstance(layer, (FactoredKernel, FactoredMultiHeadAttention))

    return _convert(model, _Copier(chosen, _collapsed), report)


def _chooser(layers: Choice | Sequence[Choice] | None) -> Callable[[Layer], bool]:
    """A function from a layer to whether it is chosen."""
    if layers is None:
        return lambda _: True
    if isinstance(layers, (list, tuple)):
        choosers = [_chooser(item) for item in layers]
        return lambda layer: any(chosen(layer) for chosen in choosers)
    if isinstance(layers, str):
        pattern = re.compile(regular_expression("layers", layers))
        return lambda layer: pattern.search(layer.name) is not None
    if isinstance(layers, type):
        return lambda layer: isinstance(layer, layers)
    if callable(layers):
        return layers
    raise ValueError(
        "`layers` must be None, a class of layers, a regular expression, a function from a layer "
        f"to a boolean, or a list of those. Received: layers={layers!r}"
    )


def _factored(layer: Layer, own: Config) -> Layer:
    """The factored layer that computes what a stock layer does; `own` are its other arguments."""
    kernels = _projections(layer) or [layer]
    if any(
        getattr(k, "lora_enabled", False) or getattr(k, "quantization_mode", 0) for k in kernels
    ):
        raise ValueError(
            f"The layer {layer.name!r} has LoRA weights or is quantized, which its factors could "
            "not keep. Merge or undo that first, or leave the layer out by `layers`."
        )
    kind = FACTORED.get(type(layer), FactoredMultiHeadAttention)
    config = {k: v for k, v in layer.get_config().items() if k != "quantization_config"}
    try:
        factored = kind.from_config(config | own)
    except (TypeError, ValueError) as error:  # Keras wraps what a constructor raises
        reason = error.__context__ or error
        raise ValueError(f"The layer {layer.name!r} cannot be factored: {reason}") from error
    with _name_scopes(layer):
        factored.build_from_config(layer.get_build_config())
    for old, new in _with_kernels(layer, factored):
        _take_kernel(new, old)
    return factored


def _projections(layer: Layer) -> list[keras.layers.EinsumDense]:
    """The layers of an attention layer, stock or factored, that have kernels; else none."""
    if not isinstance(layer, keras.layers.MultiHeadAttention):
        return []
    return [inner for inner in layer._layers if isinstance(inner, keras.layers.EinsumDense)]


def _with_kernels(old: Layer, new: Layer) -> Iterator[Pair]:
    """The pairs of layers with kernels in a layer and its conversion: themselves, if not within."""
    return zip(_projections(old) or [old], _projections(new) or [new], strict=True)


def _take_kernel(factored: FactoredKernel, layer: Layer) -> None:
    """Give a factored layer the kernel and the bias of a stock one."""
    kernel = _values(layer.kernel).astype("float64")
    factored.set_kernel(kernel)
    if layer.bias is not None:
        factored.bias.assign(_values(layer.bias))
    if factored.width is not None and factored.depth > 1:
        narrowest = min(factor.shape[-1] for factor in factored.factors[:-1])
        matrix = factored.as_matrix(kernel, np)
        error = float(truncation_error(matrix, narrowest, relative=True))
        if error > TRUNCATED_ABOVE:
            warnings.warn(
                f"The layer {layer.name!r} does not compute the same: its kernel loses {error:.1e} "
                f"of its norm at width {narrowest}. Use width=None to keep it.",
                stacklevel=2,
            )


def _values(variable: Tensor) -> Array:
    """A copy: on JAX a variable given to another would share its buffer, which training frees."""
    return np.array(ops.convert_to_numpy(variable))


def _collapsed(layer: FactoredKernel | FactoredMultiHeadAttention) -> Layer:
    """The stock layer that computes what a factored layer does."""
    with _name_scopes(layer):
        plain = layer.collapse()
    for factored, stock in _with_kernels(layer, plain):
        product = np.linalg.norm(_values(stock.kernel))
        norms = np.prod([np.linalg.norm(_values(factor)) for factor in factored.factors])
        if norms > CANCELLING_ABOVE * product > 0:
            warnings.warn(
                f"The norms of the factors of {factored.name!r} multiply to {norms / product:.1e} "
                "times the norm of their product, which magnifies the rounding of its outputs by "
                "as much. The collapsed layer, multiplied in float64, may differ by that.",
                stacklevel=2,
            )
    return plain


def _convert(model: Layer, copier: "_Copier", report: Callable[[str], object] | None) -> Layer:
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: {type(model)}")
    if report is not None and not callable(report):
        raise refusal("report", "None or a function that takes a text", report)
    if not model.built:
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Call it on data, or build it, first."
        )
    new = copier.copy_all(model)
    if report is not None:
        report(_table(copier.replaced, _largest_difference(model, new)))
    return new


class _Copier:
    """Copies a layer and all that it contains, and converts the chosen layers on the way.

    Args:
        chosen: function from a layer to a boolean.
        converted: function from a chosen layer to the one that takes its place.

    Attributes:
        replaced: list of pairs (original, converted).
    """

    def __init__(
        self, chosen: Callable[[Layer], bool], converted: Callable[[Layer], Layer]
    ) -> None:
        self.chosen = chosen
        self.converted = converted
        self.copies: dict[int, Layer] = {}  # by identity: what is shared stays shared
        self.shared: set[int] = set()  # identities of the layers that several layers hold
        self.pairs: list[Pair] = []  # outer layers before inner ones
        self.replaced: list[Pair] = []

    def copy_all(self, model: Layer) -> Layer:
        """Copy of a model, trainable where the model is."""
        held = [inner for holder in all_layers(model) for inner in map(id, holder._layers)]
        self.shared = {inner for inner, count in collections.Counter(held).items() if count > 1}
        copy = self.copy(model)
        for original, copied in self.pairs:  # from the outside in: the setting reaches the inside
            copied.trainable = original.trainable
        return copy

    def copy(self, layer: Layer) -> Layer:
        """Copy of one layer, the same one for the same layer."""
        if not isinstance(layer, keras.layers.Layer):  # an operation of a functional model
            return type(layer).from_config(layer.get_config())
        if id(layer) not in self.copies:
            place = len(self.pairs)
            if layer.built and self.chosen(layer):
                copy = self.converted(layer)
                self.replaced.append((layer, copy))
                self.pairs += zip(_projections(layer), _projections(copy), strict=True)
            elif _is_graph(layer):
                with _uncompiled(layer):
                    copy = self._graph(layer)
            else:
                copy = self._composite(layer)
            self.copies[id(layer)] = copy
            self.pairs.insert(place, (layer, copy))
        return self.copies[id(layer)]

    def _graph(self, model: keras.Model) -> keras.Model:
        """Copy of a sequential or functional model, made by calling copies of its layers."""
        if isinstance(model, keras.Sequential):
            return keras.models.clone_model(model, clone_function=self.copy)
        names = {
            id(layer.output): layer.name
            for layer in model.layers
            if isinstance(layer, keras.layers.InputLayer)
        }
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=names.get(id(x))),
            model.input,
        )
        copy = keras.models.clone_model(model, inputs, clone_function=self.copy)
        if type(copy) is not type(model):
            warnings.warn(
                f"The copy of {model.name!r} is a plain functional model: what the class "
                f"{type(model).__name__} adds to it is not kept.",
                stacklevel=2,
            )
        return copy

    def _composite(self, layer: Layer) -> Layer:
        """Copy of a layer from its configuration, in which the layers that it holds are replaced.

        A layer that changes nowhere is taken as it is rebuilt.
        """
        copy = _rebuilt(layer)
        counterparts = list(zip(layer._layers, copy._layers, strict=True))
        changing = [pair for pair in counterparts if self._changes(pair[0])]
        for inner, rebuilt in counterparts:
            if (inner, rebuilt) not in changing:
                rebuilt.set_weights(inner.get_weights())
                self.pairs += zip(all_layers(inner), all_layers(rebuilt), strict=True)
        for own in ("_trainable_variables", "_non_trainable_variables"):
            for variable, value in zip(getattr(copy, own), getattr(layer, own), strict=True):
                variable.assign(_values(value))
        if changing:
            replace_held(copy, {id(rebuilt): self.copy(inner) for inner, rebuilt in changing})
            if not _is_told_by_its_configuration(copy):
                copy.get_config = _Untold(copy.name, [inner.name for inner, _ in changing])
        return copy

    def _changes(self, layer: Layer) -> bool:
        """Whether a layer contains something that is converted, or that others hold too."""
        return any(
            id(inner) in self.shared or (inner.built and self.chosen(inner))
            for inner in all_layers(layer)
        )


class _Untold:
    """In place of a `get_config` that would describe another layer, and saving lose the factors."""

    def __init__(self, name: str, factored: list[str]) -> None:
        self.name = name
        self.factored = factored

    def __call__(self) -> NoReturn:
        raise ValueError(
            f"The layer {self.name!r} makes {', '.join(map(repr, self.factored))} itself, so its "
            "configuration cannot say that they are factored. Save the model's weights "
            "(save_weights) and overparameterize again before loading them, or collapse() the "
            "model and save that."
        )


@contextlib.contextmanager
def _uncompiled(model: keras.Model) -> Iterator[None]:
    """Keeps Keras from compiling a clone: from a configuration, which a lambda does not have."""
    compiled, model.compiled = model.compiled, False
    try:
        yield
    finally:
        model.compiled = compiled


def _is_graph(layer: Layer) -> bool:
    """Whether a model is sequential or functional: made of calls of layers that can be redone."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations")
    )


def _rebuilt(layer: Layer) -> Layer:
    """A layer from the configuration of another, with weights of its own."""
    try:
        copy = type(layer).from_config(type(layer).get_config(layer))
    except Exception as error:  # whatever a user's class raises
        raise ValueError(
            f"The layer {layer.name!r} of the class {type(layer).__name__} cannot be made from its "
            f"configuration: {error} Give the class a get_config that holds its arguments."
        ) from error
    _rename(layer, copy)
    build_config = layer.get_build_config()
    if layer.built and build_config:
        with _name_scopes(layer), warnings.catch_warnings():  # of a failure, which is found below
            warnings.simplefilter("ignore")
            copy.build_from_config(build_config)
    alike = len(layer._layers) == len(copy._layers) and all(
        [variable.shape for variable in getattr(layer, own)]
        == [variable.shape for variable in getattr(copy, own)]
        for own in ("_trainable_variables", "_non_trainable_variables")
    )
    if not alike:
        raise ValueError(
            f"The layer {layer.name!r} of the class {type(layer).__name__}, made anew from its "
            "configuration, has other weights or layers than the given one. Let its get_config and "
            "build make all of them."
        )
    copy.built = layer.built  # Keras builds what a subclassed model holds, not the model
    return copy


@contextlib.contextmanager
def _name_scopes(layer: Layer) -> Iterator[None]:
    """Scopes in which a layer of the same name gives its variables the paths of this one's."""
    names = (layer.path or layer.name).split("/")
    opens_its_own = not getattr(layer.build, "_is_default", False)
    with contextlib.ExitStack() as scopes:
        for name in names[:-1] if opens_its_own else names:
            scopes.enter_context(keras.name_scope(name))
        yield


def _rename(layer: Layer, copy: Layer) -> None:
    """Give the layers that a layer's constructor makes the names of those it made before."""
    copy.name = layer.name
    for inner, rebuilt in zip(layer._layers, copy._layers, strict=False):
        _rename(inner, rebuilt)


def _is_told_by_its_configuration(layer: Layer) -> bool:
    """Whether a layer made from its configuration has the weights of this one."""
    try:
        again = type(layer).from_config(layer.get_config())
        build_config = layer.get_build_config()
        if build_config:
            again.build_from_config(build_config)
    except Exception:  # whatever a user's class raises
        return False
    return [w.shape for w in again.weights] == [w.shape for w in layer.weights]


def _table(replaced: list[Pair], difference: float | None) -> str:
    """The converted layers as a text."""
    lines = [("layer", "from", "to", "kernel", "factors", "parameters")]
    for old, new in (pair for layers in replaced for pair in _with_kernels(*layers)):
        factored = new if isinstance(new, FactoredKernel) else old
        inputs, *hidden, outputs = chain_sizes(factored.factors)
        lines.append(
            (
                old.name,
                type(old).__name__,
                type(new).__name__,
                f"{inputs}×{outputs}",
                "·".join(map(str, (inputs, *hidden, outputs))),
                f"{old.count_params():,} → {new.count_params():,}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    if difference is None:
        last = "Outputs were not compared: the model could not be called on random inputs."
    else:
        last = (
            f"Largest difference of the outputs for random inputs: {difference:.1e} of the largest."
        )
    return "\n".join([*rows, last])


def _largest_difference(model: Layer, new: Layer) -> float | None:
    """Largest difference of the outputs for random inputs, over the largest output; or `None`."""
    try:
        inputs = _random_inputs(model)
        expected, found = (
            [ops.convert_to_numpy(y) for y in keras.tree.flatten(each(inputs, training=False))]
            for each in (model, new)
        )
    except Exception:  # a user's call may want anything
        return None
    largest = max(np.abs(y).max() for y in expected)
    difference = max(np.abs(a - b).max() for a, b in zip(expected, found, strict=True))
    return float(difference / largest) if largest else float(difference)


def _random_inputs(model: Layer) -> Tensor:
    rng = np.random.default_rng(0)

    def sample(shape: Shape, dtype: str = "float32") -> Array:
        sizes = [2 if index == 0 else size or 32 for index, size in enumerate(shape)]
        if "int" in dtype:
            return rng.integers(0, 2, sizes).astype(dtype)
        return rng.standard_normal(sizes).astype(dtype)

    if _is_graph(model):
        return keras.tree.map_structure(lambda x: sample(x.shape, x.dtype), model.input)
    return sample(model.get_build_config()["input_shape"])
