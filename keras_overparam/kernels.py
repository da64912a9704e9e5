"""Which variables are kernels, the matrices of linear maps, and which of their axes are rows."""

import re
from collections.abc import Iterator

import keras

from keras_overparam.checks import refusal
from keras_overparam.holding import is_built
from keras_overparam.typing import Sizes

# Names that layers give to their own variables of two axes that are no kernels: what is added or
# multiplied entry by entry, tables whose rows are looked up, and factors of a product.
NO_KERNEL = re.compile(
    r"(\w+_)?(bias|beta|gamma|alpha|scale|embed|embeddings?|table|tokens?|pos|positions?)(_(\w|\d+))?"
    r"|lora_\w+|factor_\d+"
)
CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
SEPARABLE_CONVOLUTIONS = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)


def kernels_of(model: keras.layers.Layer) -> dict[str, int]:
    """The kernels of a model that are one linear map each, as `EndToEnd` takes them.

    An optimizer is given variables, not the layers that use them. A model knows: that a kernel
    belongs to a convolution or to an attention's einsum, and how it is a matrix. These are kernels:

    - matrices, as without this function (see `EndToEnd`): of dense and recurrent layers (all gates
      side by side), of layers of your own;
    - of `EinsumDense`, hence of attention, the axes summed over by the others: a query kernel of
      shape `(features, heads, size)` is a matrix `(features, heads · size)`, an output kernel of
      shape `(heads, size, features)` one of `(heads · size, features)`;
    - of convolutions without groups, `(receptive field · channels, filters)`; of transposed ones,
      `(receptive field · filters, channels)`; of separable ones, the pointwise kernel.

    Kernels that hold a map of their own for each channel or group are not: depthwise convolutions,
    convolutions with groups, einsums with an axis in all three terms. What else your layers have of
    more than two axes is not known here. Add to the dictionary what you want trained by the rule,
    and delete from it what you do not.

    Args:
        model: a built model, or layer.

    Returns:
        Dictionary from the paths of trainable variables to how many of their leading axes are the
        rows of the matrix; the axes after them are its columns.

    Raises:
        ValueError: if it is no model or not built, or if variables of one path differ in this.

    Example:

    >>> import keras
    >>> from keras_overparam import EndToEnd, kernels_of
    >>> images = keras.Input((8, 8, 3))
    >>> features = keras.layers.Conv2D(4, 3, name="conv")(images)
    >>> features = keras.layers.DepthwiseConv2D(3, name="depthwise")(features)
    >>> outputs = keras.layers.Dense(2, name="head")(keras.layers.Flatten()(features))
    >>> model = keras.Model(images, outputs)
    >>> kernels_of(model)
    {'conv/kernel': 3, 'head/kernel': 1}
    >>> model.compile(EndToEnd(0.01, depth=2, kernels=kernels_of(model)), "mse")
    """
    if not isinstance(model, keras.layers.Layer):
        raise refusal("model", "a Keras model or layer", model)
    if not is_built(model):
        raise not_built(model)
    rows_of: dict[int, int] = {}  # a variable that several layers hold is what one of them knows
    variables: dict[int, keras.Variable] = {}
    for layer, variable in _variables_by_layer(model):
        variables[id(variable)] = variable
        rows_of[id(variable)] = max(_row_axes_in(layer, variable), rows_of.get(id(variable), 0))
    found: dict[str, int] = {}
    for key, variable in variables.items():
        if found.setdefault(variable.path, rows_of[key]) != rows_of[key]:
            raise ValueError(
                f"Kernels are told apart by their paths, and {model.name!r} has different "
                f"variables of the path {variable.path!r}: give their layers different names."
            )
    return {path: rows for path, rows in found.items() if rows}


def not_built(model: keras.layers.Layer) -> ValueError:
    """The error to raise for a model whose kernels are not there yet."""
    return ValueError(
        f"The kernels of {model.name!r} are known once it is built: call it on a batch before."
    )


def row_axes(shape: Sizes, name: str) -> int:
    """How many leading axes are a matrix's rows, by what a variable itself tells: 1 if it is one.

    Args:
        shape: the variable's.
        name: the one that its layer gave it, the last part of its path.

    Returns:
        1, or 0 if it is no kernel.
    """
    return int(len(shape) == 2 and 0 not in shape and not NO_KERNEL.fullmatch(name))


def _variables_by_layer(
    model: keras.layers.Layer,
) -> Iterator[tuple[keras.layers.Layer, keras.Variable]]:
    """Trainable variables, each with the layer whose own it is."""
    for layer in model._flatten_layers():
        for variable in layer._trainable_variables:
            if variable.trainable:
                yield layer, variable


def _row_axes_in(layer: keras.layers.Layer, variable: keras.Variable) -> int:
    """How many leading axes of a layer's variable are a kernel's rows; 0 if it is no kernel."""
    shape, name = variable.shape, variable.name
    if 0 in shape:
        return 0
    if isinstance(layer, keras.layers.EinsumDense) and name == "kernel":
        return _einsum_row_axes(layer.equation)
    if isinstance(layer, CONVOLUTIONS) and name == "kernel":
        return len(shape) - 1 if getattr(layer, "groups", 1) == 1 else 0
    if isinstance(layer, SEPARABLE_CONVOLUTIONS) and name == "pointwise_kernel":
        return len(shape) - 1
    return row_axes(shape, name)


def _einsum_row_axes(equation: str) -> int:
    """How many leading axes of an einsum's kernel are on one side of its matrix; 0 if it is none.

    (The rule keeps its form under transposition, so that either side may come first.)
    """
    terms, output = equation.replace(" ", "").split("->")
    inputs, kernel = terms.split(",")
    summed = [letter not in output for letter in kernel]
    if any(letter in inputs for letter in kernel if letter in output):
        return 0
    first_side = summed.index(not summed[0]) if len(set(summed)) == 2 else 0
    return first_side if len(set(summed[first_side:])) == 1 else 0
