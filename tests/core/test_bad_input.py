"""Bad input: a call gives what is right, or one sentence says what was wrong with which argument.

Arguments are drawn from right and from plausibly wrong values. Each test knows which are right, and
what then comes out, from a computation of its own in float64.
"""

import copy
import functools
import itertools
import math
import operator
import re
import traceback
from pathlib import Path

import keras
import numpy as np
import pytest
from fuzzing import fuzzed, mostly
from hypothesis import strategies as st
from keras import ops

import keras_overparam as ko

OBJECT = object()
NONSENSE = [None, "two", "", "(", b"2", True, 2.0, 1.5, 0, -1, 10**30, 2**31, 1j, OBJECT, max]
NONSENSE += [math.nan, math.inf, [], {}, [2, 0], {"depth": 2}, np.array([1, 2]), np.float32(2)]
NONSENSE += [np.True_]
WRONG = st.sampled_from(NONSENSE)
SIZE = st.integers(1, 3)


def outcome(function, *args, valid, **kwargs):
    """What a call returns if its arguments are valid; None if not, and it says so as it should."""
    if valid:
        return function(*args, **kwargs)
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert_clear(caught.value)
    return None


def assert_clear(error):
    """One sentence of this package: what was wanted, and what came."""
    assert type(error) is ValueError, error
    text = str(error)
    assert re.search(r"Received( shapes?)?: |No layer of ", text), text
    assert "\n" not in text and len(text) < 600, text


def is_size(value):
    kind = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return kind and 0 < value < 2**31


def is_number(value):
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool) and abs(float(value)) < math.inf


def is_width(value, depth):
    if isinstance(value, (list, tuple)):
        return len(value) == depth - 1 and all(map(is_size, value))
    return value is None or is_size(value)


def numpy(value):
    """As NumPy has it, tensors too."""
    return ops.convert_to_numpy(value) if ops.is_tensor(value) else np.array(value)


def matrices(value, may_be_empty=False):
    """A value as float64 matrices; None if it is none."""
    try:
        array = numpy(value)
    except ValueError:  # ragged
        return None
    fits = array.dtype.kind in "iuf" and array.ndim >= 2 and (array.size or may_be_empty)
    return array.astype("float64") if fits else None


def finite(*found):
    return all(np.isfinite(value).all() for value in found)


def assert_right(result, expected, inputs, atol=2e-3):
    """As expected, of the same shape; not finite where what it comes of is not."""
    result = numpy(result)
    assert result.shape == expected.shape
    if finite(*inputs):
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=atol)
    else:
        assert not np.isfinite(result).all() or not result.size


# Strategies -------------------------------------------------------------------------------------

NUMBERS = st.sampled_from(["float64", "float32", "float16", "int32", "uint8"])
WIDE = st.sampled_from(["float64", "float32", "float16", "int32"])  # hold the products too
OTHERS = st.sampled_from(["complex64", "bool", "object", "str", "datetime64[s]"])
FORMS = {"array": lambda a: a, "tensor": ops.convert_to_tensor, "list": lambda a: a.tolist()}
AXES = st.sampled_from([(), (), (), (1,), (2,)])


@st.composite
def filled(draw, shape, dtypes=NUMBERS, forms=("array", "tensor", "list")):
    """Small integers, so that float16 computes with them exactly, in some type and form."""
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-1, 3, shape)
    dtype = draw(dtypes)
    if dtype == "uint8":
        values = abs(values)
    return FORMS[draw(st.sampled_from(forms))](values.astype(dtype))


@st.composite
def spoiled(draw, shape):
    """Something in the place of an array: of another type, rank or size, not finite, nonsense."""
    how = draw(st.sampled_from(["entry", "type", "rank", "empty", "ragged", "shape", "nonsense"]))
    if how == "entry":
        array = draw(filled(shape, st.sampled_from(["float32", "float64"]), ["array"]))
        array.reshape(-1)[draw(st.integers(0, array.size - 1))] = draw(
            st.sampled_from([math.nan, math.inf, -math.inf])
        )
        return array
    if how == "type":
        return draw(filled(shape, OTHERS, ["array"]))
    if how == "rank":
        return draw(filled(shape[-1:] if draw(st.booleans()) else ()))
    if how == "empty":
        return np.zeros((*shape[:-1], 0))
    if how == "shape":
        return draw(filled((*shape[:-2], shape[-1] + 1, shape[-2] + 2)))
    return [[1.0], [2.0, 3.0]] if how == "ragged" else draw(WRONG)


def arrays(shape):
    return mostly(filled(shape), spoiled(shape))


