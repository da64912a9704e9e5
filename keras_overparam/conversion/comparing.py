"""Does a converted model compute what the original does? Both are called and compared."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_overparam.conversion.copying import is_graph
from keras_overparam.conversion.refusals import in_short
from keras_overparam.conversion.state import values_of
from keras_overparam.holding import all_layers
from keras_overparam.typing import Array, Layer, Pair, Shape, Tensor

Arguments: TypeAlias = dict[str, Any]  # of a call, by name; "" is the first

# What rounding may do to the outputs of any model, in units of the arithmetic's and at most; and to
# those of a given model, as a multiple of what changing the last digits of its weights does.
ROUNDINGS = 2**6
ROUNDED_BELOW = 2**-6
ROUNDINGS_OF_WEIGHTS = 2**3
TELLING_BELOW = 0.1  # a model whose outputs move by more when its weights are rounded tells nothing
SIZES = (32, 224)  # that are tried where a model's inputs leave them open
BATCH = 2


class Comparison(NamedTuple):
    """What comparing two models' outputs gave.

    Attributes:
        difference: the largest difference of an output's entries, over the largest entry of that
            output; of all outputs the largest. None if they were not compared.
        same: False if that is more than rounding, or if the conversion cannot be called, or reads
            variables of the model.
        reason: which of these it is, or why they were not compared.
    """

    difference: float | None
    same: bool = True
    reason: str = ""


def compare(model: Layer, new: Layer, inputs: Tensor = None, magnified: float = 1.0) -> Comparison:
    """Compare the outputs of a model and of its conversion, without changing either.

    Rounding is measured on the model itself: where outputs differ by more than a small multiple of
    the arithmetic's resolution, the model's matrices are changed by their last digits, and what
    that does to the outputs says how far rounding can move them.

    Args:
        model: a built model or layer.
        new: the other one.
        inputs: what both are called with; None for random numbers of the shapes and types that the
            model says it takes.
        magnified: factor by which the rounding of the two may differ.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: if the model cannot be called with the given inputs.
    """
    called = _first_that_works(model, [{"": inputs}] if inputs is not None else made_up(model))
    if isinstance(called, str):
        if inputs is not None:
            raise ValueError(f"`inputs` must be what {model.name!r} can be called with: {called}.")
        return Comparison(None, reason=called)
    arguments, expected = called
    try:
        found = _outputs(new, arguments)
    except Exception as error:  # of a layer that was not made as it should be
        return Comparison(None, same=False, reason=f"calling it failed: {in_short(error)}")
    difference = largest_difference(expected, found)
    unit = _resolution(model)
    rounding = min(ROUNDINGS * unit, ROUNDED_BELOW)
    read = _read_by(new, arguments, model, found)
    if read is not None:
        return Comparison(None, same=False, reason=f"it reads {read.path!r} of the given model")
    if difference <= rounding * magnified:
        return Comparison(difference)
    if not largest_difference(expected, _outputs(model, arguments)) <= rounding:
        return Comparison(None, reason="its outputs are random")
    moved = max(
        largest_difference(expected, _outputs(model, arguments, _rounded(model, unit, seed)))
        for seed in range(2)
    )
    if not moved <= TELLING_BELOW:
        reason = f"its outputs move by {moved:.0%} when the last digits of its weights change"
        return Comparison(None, reason=reason)
    return Comparison(difference, difference <= ROUNDINGS_OF_WEIGHTS * moved * magnified)


def different_layers(pairs: Sequence[Pair]) -> list[str]:
    """Names of the layers, inner ones first, that compute something else than their copies."""
    return [
        layer.name
        for layer, copy in reversed(pairs)
        if not isinstance(layer, keras.layers.InputLayer) and not compare(layer, copy).same
    ]


def _first_that_works(
    model: Layer, calls: Sequence[Arguments] | Iterator[Arguments]
) -> tuple[Arguments, list[Array]] | str:
    """The first arguments that a model can be called with, and its outputs; or why none are."""
    reason = "it does not say what it is called with"
    for index, arguments in enumerate(calls):
        try:
            return arguments, _outputs(model, arguments)
        except Exception as error:  # a user's call may want anything
            reason = f"calling it failed: {in_short(error)}" if index == 0 else reason
    return reason


def _outputs(
    model: Layer, arguments: Arguments, weights: Sequence[tuple[Any, Tensor]] = ()
) -> list[Array]:
    """A model's outputs; whatever it assigns to its variables on the way is forgotten."""
    named = {name: value for name, value in arguments.items() if name}
    first = [arguments[""]] if "" in arguments else []
    with keras.StatelessScope(state_mapping=list(weights)):
        outputs = model(*first, training=False, **named)
        return [ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


def largest_difference(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Largest difference of two lists of arrays, each relative to its largest entry."""
    if len(expected) != len(found):
        return float("inf")
    pairs = zip(expected, found, strict=True)
    return max((_difference(*map(np.asarray, pair)) for pair in pairs), default=0.0)


def _difference(expected: Array, found: Array) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if expected.dtype.kind in "OSU":
        return 0.0 if np.array_equal(expected, found) else float("inf")
    expected, found = expected.astype("float64"), found.astype("float64")
    equal = (expected == found) | (np.isnan(expected) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0.0, np.abs(expected - found))
    largest = np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))
    difference = float(np.max(apart, initial=0.0)) / (float(largest) or 1.0)
    return difference if np.isfinite(difference) else float("inf")


def _resolution(model: Layer) -> float:
    """The coarsest relative spacing of numbers in which a layer of the model computes."""
    names = {layer.compute_dtype for layer in all_layers(model)} | {"float32"}
    if names == {"float32", "float64"} and model.compute_dtype == "float64":
        names = {"float64"}
    spacings = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return max(spacings.get(name, 2.0**-23) for name in names)


def _read_by(
    new: Layer, arguments: Arguments, model: Layer, expected: Sequence[Array]
) -> keras.Variable | None:
    """A variable of a model that its conversion reads, which has its own: None as it should be.

    An operation of a graph, a function or an object that no layer holds may use a variable of the
    model. As long as that is not trained, the outputs are the same.
    """
    given = [variable for variable in model.variables if "float" in variable.dtype]
    others = {id(variable): _of(variable, 2 * values_of(variable) + 1) for variable in given}

    def matters(variables: Sequence[keras.Variable]) -> bool:
        changed = _outputs(new, arguments, [(each, others[id(each)]) for each in variables])
        return largest_difference(expected, changed) > ROUNDED_BELOW

    if not matters(given) or matters([]):  # which are random
        return None
    return next((variable for variable in given if matters([variable])), None)


def _of(variable: keras.Variable, values: Array) -> Tensor:
    """Values as a variable has them."""
    wide = values if variable.dtype == "float64" else values.astype("float32")
    return ops.cast(wide, variable.dtype)


def _rounded(model: Layer, unit: float, seed: int) -> list[tuple[Any, Tensor]]:
    """A model's matrices, each with its last digits changed."""
    rng = np.random.default_rng(seed)
    changed = []
    for variable in model.weights:
        if len(variable.shape) > 1 and "float" in variable.dtype:
            value = values_of(variable).astype("float64")
            scale = unit * np.sqrt(np.mean(value**2))
            value = value + scale * rng.uniform(-1, 1, value.shape)
            changed.append((variable, _of(variable, value)))
    return changed


def made_up(model: Layer) -> Iterator[Arguments]:
    """Arguments of the shapes and types that a model or layer says it takes, best guess first."""
    for size in SIZES:
        if is_graph(model):
            specs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
            values = keras.tree.map_structure(lambda x, n=size: sample(x.shape, x.dtype, n), specs)
            yield {"": values}
            continue
        config = model.get_build_config() or {}
        for dtype in ("float32", "int32"):
            shapes = config.get("shapes_dict") or {"": config.get("input_shape")}
            if None not in shapes.values():
                yield {
                    name.removesuffix("_shape"): _structure_of(shape, dtype, size)
                    for name, shape in shapes.items()
                }


def _structure_of(shapes: Any, dtype: str, size: int) -> Any:
    return keras.tree.map_shape_structure(lambda shape: sample(shape, dtype, size), shapes)


def sample(shape: Shape, dtype: str = "float32", size: int = SIZES[0]) -> Tensor:
    """Random values of a shape and a type.

    Args:
        shape: shape, with None where any size will do.
        dtype: "string", "bool", or a type of numbers. Integers are 0 or 1, which any table has.
        size: the size where any will do, but for the first axis.
    """
    rng = np.random.default_rng(0)
    sizes = [(BATCH if axis == 0 else size) if n is None else n for axis, n in enumerate(shape)]
    if dtype == "string":
        words = rng.choice(["some words", "others"], sizes)
        return ops.convert_to_tensor(words) if keras.backend.backend() == "tensorflow" else words
    if dtype == "bool" or "int" in dtype:
        return ops.convert_to_tensor(rng.integers(0, 2, sizes), dtype=dtype)
    return ops.convert_to_tensor(rng.standard_normal(sizes), dtype=dtype)
