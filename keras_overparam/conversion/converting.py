"""`overparameterize` and `collapse`: which layers are converted, and what of it is checked."""

import re
import warnings
from collections.abc import Callable, Sequence
from inspect import isfunction
from typing import Literal, TypeAlias, TypeVar

import keras

from keras_overparam.checks import boolean, refusal, regular_expression
from keras_overparam.conversion.comparing import Comparison, compare, different_layers
from keras_overparam.conversion.copying import Copier
from keras_overparam.conversion.kernels import (
    CANCELLING_ABOVE,
    FACTORED,
    cancellation,
    collapsed_layer,
    factored_layer,
    projections,
    with_kernels,
)
from keras_overparam.conversion.state import left_behind, values_of
from keras_overparam.factorization import chain_sizes
from keras_overparam.holding import all_layers, is_built
from keras_overparam.layers import FactoredKernel, FactoredMultiHeadAttention
from keras_overparam.layers.factored_kernel import carry_trainable, checked_factoring
from keras_overparam.typing import Layer, Pair, Tensor, Width

Choice: TypeAlias = type[Layer] | Layer | str | Callable[[Layer], bool]
Report: TypeAlias = Callable[[str], object]
# A model keeps its class. A layer alone changes it, which types could say only if Keras had any.
Model = TypeVar("Model", bound=Layer)


def overparameterize(
    model: Model,
    depth: int = 2,
    width: Width = None,
    layers: Choice | Sequence[Choice] | None = None,
    factorization: Literal["balanced", "identity"] = "balanced",
    report: Report | None = None,
    inputs: Tensor = None,
    compile: bool = False,
) -> Model:
    """A new model that computes the same, with factored kernels in the chosen layers.

    Trained kernels are split into balanced factors, so that gradient descent on the new model
    starts where the end-to-end update rule holds. Names, weights, shared and frozen layers are
    kept; the given model is not touched.

    Functional and sequential models are rebuilt layer by layer, models within models too. A
    subclassed model or layer is rebuilt from its configuration, and the layers that it holds in its
    attributes are replaced. All that layers keep is carried over as saving and loading would do it:
    variables, what is made of them on loading (`Normalization`'s mean), vocabularies and other
    assets, and the states of random generators. LoRA's weights are merged into the kernel. Plain
    values in attributes come from the configuration; a warning names those that differ.

    Both models are then called, and a difference of their outputs beyond rounding is an error.

    Args:
        model: a built `keras.Model` or layer.
        depth: number of factors, N ≥ 1, of each chosen layer.
        width: sizes between the factors: None for as wide as no kernel needs more, an integer, or
            one integer for each hidden layer. Kernels of higher rank are truncated, with a warning.
        layers: which layers: None for all `Dense`, `EinsumDense`, `Conv1D`, `Conv2D`, `Conv3D`,
            `DepthwiseConv2D` and `MultiHeadAttention`; a class of layers; a layer of the model; a
            regular expression that is looked for in the layer's name; a function from a layer to a
            boolean; or a list of such, any of which may choose. Only layers of these classes (not
            of classes derived from them) are chosen.
        factorization: "balanced" or "identity", see `FactoredLinear`. A kernel of zeros trains only
            with "identity", of which a warning speaks.
        report: a function that takes a text, such as `print`: it is given a table of the layers and
            the largest difference of the outputs.
        inputs: what the models are called with to compare them: an array or tensor, or a list or
            dictionary of such. None makes up random inputs of the shapes and types that the model
            was built for; where it cannot be called with those, a warning says so.
        compile: whether to compile the new model as the given one is: the same loss, metrics and
            settings, and an optimizer of the same configuration, which starts anew.

    Returns:
        A new, built model of the same kind.

    Raises:
        ValueError: for arguments out of range, or if the model is not built, no layer is chosen, a
            layer cannot be rebuilt or factored, the outputs differ, or how the given model is
            compiled cannot be told; the message names the layer, its class, the reason and what to
            do.

    Example:

    >>> import keras, numpy as np
    >>> from keras_overparam import collapse, overparameterize
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    >>> deep = overparameterize(model, depth=3)
    >>> [tuple(factor.shape) for factor in deep.get_layer("head").factors]
    [(8, 4), (4, 4), (4, 4)]
    >>> x = np.ones((2, 8), "float32")
    >>> first, *others = (
    ...     keras.ops.convert_to_numpy(each(x)) for each in (model, deep, collapse(deep))
    ... )
    >>> [np.allclose(first, other, atol=1e-5) for other in others]
    [True, True]

    Reference:
        Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
        Overparameterization", ICML 2018, Sections 3 and 8.
    """
    if not (isinstance(factorization, str) and factorization in ("balanced", "identity")):
        raise ValueError(
            '`factorization` must be "balanced" or "identity", which keep the function. '
            f"Received: factorization={factorization!r}"
        )
    depth, width = checked_factoring(depth, width, factorization)
    by_user = _chooser(layers)
    own = {"depth": depth, "width": width, "factorization": factorization}

    def chosen(layer: Layer) -> bool:
        if type(layer) is keras.layers.MultiHeadAttention:  # as a whole, or what is within it
            return by_user(layer) or all(map(chosen, projections(layer)))
        return type(layer) in FACTORED and by_user(layer)

    copier = Copier(
        chosen, lambda layer: factored_layer(layer, own), "collapse() the model and save that"
    )
    new = _copied(model, copier, report)
    if not copier.replaced:
        raise _none_chosen(model, layers)
    _check_each_chooses(layers, model)
    if _warn_of_truncation(copier.replaced):  # what else may differ is seen at full width
        overparameterize(model, depth, None, layers, factorization, inputs=inputs)
        found = compare(model, new, inputs)._replace(same=True)
    else:
        found = compare(model, new, inputs)
        _warn_of_stalled(copier.replaced)
    _finish(model, new, copier, found, report, compile)
    return new