KERNELS = st.tuples(AXES, SIZE, SIZE).map(lambda s: (*s[0], *s[1:])).flatmap(arrays)
DEPTHS = mostly(st.integers(1, 4), WRONG)
WIDTHS = mostly(st.one_of(st.none(), SIZE, st.lists(SIZE, max_size=3)), WRONG)


@st.composite
def chains(draw, dtypes=NUMBERS):
    """A list of factors, of which one may be spoiled."""
    sizes = draw(st.lists(SIZE, min_size=2, max_size=5))
    axes = draw(AXES)
    shapes = [(*axes, *pair) for pair in itertools.pairwise(sizes)]
    factors = [draw(filled(shape, dtypes, ["array", "tensor"])) for shape in shapes]
    if draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, len(factors) - 1))
        factors[place] = draw(spoiled(shapes[place]))
    return factors


CHAINS = mostly(chains(), WRONG)


def as_chain(factors, of_arrays=False):
    """Factors as float64 matrices that chain; None if they are none.

    Arrays multiply as they are, empty ones too; what becomes a tensor may be nested lists.
    """
    if not isinstance(factors, list):
        return None
    if of_arrays and not all(hasattr(factor, "shape") for factor in factors):
        return None
    found = [matrices(factor, may_be_empty=of_arrays) for factor in factors]
    if not found or any(factor is None for factor in found):
        return None
    try:
        product(found)
    except ValueError:
        return None
    return found


# Factorizations ---------------------------------------------------------------------------------


def kernel_depth_width(kernel, depth, width):
    """The kernel in float64, and whether all three are right."""
    matrix = matrices(kernel)
    finite = matrix is not None and np.isfinite(matrix).all()
    return matrix, bool(finite and is_size(depth) and is_width(width, depth))


@np.errstate(invalid="ignore")  # infinity times zero
def product(factors):
    return functools.reduce(np.matmul, [numpy(factor).astype("float64") for factor in factors])


def narrowest(matrix, depth, width):
    widths = width if isinstance(width, (list, tuple)) else [width or 99] * (depth - 1)
    return min([*matrix.shape[-2:], *widths])


@fuzzed(quick=60, kernel=KERNELS, depth=DEPTHS, width=WIDTHS)
def test_balanced_factors(kernel, depth, width):
    matrix, valid = kernel_depth_width(kernel, depth, width)
    factors = outcome(ko.balanced_factors, kernel, depth, width, valid=valid)
    if valid:
        left, singular, right = np.linalg.svd(matrix, full_matrices=False)
        singular[..., narrowest(matrix, depth, width) :] = 0
        assert len(factors) == depth
        np.testing.assert_allclose(
            product(factors), (left * singular[..., None, :]) @ right, atol=1e-4
        )


def test_integers_of_many_digits():
    for depth in (2**31, 10**400):
        outcome(ko.balanced_factors, np.eye(2), depth, valid=False)


@fuzzed(kernel=KERNELS, depth=DEPTHS, width=WIDTHS)
def test_identity_factors(kernel, depth, width):
    matrix, valid = kernel_depth_width(kernel, depth, width)
    factors = outcome(ko.identity_factors, kernel, depth, width, valid=valid)
    if valid:
        kept, rank = matrix.copy(), narrowest(matrix, depth, width)
        tall = matrix.shape[-2] >= matrix.shape[-1]
        kept[(..., slice(rank, None)) if tall else (..., slice(rank, None), slice(None))] = 0
        assert len(factors) == depth
        np.testing.assert_array_equal(product(factors), kept)


@fuzzed(kernel=KERNELS, width=WIDTHS, relative=mostly(st.booleans(), WRONG))
def test_truncation_error(kernel, width, relative):
    depth = len(width) + 1 if isinstance(width, (list, tuple)) else 2
    matrix, valid = kernel_depth_width(kernel, depth, width)
    valid = valid and isinstance(relative, (bool, np.bool_))
    error = outcome(ko.truncation_error, kernel, width, relative, valid=valid)
    if valid:
        values = np.linalg.svd(matrix, compute_uv=False)
        lost = np.sqrt(np.sum(values[..., narrowest(matrix, depth, width) :] ** 2, axis=-1))
        norm = np.sqrt(np.sum(values**2, axis=-1))
        expected = lost / np.maximum(norm, 1e-300) if relative else lost
        np.testing.assert_allclose(error, expected, atol=1e-9)


