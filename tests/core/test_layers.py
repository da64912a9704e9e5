"""FactoredLinear and FactoredDense: the function of Dense, and all that users expect of a layer."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_overparam import FactoredDense, FactoredLinear, balancedness_gap

RNG = np.random.default_rng(0)
FACTORIZATIONS = ("balanced", "independent", "identity")


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def inputs_of(*shape):
    return RNG.normal(size=shape).astype("float32")


def built(layer, inputs):
    layer.build((None, inputs))
    return layer


# The function -----------------------------------------------------------------------------------


@given(
    inputs=st.integers(1, 12),
    units=st.integers(1, 12),
    depth=st.integers(1, 5),
    rows=st.integers(1, 30),
    factorization=st.sampled_from(FACTORIZATIONS),
)
def test_equals_dense_holding_the_same_kernel(inputs, units, depth, rows, factorization):
    layer = FactoredDense(
        units,
        activation="tanh",
        depth=depth,
        factorization=factorization,
        bias_initializer="random_normal",
    )
    x = inputs_of(rows, inputs)
    outputs = numpy(layer(x))
    dense = keras.layers.Dense(units, activation="tanh")
    dense.build(x.shape)
    dense.set_weights([numpy(layer.kernel), numpy(layer.bias)])
    np.testing.assert_allclose(outputs, numpy(dense(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (2, 3, 5, 6)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_any_rank_of_inputs(shape, use_bias):
    layer = FactoredDense(3, use_bias=use_bias, depth=3, width=4)
    outputs = layer(inputs_of(*shape))
    assert tuple(outputs.shape) == (*shape[:-1], 3) == layer.compute_output_shape(shape)
    symbolic = layer(keras.KerasTensor((None, *shape[1:])))
    assert symbolic.shape == (None, *shape[1:-1], 3)
    assert keras.backend.standardize_dtype(outputs.dtype) == symbolic.dtype == "float32"


@pytest.mark.parametrize("factorization", ["balanced", "identity"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_starts_as_the_function_that_dense_would(factorization, depth):
    initializer = keras.initializers.GlorotUniform(seed=3)
    layer = built(
        FactoredDense(5, depth=depth, factorization=factorization, kernel_initializer=initializer),
        8,
    )
    np.testing.assert_allclose(numpy(layer.kernel), numpy(initializer((8, 5))), atol=1e-6)


def test_the_default_start_is_balanced():
    layer = built(FactoredLinear(5, depth=4), 8)
    assert float(balancedness_gap([numpy(factor) for factor in layer.factors])) < 1e-5


def test_independent_factors_of_the_same_shape_differ():
    initializer = keras.initializers.TruncatedNormal(stddev=0.1, seed=7)
    layer = built(
        FactoredLinear(6, depth=3, factorization="independent", kernel_initializer=initializer), 6
    )
    first, second, third = map(numpy, layer.factors)
    np.testing.assert_array_equal(first, numpy(initializer((6, 6))))
    assert not np.allclose(first, second)
    assert not np.allclose(second, third)


def test_the_same_seed_gives_the_same_start():
    def start(factorization):
        keras.utils.set_random_seed(11)
        return [numpy(f) for f in built(FactoredLinear(4, factorization=factorization), 6).factors]

    for factorization in FACTORIZATIONS:
        for a, b in zip(start(factorization), start(factorization), strict=True):
            np.testing.assert_array_equal(a, b)


def test_widths():
    def shapes(**arguments):
        return [tuple(f.shape) for f in built(FactoredLinear(4, **arguments), 9).factors]

    assert shapes() == [(9, 4), (4, 4)]
    assert shapes(width=1) == [(9, 1), (1, 4)]
    assert shapes(depth=3, width=[7, 2]) == [(9, 7), (7, 2), (2, 4)]
    assert shapes(depth=1, width=3) == [(9, 4)]


def test_the_order_of_multiplication_does_not_change_the_result():
    layer = built(FactoredLinear(8, depth=3, width=8), 8)
    assert len({plan.boundaries for plan in _plans(layer)}) > 1
    x = inputs_of(200, 8)
    few = np.concatenate([numpy(layer(x[i : i + 2])) for i in range(0, 200, 2)])
    np.testing.assert_allclose(numpy(layer(x)), few, rtol=1e-4, atol=1e-5)


def _plans(layer):
    from keras_overparam.factorization import application_plans, chain_sizes

    return application_plans(chain_sizes(layer.factors))


# Training ---------------------------------------------------------------------------------------


def small_model(layer):
    model = keras.Sequential([keras.Input((6,)), layer, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    return model


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("factorization", FACTORIZATIONS)
def test_trains(depth, factorization):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    y = x[:, :1] - 2 * x[:, 1:2]
    model = small_model(FactoredDense(4, depth=depth, factorization=factorization))
    history = model.fit(x, y, epochs=20, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.2 * history[0]


def test_depth_one_trains_like_dense_to_rounding():
    x, y = inputs_of(32, 6), inputs_of(32, 1)
    finals = []
    for layer in (keras.layers.Dense, lambda units, **kw: FactoredDense(units, depth=1, **kw)):
        keras.utils.set_random_seed(1)
        model = small_model(layer(4, activation="relu"))
        model.fit(x, y, epochs=3, batch_size=8, verbose=0, shuffle=False)
        finals.append(model.predict(x, verbose=0))
    np.testing.assert_allclose(*finals, rtol=1e-5, atol=1e-6)


def squares(*arrays):
    return sum(np.sum(numpy(array).astype("float64") ** 2) for array in arrays)


def test_regularizers_act_on_the_product_on_each_factor_or_on_both():
    l2, l1 = keras.regularizers.L2(0.5), keras.regularizers.L1(0.25)
    layer = built(FactoredDense(4, depth=3, kernel_regularizer=l2), 6)
    np.testing.assert_allclose(numpy(sum(layer.losses)), 0.5 * squares(layer.kernel), rtol=1e-5)
    layer = built(FactoredDense(4, depth=3, factor_regularizer=l2), 6)
    np.testing.assert_allclose(numpy(sum(layer.losses)), 0.5 * squares(*layer.factors), rtol=1e-5)
    layer = built(FactoredDense(4, depth=3, kernel_regularizer=l2, factor_regularizer=l1), 6)
    each = 0.25 * sum(np.abs(numpy(factor)).sum() for factor in layer.factors)
    expected = 0.5 * squares(layer.kernel) + each
    np.testing.assert_allclose(numpy(sum(layer.losses)), expected, rtol=1e-5)


def test_the_product_regularizer_counts_once_however_often_the_layer_is_used():
    layer = FactoredDense(6, kernel_regularizer=keras.regularizers.L2(0.5))
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layer(layer(inputs)))
    model(inputs_of(2, 6))
    np.testing.assert_allclose(numpy(sum(model.losses)), 0.5 * squares(layer.kernel), rtol=1e-5)


def test_product_regularizer_shrinks_the_kernel_in_fit():
    x = np.zeros((16, 6), "float32")
    layer = FactoredDense(4, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.5))
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    before = np.linalg.norm(numpy(layer.kernel))
    model.fit(x, np.zeros((16, 4)), epochs=5, batch_size=4, verbose=0)
    assert np.linalg.norm(numpy(layer.kernel)) < 0.7 * before
    reported = model.evaluate(x, np.zeros((16, 4)), verbose=0)
    np.testing.assert_allclose(reported, 0.5 * np.sum(numpy(layer.kernel) ** 2), rtol=1e-4)


def test_a_frozen_layer_does_not_move():
    layer = FactoredDense(4, trainable=False)
    model = small_model(layer)
    before = numpy(layer.kernel)
    model.fit(inputs_of(16, 6), inputs_of(16, 1), verbose=0)
    np.testing.assert_array_equal(numpy(layer.kernel), before)
    assert len(layer.trainable_variables) == 0


# What users expect of a stock layer ---------------------------------------------------------------


def every_argument(**changes):
    arguments = {
        "units": 4,
        "activation": "relu",
        "use_bias": True,
        "depth": 3,
        "width": [5, 2],
        "factorization": "independent",
        "kernel_initializer": keras.initializers.HeNormal(seed=1),
        "bias_initializer": "ones",
        "kernel_regularizer": keras.regularizers.L2(1e-3),
        "factor_regularizer": "l1",
        "bias_regularizer": "l2",
        "activity_regularizer": "l2",
        "bias_constraint": "non_neg",
        "name": "mine",
        "dtype": "mixed_bfloat16",
    }
    return FactoredDense(**(arguments | changes))


def test_config_round_trip():
    layer = every_argument()
    config = layer.get_config()
    again = FactoredDense.from_config(config)
    assert again.get_config() == config
    assert again.width == [5, 2]
    rebuilt = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert rebuilt.get_config() == config


@pytest.mark.parametrize("layer_type", [FactoredLinear, FactoredDense])
def test_config_names_every_argument_of_the_constructor(layer_type):
    import inspect

    arguments = set(inspect.signature(layer_type).parameters) - {"kwargs"}
    unsupported = {"kernel_constraint", "lora_rank", "lora_alpha", "quantization_config"}
    layer = layer_type(3, activity_regularizer="l2")  # which Keras leaves out if there is none
    assert arguments - unsupported <= set(layer.get_config())


def test_every_argument_of_dense_is_kept():
    import inspect

    ours = list(inspect.signature(FactoredDense).parameters)
    dense = inspect.signature(keras.layers.Dense).parameters
    assert set(dense) <= set(ours)
    for name in ("units", "activation", "use_bias"):  # the usual positional ones
        assert ours.index(name) == list(dense).index(name)


@pytest.mark.parametrize("factorization", FACTORIZATIONS)
def test_save_and_load(tmp_path, factorization):
    model = small_model(every_argument(factorization=factorization, dtype="float32"))
    x = inputs_of(8, 6)
    model.fit(x, inputs_of(8, 1), verbose=0)
    expected = model.predict(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is FactoredDense
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    model.save_weights(tmp_path / "w.weights.h5")
    loaded.layers[0].set_weights([np.zeros_like(w) for w in loaded.layers[0].get_weights()])
    loaded.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)


def test_clone_model_and_a_layer_used_twice():
    shared = FactoredDense(6, depth=2)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, shared(shared(inputs)))
    clone = keras.models.clone_model(model)
    assert clone.count_params() == model.count_params()
    clone.set_weights(model.get_weights())
    x = inputs_of(3, 6)
    np.testing.assert_allclose(numpy(clone(x)), numpy(model(x)), rtol=1e-5, atol=1e-6)


def test_masks_pass_through():
    layer = FactoredDense(3)
    embedded = keras.layers.Embedding(10, 4, mask_zero=True)(np.array([[1, 2, 0], [3, 0, 0]]))
    mask = embedded._keras_mask
    np.testing.assert_array_equal(numpy(layer(embedded)._keras_mask), numpy(mask))


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"])
@pytest.mark.parametrize("regularizer", [None, "l2"])
def test_dtype_policies(name, regularizer):
    layer = FactoredDense(4, depth=3, dtype=name, kernel_regularizer=regularizer)
    x = inputs_of(50, 6)
    outputs = layer(ops.cast(x, layer.compute_dtype), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    for factor in layer.factors:
        assert keras.backend.standardize_dtype(factor.dtype) == layer.variable_dtype
    kernel = layer.kernel
    assert keras.backend.standardize_dtype(kernel.dtype) in ("float32", "float64")
    dense = keras.layers.Dense(4)
    dense.build(x.shape)
    dense.set_weights([numpy(kernel), numpy(layer.bias)])
    tolerance = 1e-5 if name == "float64" else 0.05
    np.testing.assert_allclose(numpy(outputs), numpy(dense(x)), atol=tolerance)


def test_mixed_precision_trains():
    layer = FactoredDense(4, dtype="mixed_bfloat16", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((6,)), layer, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    x = inputs_of(32, 6)
    losses = model.fit(x, x[:, :1], epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


# Collapse -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_bias", [True, False])
def test_collapse_gives_a_plain_dense_of_the_same_function(use_bias):
    layer = every_argument(use_bias=use_bias, dtype="float32")
    x = inputs_of(7, 6)
    expected = numpy(layer(x))
    dense = layer.collapse()
    assert type(dense) is keras.layers.Dense
    assert dense.name == layer.name
    assert dense.use_bias == use_bias
    assert dense.kernel_regularizer.get_config() == layer.kernel_regularizer.get_config()
    assert dense.count_params() == 6 * 4 + 4 * use_bias
    np.testing.assert_allclose(numpy(dense(x)), expected, rtol=1e-5, atol=1e-6)


def test_collapse_of_the_linear_map_and_of_a_frozen_layer():
    layer = FactoredLinear(4, trainable=False, dtype="mixed_bfloat16")
    layer(inputs_of(2, 6))
    dense = layer.collapse()
    assert not dense.use_bias
    assert not dense.trainable
    assert dense.dtype_policy.name == "mixed_bfloat16"


def test_collapse_is_a_copy():
    layer = built(FactoredDense(4), 6)
    dense = layer.collapse()
    before = numpy(dense.kernel)
    layer.factors[0].assign(ops.zeros((6, 4)))
    np.testing.assert_array_equal(numpy(dense.kernel), before)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"depth": 0}, r"`depth` must be a positive integer. Received: depth=0"),
        ({"depth": 1.5}, r"`depth` must be a positive integer. Received: depth=1.5"),
        ({"depth": True}, r"`depth` must be a positive integer. Received: depth=True"),
        ({"units": "8"}, r"`units` must be a positive integer. Received: units='8'"),
        ({"units": -1}, r"`units` must be a positive integer. Received: units=-1"),
        ({"width": 0}, r"`width` must be a positive integer. Received: width=0"),
        ({"depth": 3, "width": [4]}, r"depth − 1 = 2 hidden layers. Received: width=\[4\]"),
        ({"depth": 3, "width": [4, 0]}, r"`width` must be a positive integer. Received: width=0"),
        ({"width": "wide"}, r"Received: width='wide'"),
        (
            {"factorization": "diagonal"},
            r"must be one of 'balanced', 'independent', 'identity'. "
            r"Received: factorization='diagonal'",
        ),
        (
            {"kernel_constraint": "non_neg"},
            r"not supported by FactoredDense 'factored.*': projecting",
        ),
        ({"lora_rank": 4}, r"`lora_rank` is not supported by .*: collapse\(\) the layer"),
    ],
)
def test_bad_arguments_are_one_clear_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        FactoredDense(**({"units": 4} | arguments))


def test_an_unbuilt_layer_says_so():
    layer = FactoredDense(3, name="lazy")
    for name in ("factors", "kernel"):
        # A module of PyTorch puts its own words in the place of a property's.
        ours = rf"Build 'lazy' \(call it once\) before accessing `{name}`"
        words = f"no attribute '{name}'" if keras.backend.backend() == "torch" else ours
        with pytest.raises(AttributeError, match=words):
            getattr(layer, name)
    with pytest.raises(ValueError, match="Build 'lazy'"):
        layer.collapse()
    with pytest.raises(ValueError, match="FactoredDense 'lazy' cannot be built: the inputs must"):
        layer.build((None, None))


def test_wrong_inputs_are_refused():
    layer = built(FactoredDense(3), 6)
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(inputs_of(2, 5))
    with pytest.raises(ValueError, match="min_ndim=2"):
        FactoredDense(3)(np.ones(4, "float32"))