def collapse(
    model: Model,
    report: Report | None = None,
    inputs: Tensor = None,
    compile: bool = False,
) -> Model:
    """A new model with stock Keras layers in place of factored ones, which computes the same.

    Products are multiplied in float64. The new model has as many parameters as before it was
    overparameterized, and can be saved, loaded where this package is not installed, exported and
    quantized as any Keras model. A model without factored layers is copied. A `factor_regularizer`
    has no counterpart and is left out, so that the losses differ by its term.

    Where the factors' norms multiply to much more than the norm of the product, their rounding is
    magnified by as much, and a warning names the layer. Otherwise what `overparameterize` says of
    models, of what is carried over and of comparing the outputs holds here too.

    Args:
        model: a built `keras.Model` or layer. It is not touched.
        report: a function that takes a text, such as `print`: it is given a table of the layers and
            the largest difference of the outputs.
        inputs: what the models are called with to compare them, as in `overparameterize`.
        compile: whether to compile the new model as the given one is, as in `overparameterize`.

    Returns:
        A new, built model of the same kind.

    Raises:
        ValueError: if the model is not built, a layer cannot be rebuilt, the outputs differ, or how
            the given model is compiled cannot be told; the message names the layer, its class, the
            reason and what to do.

    Example:

    >>> import keras
    >>> from keras_overparam import FactoredDense, collapse
    >>> model = keras.Sequential([keras.Input((8,)), FactoredDense(4, depth=3)])
    >>> model.count_params(), collapse(model).count_params()
    (68, 36)
    """

    def chosen(layer: Layer) -> bool:
        return isinstance(layer, (FactoredKernel, FactoredMultiHeadAttention))

    copier = Copier(chosen, collapsed_layer, "have its class make stock layers")
    new = _copied(model, copier, report)
    magnified = _warn_of_cancellation(copier.replaced)
    found = compare(model, new, inputs, magnified)
    _finish(model, new, copier, found, report, compile)
    return new


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
    if isinstance(layers, keras.layers.Layer):
        return lambda layer: layer is layers
    if callable(layers):
        return layers
    raise ValueError(
        "`layers` must be None, a class of layers, a layer of the model, a regular expression, a "
        f"function from a layer to a boolean, or a list of those. Received: layers={layers!r}"
    )


def _none_chosen(model: Layer, layers: Choice | Sequence[Choice] | None) -> ValueError:
    candidates = _candidates(model)
    if candidates:
        return ValueError(
            f"No layer of {model.name!r} is one that `layers` chooses and that can be factored. "
            f"There are {_names(candidates)}. Received: layers={layers!r}"
        )
    found = all_layers(model)
    if any(isinstance(layer, (FactoredKernel, FactoredMultiHeadAttention)) for layer in found):
        what = "To factor anew what is factored already, collapse() it first."
    else:
        names = ", ".join(sorted(kind.__name__ for kind in FACTORED))
        what = f"What can be is {names} and MultiHeadAttention, not classes derived from them."
    classes = ", ".join(sorted({type(layer).__name__ for layer in found}))
    return ValueError(
        f"No layer of {model.name!r}, a {type(model).__name__}, can be factored. {what} Its layers "
        f"are of the classes {classes}."
    )


def _candidates(model: Layer) -> list[Layer]:
    """The layers of a model that can be factored."""
    kinds = (*FACTORED, keras.layers.MultiHeadAttention)
    return [layer for layer in all_layers(model) if type(layer) in kinds]


def _names(layers: Sequence[Layer]) -> str:
    return ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in layers)


def _check_each_chooses(layers: Choice | Sequence[Choice] | None, model: Layer) -> None:
    """Refuse what is in a list of choices, and chooses nothing."""
    candidates = _candidates(model)
    for choice in layers if isinstance(layers, (list, tuple)) else ():
        if not any(map(_chooser(choice), candidates)):
            raise ValueError(
                f"Each of `layers` must choose a layer of {model.name!r} that can be factored: "
                f"{_names(candidates)}. Received: {choice!r} among them"
            )


def _copied(model: Layer, copier: Copier, report: Report | None) -> Layer:
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(f"`model` must be a Keras model or layer. Received: {type(model)}")
    if report is not None and not callable(report):
        raise refusal("report", "None or a function that takes a text", report)
    if not is_built(model):
        raise ValueError(
            f"The model {model.name!r} has no weights yet. Call it on data, or build it, first."
        )
    new = copier.copy_all(model)
    for replaced in copier.replaced:
        for old, converted in with_kernels(*replaced):
            carry_trainable(old, converted)
    return new