@fuzzed(quick=60, factors=mostly(chains(WIDE), WRONG))
def test_chain_product(factors):
    found = as_chain(factors, of_arrays=True)
    with np.errstate(invalid="ignore"):
        result = outcome(ko.chain_product, factors, valid=found is not None)
    if found:
        assert_right(result, product(found), found)


@fuzzed(factors=CHAINS)
def test_product_squared_norm(factors):
    found = as_chain(factors)
    valid = found is not None and all(factor.ndim == 2 for factor in found)
    norm = outcome(ko.product_squared_norm, factors, valid=valid)
    if valid:
        assert_right(norm, np.sum(product(found) ** 2), found)


@fuzzed(factors=CHAINS)
def test_balancedness_gap(factors):
    found = as_chain(factors)
    gap = outcome(ko.balancedness_gap, factors, valid=found is not None)
    if found:
        with np.errstate(invalid="ignore"):
            gaps = [
                np.linalg.norm(a.swapaxes(-1, -2) @ a - b @ b.swapaxes(-1, -2), axis=(-2, -1))
                for a, b in itertools.pairwise(found)
            ]
        expected = functools.reduce(np.maximum, gaps) if gaps else 0.0
        np.testing.assert_allclose(numpy(gap), expected, rtol=1e-4)


# The rule ---------------------------------------------------------------------------------------


@st.composite
def pairs(draw, shapes):
    """A kernel and a gradient, mostly of one shape, of which one may be spoiled."""
    shape = draw(shapes)
    return draw(arrays(shape)), draw(arrays(shape))


SHAPES = st.tuples(AXES, SIZE, SIZE).map(lambda s: (*s[0], *s[1:]))
ONE_OUTPUT = st.tuples(AXES, SIZE, st.just(1)).map(lambda s: (*s[0], *s[1:]))
RATES = mostly(st.sampled_from([0.1, 1, np.float32(0.5), 0.0]), WRONG)


def both(kernel, gradient):
    """Kernel and gradient in float64; None if they are no such pair."""
    found = matrices(kernel), matrices(gradient)
    return None if any(f is None for f in found) or found[0].shape != found[1].shape else found


def rule(kernel, gradient, depth):
    """The explicit sum, with matrix powers by singular values in float64."""
    left, singular, right = np.linalg.svd(kernel, full_matrices=True)

    def power(vectors, exponent):
        values = np.zeros(vectors.shape[:-1])
        values[..., : singular.shape[-1]] = np.where(singular > 1e-9, singular, 0)
        powers = np.where(values > 0, values, exponent == 0) ** exponent
        return (vectors * powers[..., None, :]) @ np.swapaxes(vectors, -1, -2)

    right = np.swapaxes(right, -1, -2)
    return sum(
        power(left, 2 * (depth - j) / depth) @ gradient @ power(right, 2 * (j - 1) / depth)
        for j in range(1, depth + 1)
    )


def left_of_zero(expected, depth):
    """What rounding leaves of a zero singular value comes back with its 2/N-th power."""
    return 3 * np.finfo("float32").eps ** (2 / max(depth, 2)) * max(1, np.abs(expected).max())


@fuzzed(quick=60, pair=pairs(SHAPES), depth=DEPTHS)
def test_end_to_end_gradient(pair, depth):
    found = both(*pair)
    valid = found is not None and is_size(depth)
    result = outcome(ko.end_to_end_gradient, *pair, depth, valid=valid)
    if valid:
        used = found if depth > 1 else found[1:]
        expected = rule(*found, depth) if finite(*found) else found[1]
        assert_right(result, expected, used, max(2e-3, left_of_zero(expected, depth)))


@fuzzed(pair=pairs(SHAPES), rate=RATES, depth=DEPTHS, decay=RATES)
def test_end_to_end_step(pair, rate, depth, decay):
    found = both(*pair)
    valid = found is not None and is_size(depth) and is_number(rate) and is_number(decay)
    moderate = valid and max(abs(rate), abs(decay)) < 1e9
    result = outcome(ko.end_to_end_step, *pair, rate, depth, decay, valid=valid)
    if moderate and finite(*found):
        update = rule(*found, depth)
        expected = (1 - rate * decay * depth) * found[0] - rate * update
        atol = max(1e-2, left_of_zero(update, depth)) * max(1, abs(rate))
        np.testing.assert_allclose(numpy(result), expected, rtol=1e-3, atol=atol)


@fuzzed(kernel=KERNELS, depth=DEPTHS)
def test_end_to_end_spectrum(kernel, depth):
    matrix = matrices(kernel)
    valid = matrix is not None and is_size(depth)
    spectrum = outcome(ko.end_to_end_spectrum, kernel, depth, valid=valid)
    if valid and finite(matrix):
        rows, columns = matrix.shape[-2:]
        values = [np.linalg.svd(matrix, compute_uv=False)] * 2
        rows, columns = (
            np.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, n - v.shape[-1])]) ** (2 / depth)
            for v, n in zip(values, (rows, columns), strict=True)
        )
        expected = sum(
            rows[..., :, None] ** (depth - j) * columns[..., None, :] ** (j - 1)
            for j in range(1, depth + 1)
        )
        atol = max(1e-2, left_of_zero(expected, depth))
        np.testing.assert_allclose(numpy(spectrum.eigenvalues), expected, rtol=1e-2, atol=atol)


@fuzzed(pair=st.one_of(pairs(ONE_OUTPUT), pairs(SHAPES)), depth=DEPTHS)
def test_step_and_momentum(pair, depth):
    found = both(*pair)
    valid = found is not None and is_size(depth) and 1 in found[0].shape[-2:]
    result = outcome(ko.step_and_momentum, *pair, depth, valid=valid)
    if valid and finite(*found):
        step, momentum = map(numpy, result)
        np.testing.assert_allclose(
            step * (found[1] + momentum), rule(*found, depth), rtol=1e-3, atol=1e-3
        )


# Layers -----------------------------------------------------------------------------------------

# By name: right arguments of the stock layer, wrong ones that it shares, and the inputs' shape.
SHARED = {
    "activation": ["no such", 3, OBJECT],
    "bias_initializer": ["no such", 3, OBJECT],
    "name": [3],
    "no_such": [1],
}
CONVOLUTION = SHARED | {"kernel_size": [0, "two", None, (2,) * 5], "padding": ["no", 3, None]}
CONVOLUTION |= {"strides": [0, "two", (1,) * 5], "data_format": ["no"], "dilation_rate": [0, "a"]}
LAYERS = {
    "Linear": ({"units": 3}, {"name": [3], "kernel_initializer": ["no such", 3]}, (2, 4)),
    "Dense": ({"units": 3}, SHARED, (2, 4)),
    "Conv1D": ({"filters": 3, "kernel_size": 2}, CONVOLUTION | {"filters": [0, "a"]}, (2, 5, 2)),
    "Conv2D": ({"filters": 3, "kernel_size": 2}, CONVOLUTION | {"groups": [0, 2]}, (1, 4, 4, 2)),
    "Conv3D": ({"filters": 2, "kernel_size": 2}, CONVOLUTION, (1, 2, 3, 2, 2)),
    "DepthwiseConv2D": ({"kernel_size": 2}, CONVOLUTION, (1, 4, 4, 2)),
    "EinsumDense": (
        {"equation": "abc,cd->abd", "output_shape": (None, 3)},
        SHARED | {"equation": ["ab", "", 3, "ab,bc"], "output_shape": ["a", None]},
        (2, 3, 4),
    ),
    "MultiHeadAttention": (
        {"num_heads": 1, "key_dim": 2},
        {"num_heads": [0, "two", None], "key_dim": [0, "two"], "name": [3]},
        (1, 3, 2),
    ),
}
INPUTS = {
    "rank": lambda shape: np.ones(shape[-1:], "float32"),
    "features": lambda shape: np.ones((*shape[:-1], shape[-1] + 3), "float32"),
    "no rows": lambda shape: np.ones((0, *shape[1:]), "float32"),
    "integers": lambda shape: np.ones(shape, "int32"),
    "not finite": lambda shape: np.full(shape, math.nan, "float32"),
    "text": lambda shape: np.full(shape, "a"),
    "None": lambda shape: None,
    "object": lambda shape: OBJECT,
}


@st.composite
def factored_layers(draw):
    """Name of a layer, its own arguments, the stock layer's, and inputs: one may be wrong."""
    name = draw(st.sampled_from(list(LAYERS)))
    right, wrong, shape = LAYERS[name]
    starts = st.sampled_from(["balanced", "independent", "identity"])
    own = {
        "depth": draw(st.integers(1, 3)),
        "width": draw(st.one_of(st.none(), SIZE)),
        "factorization": draw(starts),
    }
    stock = dict(right)
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    spoiled = draw(st.sampled_from([None, "own", "stock", "inputs"]))
    if spoiled == "own":
        own[draw(st.sampled_from(list(own)))] = draw(WRONG)
    elif spoiled == "stock":
        argument = draw(st.sampled_from(list(wrong)))
        stock[argument] = draw(st.sampled_from(wrong[argument]))
    elif spoiled == "inputs":
        inputs = INPUTS[draw(st.sampled_from(list(INPUTS)))](shape)
    return name, own, stock, inputs