def _warn_of_truncation(replaced: Sequence[Pair]) -> bool:
    """Say which layers do not compute the same because of their width; whether there are any."""
    lost = [
        (old.name, new.lost_to_width(values_of(old.kernel).astype("float64")))
        for layers in replaced
        for old, new in with_kernels(*layers)
    ]
    for name, error in lost:
        if error:
            warnings.warn(
                f"The layer {name!r} does not compute the same: its kernel loses {error:.1e} of "
                "its norm at the given width. Use width=None to keep it.",
                stacklevel=3,
            )
    return any(error for _, error in lost)


def _warn_of_stalled(replaced: Sequence[Pair]) -> None:
    """Say which layers do not train because their kernel is zero, and so are their factors."""
    for layers in replaced:
        for old, new in with_kernels(*layers):
            if layers[1].trainable and any(factor.trainable for factor in new.factors):
                new.warn_if_stalled(values_of(old.kernel), stacklevel=3)


def _warn_of_cancellation(replaced: Sequence[Pair]) -> float:
    """Say which products' rounding is magnified; by how much at most, 1 if hardly."""
    ratios = [(layer.name, cancellation(layer)) for layer, _ in replaced]
    large = [(name, ratio) for name, ratio in ratios if ratio > CANCELLING_ABOVE]
    for name, ratio in large:
        warnings.warn(
            f"The norms of the factors of {name!r} multiply to {ratio:.1e} times the norm of their "
            "product, which magnifies the rounding of its outputs by as much. The collapsed layer, "
            "multiplied in float64, may differ by that.",
            stacklevel=3,
        )
    return max((ratio for _, ratio in large), default=1.0)


def _finish(
    model: Layer,
    new: Layer,
    copier: Copier,
    found: Comparison,
    report: Report | None,
    compile: bool,
) -> None:
    """Refuse a conversion that computes something else; report of others, and compile them."""
    lost = "; ".join(left_behind(copier.pairs))
    if not found.same:
        inner = [name for name in different_layers(copier.pairs) if name != model.name]
        where = f", first in the layer {inner[0]!r}" if inner else ""
        what = found.reason or (
            f"its outputs differ by {found.difference:.1e} of the largest, which is no rounding"
        )
        what += f" ({lost})" if lost else ""
        raise ValueError(
            f"The conversion of {model.name!r}, a {type(model).__name__}, would compute something "
            f"else{where}: {what}. Of what a layer of your own keeps or calls, layers and "
            "variables must be in its attributes, plain values in its configuration and all else "
            "in its assets, as for saving; or convert a model without it."
        )
    if lost:
        warnings.warn(
            "Plain values in attributes are carried over only if get_config holds them, and in the "
            f"conversion {lost}. Let get_config hold them, or set them anew.",
            stacklevel=3,
        )
    if found.difference is None:
        said = (
            f"The outputs of {model.name!r} and its conversion were not compared: {found.reason}."
        )
        warnings.warn(f"{said} Pass `inputs` that it can be called with.", stacklevel=3)
    else:
        said = f"Largest difference of the outputs: {found.difference:.1e} of the largest."
    lines = [*_table(copier.replaced), *_left_out(copier.replaced), said]
    if boolean("compile", compile):
        _compile_like(model, new)
    elif getattr(model, "compiled", False):
        lines.append("Not compiled, as the given model is: compile=True carries that over.")
    if report is not None:
        report("\n".join(lines))


def _compile_like(model: Layer, new: Layer) -> None:
    """Compile a model as another one, with an optimizer that starts anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras, of lambdas, which are refused below
        config = model.get_compile_config() if getattr(model, "compiled", False) else None
    if config is None:
        raise ValueError(
            f"compile=True carries over how {model.name!r}, a {type(model).__name__}, is compiled; "
            "it is not. Leave it out, and compile the new model."
        )
    losses = {loss.__name__: loss for loss in keras.tree.flatten(model.loss) if isfunction(loss)}
    try:
        with keras.saving.custom_object_scope(losses):
            new.compile_from_config(config)
    except (TypeError, ValueError) as error:  # of what has no configuration
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"How {model.name!r}, a {type(model).__name__}, is compiled cannot be carried over: "
            f"{reason} Leave compile=True out, and compile the new model."
        ) from error


def _left_out(replaced: Sequence[Pair]) -> list[str]:
    """A line on the regularizers of factors, which no stock layer has."""
    names = [
        old.name
        for layers in replaced
        for old, _ in with_kernels(*layers)
        if getattr(old, "factor_regularizer", None) is not None
    ]
    return [f"Without their factor_regularizer: {', '.join(names)}."] if names else []


def _table(replaced: Sequence[Pair]) -> list[str]:
    """The converted layers as lines of a table."""
    lines = [("layer", "from", "to", "kernel", "factors", "parameters")]
    for old, new in (pair for layers in replaced for pair in with_kernels(*layers)):
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
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