def are_right(depth, width, factorization):
    starts = ("balanced", "independent", "identity")
    start = isinstance(factorization, str) and factorization in starts
    return is_size(depth) and is_width(width, depth) and start


def tried(function, *args, **kwargs):
    """The result of a call, or the error that it raises."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


@fuzzed(
    quick=40,
    case=factored_layers(),
    regularizer=mostly(st.sampled_from([None, "l2"]), st.sampled_from(["no such", 3, [], OBJECT])),
)
def test_layers(case, regularizer):
    """What the stock layer refuses is refused as it does; what it takes, is computed."""
    name, own, arguments, inputs = case
    kind = getattr(ko, f"Factored{name}")
    stock = {"Linear": functools.partial(keras.layers.Dense, use_bias=False)}
    stock = stock.get(name) or getattr(keras.layers, name)
    inputs = [inputs] * (2 if name == "MultiHeadAttention" else 1)
    if not are_right(**own):
        return outcome(kind, **own, **arguments, valid=False)
    layer = tried(kind, **own, **arguments, factor_regularizer=regularizer)
    plain = tried(stock, **arguments)
    if not isinstance(plain, Exception):
        unknown = tried(keras.regularizers.get, regularizer)
        plain = unknown if isinstance(unknown, Exception) else plain
    if isinstance(plain, Exception):
        assert type(layer) is type(plain), layer
        return
    if name == "Conv3D" and np.shape(inputs[0])[:1] == (0,):
        return  # of no volumes, TensorFlow's convolution gives an array of the inputs' shape
    outputs = tried(layer, *inputs)
    if getattr(inputs[0], "dtype", None) == np.int32:  # which stock convolutions cannot take
        inputs = [ops.cast(array, "float32") for array in inputs]
    expected = tried(plain, *inputs)
    if isinstance(expected, Exception):
        assert type(outputs) in (ValueError, type(expected)), outputs
        return
    assert outputs.shape == expected.shape
    again = layer.collapse()(*inputs)
    np.testing.assert_allclose(numpy(outputs), numpy(again), rtol=1e-3, atol=1e-4)


# The optimizer and the callback -----------------------------------------------------------------

PATTERNS = st.sampled_from([["bias"], (), ["a", "b"], [3], ["("], "bias", {"bias"}, None, 3])
EVERY_DEPTH = st.one_of(DEPTHS, st.sampled_from([{"kernel": 2}, {"(": 2}, {3: 2}, {"a": 0}]))
SGD = {
    "learning_rate": [None, "two", "a", -1, OBJECT, [0.1]],
    "momentum": [None, "two", -1.0, 2.0],
    "clipnorm": ["two"],
    "gradient_accumulation_steps": [0, "two"],
    "no_such": [1],
    "name": [3],
}


def are_patterns(value):
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        return False
    return not any(isinstance(tried(re.compile, item), Exception) for item in value)


def is_depth(value):
    if not isinstance(value, dict):
        return is_size(value)
    return are_patterns(list(value)) and all(map(is_size, value.values()))


@st.composite
def optimizers(draw):
    """Arguments of `EndToEnd`, and those of `SGD`, of which some may be wrong."""
    own = {
        "depth": draw(EVERY_DEPTH),
        "weight_decay": draw(mostly(st.sampled_from([None, 0.0, 0.1]), WRONG)),
        "kernels": draw(mostly(st.sampled_from([None, {"layer/kernel": 1}]), WRONG)),
        "exclude": draw(mostly(st.sampled_from([[], ["layer"]]), PATTERNS)),
        "tolerance": draw(mostly(st.sampled_from([0, 0.0, 0.01]), WRONG)),
        "gradient_rank": draw(mostly(st.sampled_from([None, 2]), WRONG)),
    }
    kept = draw(st.sets(st.sampled_from(list(own)), max_size=3))
    stock = {}
    if not draw(st.integers(0, 3)):
        argument = draw(st.sampled_from(list(SGD)))
        stock[argument] = draw(st.sampled_from(SGD[argument]))
    return {name: own[name] for name in sorted(kept)}, stock


def is_kernels(value):
    paths = isinstance(value, dict) and all(isinstance(path, str) for path in value)
    return value is None or (paths and all(map(is_size, value.values())))


def is_tolerance(value):
    return is_number(value) and 0 <= value < 1


@fuzzed(quick=40, arguments=optimizers())
def test_the_optimizer(arguments):
    """What `SGD` refuses is refused as it does; a step is the rule's."""
    own, stock = arguments
    valid = (
        is_depth(own.get("depth", 2))
        and (own.get("weight_decay") is None or is_number(own["weight_decay"]))
        and is_kernels(own.get("kernels"))
        and are_patterns(own.get("exclude", []))
        and is_tolerance(own.get("tolerance", 0))
        and (own.get("gradient_rank") is None or is_size(own["gradient_rank"]))
    )
    if not valid:
        return outcome(ko.EndToEnd, **own, **stock, valid=False)
    plain = tried(keras.optimizers.SGD, **stock)
    optimizer = tried(ko.EndToEnd, **own, **stock)
    if isinstance(plain, Exception):
        assert type(optimizer) is type(plain), optimizer
        return
    again = ko.EndToEnd.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    if stock or own.get("weight_decay") or is_slow(own.get("depth", 2)):
        return
    with keras.name_scope("layer"):
        kernel = keras.Variable(np.array([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0]]), name="kernel")
    before, gradient = numpy(kernel.value), np.ones((3, 2))
    wanted = [*own.get("exclude", ()), *(d if isinstance(d := own.get("depth"), dict) else ())]
    found = all(re.search(pattern, kernel.path) for pattern in wanted)
    excluded = bool(own.get("exclude")) and isinstance(own.get("depth"), dict) and own["depth"]
    if not found or excluded or set(own.get("kernels") or ()) - {kernel.path}:
        with pytest.raises(ValueError, match="There are: "):
            optimizer.build([kernel])
        return
    optimizer.apply([ops.convert_to_tensor(gradient, kernel.dtype)], [kernel])
    depth = optimizer.depth_of(kernel)
    expected = before - 0.01 * rule(before, gradient, depth)
    np.testing.assert_allclose(numpy(kernel.value), expected, rtol=1e-4)


def is_slow(depth):
    return max(depth.values(), default=0) > 9 if isinstance(depth, dict) else depth > 9


@functools.cache
def small_model():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            ko.FactoredDense(2, name="deep", depth=2),
            keras.layers.Dense(2, name="plain", activation="tanh"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def test_a_kernel_that_is_no_longer_finite_stays_so_and_stops_nothing():
    with keras.name_scope("layer"):
        kernel = keras.Variable(np.full((64, 64), math.nan, "float32"), name="kernel")
    ko.EndToEnd(0.1).apply([ops.ones((64, 64))], [kernel])
    assert np.isnan(numpy(kernel.value)).all()


HPARAMS = [None, {}, {"rate": 0.1, "kind": "a", "on": True, "n": np.float32(1)}]
NO_HPARAMS = [3, "rate", {"rate": None}, {3: 1}, {"rate": [1]}, {"r": {"a": 1}}, [0.1]]


@fuzzed(
    update_freq=mostly(st.sampled_from([1, "epoch"]), WRONG),
    layers=mostly(st.sampled_from([None, "deep", "d.*p", "plain"]), WRONG),
    largest=mostly(SIZE, WRONG),
    log_dir=mostly(st.none(), st.sampled_from([3, b"logs", OBJECT, ["logs"], True])),
    hparams=mostly(st.sampled_from(HPARAMS), st.sampled_from(NO_HPARAMS)),
)
def test_the_callback(update_freq, layers, largest, log_dir, hparams):
    frequency = is_size(update_freq) or (isinstance(update_freq, str) and update_freq == "epoch")
    pattern = layers is None or are_patterns([layers])
    shown = hparams in HPARAMS
    valid = frequency and pattern and is_size(largest) and log_dir is None and shown
    monitor = outcome(ko.FactorMonitor, log_dir, update_freq, layers, largest, hparams, valid=valid)
    if valid:
        monitor.set_model(small_model())
        found = layers is None or re.search(layers, "deep") is not None
        outcome(monitor.on_train_begin, valid=found)


POWERS = mostly(st.sampled_from([2, 2.5, 3, np.float64(4), np.int64(4)]), WRONG)


class Squares(keras.losses.Loss):
    """A loss that leaves all checks to Keras."""

    def call(self, y_true, y_pred):
        difference = ops.convert_to_tensor(y_pred) - ops.convert_to_tensor(y_true)
        return ops.mean(ops.square(difference), axis=-1)


@fuzzed(power=POWERS, pair=pairs(st.tuples(SIZE, SIZE)))
def test_the_loss(power, pair):
    """Targets and predictions that Keras refuses are refused as it does."""
    valid = is_number(power) and 2 <= power < 1e3
    loss = outcome(ko.LpLoss, power, valid=valid)
    if not valid:
        return
    plain, value = tried(Squares(), *pair), tried(loss, *pair)
    found = both(*pair)
    if found and finite(*found):
        expected = np.mean(abs(found[0] - found[1]) ** power) / power
        np.testing.assert_allclose(numpy(value), expected, rtol=1e-3)
    elif isinstance(plain, Exception):
        assert isinstance(value, Exception), value


# Conversion -------------------------------------------------------------------------------------

DENSE, CONV = keras.layers.Dense, keras.layers.Conv2D
RIGHT_CHOICES = [None, "plain", "p.*n", DENSE, ["plain"], [None, "deep"], lambda layer: True]
OTHER_CHOICES = ["none", "deep", [], int, CONV, "(", ["("], 3, {}, {"plain": 2}, OBJECT, b"p"]
CHOICES = mostly(st.sampled_from(RIGHT_CHOICES), st.sampled_from(OTHER_CHOICES))
MODELS = st.sampled_from([None, "model", 3, OBJECT, np.ones((2, 2)), keras.layers.Dense, [1]])


def chooses(layers):
    """Whether a choice of layers is one, and whether it chooses the plain layer."""
    if isinstance(layers, list):
        found = [chooses(item) for item in layers]
        return all(right for right, _ in found), bool(found) and all(chosen for _, chosen in found)
    if isinstance(layers, str):
        right = are_patterns([layers])
        return right, right and re.search(layers, "plain") is not None
    if isinstance(layers, type):
        return True, issubclass(keras.layers.Dense, layers)
    return layers is None or callable(layers), True


@pytest.mark.filterwarnings("ignore:The layer 'plain' does not compute the same:UserWarning")
@fuzzed(
    quick=20,
    thorough=1000,
    model=mostly(st.none(), MODELS),
    depth=DEPTHS,
    width=WIDTHS,
    layers=CHOICES,
    factorization=mostly(st.sampled_from(["balanced", "identity"]), WRONG),
    report=mostly(st.sampled_from([None, len]), WRONG),
)
def test_conversion(model, depth, width, layers, factorization, report):
    right, chosen = chooses(layers)
    start = isinstance(factorization, str) and factorization in ("balanced", "identity")
    valid = model is None and is_size(depth) and is_width(width, depth) and right and chosen
    valid = valid and start and (report is None or callable(report))
    model = small_model() if model is None else model
    arguments = {"width": width, "layers": layers, "factorization": factorization}
    deep = outcome(ko.overparameterize, model, depth, **arguments, report=report, valid=valid)
    if valid:
        x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
        assert len(deep.get_layer("plain").factors) == depth
        if width is None:
            np.testing.assert_allclose(numpy(deep(x)), numpy(model(x)), atol=1e-5)


@fuzzed(quick=10, thorough=500, model=mostly(st.none(), MODELS), report=mostly(st.just(len), WRONG))
def test_collapse(model, report):
    valid = model is None and (report is None or callable(report))
    model = small_model() if model is None else model
    plain = outcome(ko.collapse, model, report, valid=valid)
    if valid:
        x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
        assert type(plain.get_layer("deep")) is keras.layers.Dense
        np.testing.assert_allclose(numpy(plain(x)), numpy(model(x)), atol=1e-5)


@fuzzed(quick=10, thorough=100, model=mostly(st.none(), MODELS))
def test_kernels_of_a_model(model):
    valid = model is None
    found = outcome(ko.kernels_of, small_model() if valid else model, valid=valid)
    if valid:
        assert found == {small_model().get_layer("plain").kernel.path: 1}


# Configurations ---------------------------------------------------------------------------------


def serialized():
    """Configurations of an object of each class that has one."""
    made = [getattr(ko, f"Factored{name}")(**LAYERS[name][0]) for name in LAYERS]
    made += [ko.EndToEnd(0.1, depth={"kernel": 2}), ko.LpLoss(3)]
    made += [ko.FactoredDense(2, width=[3], kernel_regularizer="l2", activation="relu")]
    return [keras.saving.serialize_keras_object(thing) for thing in made]


SERIALIZED = serialized()


def places(config, path=()):
    """Paths of all entries of nested dictionaries and lists."""
    entries = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["a", None, None]}}
JSON = [None, True, 0, -1, 2, 2.5, math.nan, 10**30, "", "two", "os", [], [2], {}, LAMBDA]
JSON = st.sampled_from([*JSON, {"class_name": "Dense"}])


@st.composite
def changed(draw):
    """The configuration of an object with an entry replaced, left out or added."""
    config = copy.deepcopy(draw(st.sampled_from(SERIALIZED)))
    for _ in range(draw(st.integers(0, 2))):
        *path, last = draw(st.sampled_from(list(places(config))))
        holder = functools.reduce(operator.getitem, path, config)
        how = draw(st.sampled_from(["replace", "replace", "leave out", "add"]))
        if how == "replace":
            holder[last] = copy.deepcopy(draw(JSON))
        elif how == "leave out":
            del holder[last]
        elif isinstance(holder, dict):
            holder["no_such"] = copy.deepcopy(draw(JSON))
    return config


@fuzzed(quick=60, config=changed())
def test_configurations(config):
    """An object that can be described again, or an error that says what it could not be made of.

    What Keras itself reads, such as types and names of modules, may fail in other ways in Keras.
    """
    found = tried(keras.saving.deserialize_keras_object, config)
    if isinstance(found, Exception):
        raised_in = traceback.extract_tb(found.__traceback__)[-1].filename
        documented = isinstance(found, (ValueError, TypeError)) and str(found)
        assert documented or Path(keras.__file__).parent in Path(raised_in).parents, repr(found)
    elif hasattr(found, "get_config"):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
        assert str(again.get_config()) == str(found.get_config())


# Sweeps and the probe ---------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(6, 2))
FACTORS = [np.ones((3, 2, 1)), np.ones((3, 1, 1))]
NO_DATA = spoiled((6, 2)).filter(lambda value: np.shape(matrices(value)) != (6, 2))


def usually(right, wrong):
    """As `mostly`, for one of many arguments."""
    return st.integers(0, 11).flatmap(lambda die: st.just(right) if die else wrong)


SWEEP = {
    "features": X,
    "targets": X[:, 0],
    "factors": FACTORS,
    "optimizer": "sgd",
    "learning_rates": [0.1, 0.2, 0.3],
    "iterations": [0, 2],
    "power": 4,
    "dtype": "float32",
    "devices": None,
    "loss": "lp",
}
NO_SWEEP = {
    "features": NO_DATA,
    "targets": st.sampled_from([None, 3.0, [1.0], X * 1j, "abcdef", []]),
    "factors": st.one_of(WRONG, st.just([FACTORS[1]]), st.just([X])),
    "optimizer": st.sampled_from(["lion!", None, 3, ko.EndToEnd(depth={})]),
    "learning_rates": WRONG,
    "iterations": WRONG.filter(lambda value: not is_size(value) and np.ndim(value) == 0),
    "power": WRONG.filter(lambda value: not (is_number(value) and 2 <= value < 1e3)),
    "dtype": WRONG,
    "devices": st.sampled_from([[], "cpu", ["cpu:99"], 3, [None], {"cpu:0"}]),
    "loss": WRONG,
}


@fuzzed(
    quick=12,
    thorough=500,
    given=st.fixed_dictionaries({n: usually(right, NO_SWEEP[n]) for n, right in SWEEP.items()}),
)
def test_sweeps(given):
    found = tried(ko.sweep_linear_networks, **given)
    if any(given[name] is not right for name, right in SWEEP.items()):
        assert isinstance(found, ValueError), repr(found)
        assert str(found)
        return
    assert found.losses.shape == (2, 3)
    expected = np.mean((X.sum(axis=1) - X[:, 0]) ** 4) / 4
    np.testing.assert_allclose(found.losses[0], expected, rtol=1e-5)


@fuzzed(
    quick=20,
    thorough=1000,
    loss=mostly(st.just(2), NO_SWEEP["power"]),
    data=mostly(st.just((X, X[:, 0])), st.one_of(WRONG, st.tuples(NO_DATA, st.just(X[:, 0])))),
    depths=mostly(st.just([2]), st.one_of(WRONG, st.just([1]), st.just([2.5]), st.just([]))),
    iterations=mostly(st.just(8), WRONG),
    replicates=mostly(st.just(2), st.one_of(WRONG, st.just(1))),
    starts=st.sampled_from([[0.0], [], None, "1", [math.nan], [[1.0]], [-1.0], [1j]]),
)
def test_the_probe_refuses(**given):
    """What is probed with right arguments is in test_advice.py; here the starts never are."""
    assert_clear(tried(ko.probe, **given))


def test_every_public_name_is_called_here():
    text = Path(__file__).read_text(encoding="utf-8")
    called = {name for name in ko.__all__ if f"ko.{name}" in text}
    called |= {f"Factored{name}" for name in LAYERS}
    assert set(ko.__all__) - called == {"__version__"}
