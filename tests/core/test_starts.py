"""A layer starts as it should wherever a stock one does: in traces, scopes, and when it is loaded.

In each situation the product of the factors is the kernel that was sampled, and they are balanced.
"""

import gc
import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_overparam
from keras_overparam import FactoredDense, balancedness_gap
from keras_overparam.layers import starts

BACKEND = keras.backend.backend()
NUMBERS = itertools.count()
LAYERS = {
    "Linear": ({"units": 5}, (8,)),
    "Dense": ({"units": 5, "activation": "relu"}, (8,)),
    "Conv1D": ({"filters": 5, "kernel_size": 3}, (6, 3)),
    "Conv2D": ({"filters": 6, "kernel_size": 2, "groups": 3}, (5, 5, 3)),
    "Conv3D": ({"filters": 3, "kernel_size": 2}, (4, 4, 4, 2)),
    "DepthwiseConv2D": ({"kernel_size": 3, "depth_multiplier": 2}, (5, 5, 3)),
    "EinsumDense": ({"equation": "abc,dbc->adb", "output_shape": (5, 3)}, (3, 4)),
}
FACTORINGS = [
    {"depth": 1},
    {"depth": 2},
    {"depth": 3, "width": 12},
    {"depth": 4, "factorization": "identity"},
    {"depth": 2, "width": [9], "factorization": "identity"},
]


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def seeded(name):
    """The argument of a layer that is its kernel's initializer, for the same values each time."""
    argument = "depthwise_initializer" if "Depthwise" in name else "kernel_initializer"
    return {argument: keras.initializers.HeNormal(seed=5)}


def factored(name, **factoring):
    return getattr(keras_overparam, f"Factored{name}")(
        **LAYERS[name][0], **seeded(name), **factoring
    )


def stock_kernel(name):
    arguments, shape = LAYERS[name]
    stock = getattr(layers, "Dense" if name == "Linear" else name)
    layer = stock(**arguments, **seeded(name))
    layer.build((2, *shape) if name == "EinsumDense" else (None, *shape))
    return numpy(layer.kernel)


def inputs_of(name):
    shape = (2, *LAYERS[name][1])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def assert_start(layer, kernel):
    """The product is the kernel, and the factors are balanced, if they should be."""
    np.testing.assert_allclose(layer.exact_kernel(), kernel, atol=1e-6)
    if layer.factorization == "balanced":
        assert float(balancedness_gap([numpy(factor) for factor in layer.factors])) < 1e-5


def subclassed(make):
    """A model that makes its layer itself, as its configuration does not say."""

    @keras.saving.register_keras_serializable("tests", name=f"Model{next(NUMBERS)}")
    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = make()

        def call(self, inputs):
            return self.inner(inputs)

    return Subclassed()


# Symbols and scopes -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("factoring", FACTORINGS, ids=str)
def test_a_model_is_built_by_a_symbolic_call(name, factoring):
    model = subclassed(lambda: factored(name, **factoring))
    assert model(keras.KerasTensor((2, *LAYERS[name][1]))).shape[0] == 2
    assert_start(model.inner, stock_kernel(name))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_built_in_a_stateless_scope(name):
    layer = factored(name, depth=3)
    with keras.StatelessScope():
        inside = numpy(layer(inputs_of(name)))
    assert_start(layer, stock_kernel(name))
    np.testing.assert_allclose(inside, numpy(layer(inputs_of(name))), atol=1e-5)


class Fresh(keras.initializers.Initializer):
    """Other values at each call, as a seed generator gives, and a list of them."""

    def __init__(self):
        self.seeds = keras.random.SeedGenerator(1)
        self.samples = []

    def __call__(self, shape, dtype=None):
        self.samples.append(keras.random.normal(shape, dtype=dtype, seed=self.seeds))
        return self.samples[-1]


@pytest.mark.parametrize("factorization", ["balanced", "identity"])
@pytest.mark.parametrize("reads", [(0,), (1,), (1, 1, 0), (0, 1, 1)])
def test_all_factors_are_of_one_sample_whatever_was_read_of_them_before(factorization, reads):
    """Keras asks an initializer for values as often as a trace needs them, then once more."""
    initializer = Fresh()
    layer = FactoredDense(4, kernel_initializer=initializer, factorization=factorization)

    def read(x):
        layer.build((None, 6))
        for index in reads:
            x = x + ops.sum(layer.factors[index].value)
        return x

    assert subclassed_call(read).shape == (3, 6)
    sample = numpy(initializer.samples[-1])
    assert_start(layer, sample)
    model = keras.Sequential([keras.Input((6,)), layer])
    assert np.isfinite(model.predict(np.ones((2, 6)), verbose=0)).all()  # no symbols are left


def subclassed_call(function):
    """What a function returns for a symbol, in Keras's scopes for symbols."""

    class Model(keras.Model):
        def call(self, inputs):
            return function(inputs)

    return Model()(keras.KerasTensor((3, 6)))


def test_values_are_dropped_once_all_variables_have_theirs():
    def joint_starts():
        gc.collect()
        return sum(type(thing) is starts._JointStart for thing in gc.get_objects())

    before = joint_starts()
    layer = FactoredDense(4)
    layer.build((None, 6))
    model = keras.Sequential([FactoredDense(3)])
    model(keras.KerasTensor((2, 6)))
    assert joint_starts() == before


def test_independent_factors_with_a_generator_of_seeds_differ():
    seeds = keras.random.SeedGenerator(3)
    initializer = keras.initializers.HeNormal(seed=seeds)
    layer = FactoredDense(6, factorization="independent", depth=3, kernel_initializer=initializer)
    layer.build((None, 6))
    first, second, third = map(numpy, layer.factors)
    assert not np.allclose(first, second) and not np.allclose(second, third)


def test_a_sample_that_is_not_finite_is_refused():
    layer = FactoredDense(4, kernel_initializer=keras.initializers.Constant(np.nan), name="mine")
    with pytest.raises(ValueError, match=r"FactoredDense 'mine'.*not finite"):
        layer.build((None, 3))


# Models that are first built where they are used --------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_a_subclassed_model_keeps_its_weights_when_it_is_loaded(name, tmp_path):
    model = subclassed(lambda: factored(name, depth=3))
    x = inputs_of(name)
    expected = numpy(model(x))
    model.inner.set_weights([w + 0.01 for w in model.inner.get_weights()])
    moved = numpy(model(x))
    assert not np.allclose(moved, expected)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        numpy(keras.saving.load_model(tmp_path / "model.keras")(x)), moved
    )


METHODS = {
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "predict": lambda model, x, y: model.predict(x, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
    "predict_on_batch": lambda model, x, y: model.predict_on_batch(x),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_model_without_inputs_is_first_built_where_it_is_used(method, jit_compile):
    if jit_compile and BACKEND == "torch":
        pytest.skip("PyTorch's compiler is another matter")
    layer = factored("Dense", depth=3)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)
    x = inputs_of("Dense")
    METHODS[method](model, x, np.zeros((2, 5), "float32"))
    assert_start(layer, stock_kernel("Dense"))


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "Dense"])
def test_each_layer_trains_in_a_model_without_inputs(name):
    layer = factored(name)
    model = keras.Sequential([layer, layers.Flatten(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(inputs_of(name), np.zeros((2, 1)), verbose=0)
    assert_start(layer, stock_kernel(name))


def test_attention_trains_in_a_model_without_inputs():
    class Attending(keras.Model):
        def __init__(self):
            super().__init__()
            initializer = keras.initializers.HeNormal(seed=5)
            self.inner = keras_overparam.FactoredMultiHeadAttention(
                2, 3, kernel_initializer=initializer
            )

        def call(self, x):
            return self.inner(x, x)

    model = Attending()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    model.fit(x, x, verbose=0)
    stock = layers.MultiHeadAttention(2, 3, kernel_initializer=keras.initializers.HeNormal(seed=5))
    stock(x, x)
    kernels = [inner.kernel for inner in stock._layers if isinstance(inner, layers.EinsumDense)]
    for projection, kernel in zip(model.inner.projections, kernels, strict=True):
        assert_start(projection, numpy(kernel))
    np.testing.assert_allclose(numpy(model(x)), numpy(stock(x, x)), atol=1e-5)


# A stalled start ----------------------------------------------------------------------------------


STALLED = "is zero and will not train: at depth"


def at_zero(name, **arguments):
    kernel = "depthwise_initializer" if "Depthwise" in name else "kernel_initializer"
    return getattr(keras_overparam, f"Factored{name}")(
        **LAYERS[name][0], **{kernel: "zeros"}, name="head", **arguments
    )


def stalled(found):
    """Those of the warnings found, beside the backend's own."""
    return [text for text in (str(warning.message) for warning in found) if STALLED in text]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("factorization", ["balanced", "independent"])
def test_factors_that_all_start_at_zero_are_warned_of(name, factorization):
    layer = at_zero(name, factorization=factorization)
    with pytest.warns(UserWarning, match=f"Factored{name} 'head' {STALLED} 2.*identity"):
        layer(inputs_of(name))
    assert all(not numpy(factor).any() for factor in layer.factors)


def test_projections_that_start_at_zero_are_named():
    layer = keras_overparam.FactoredMultiHeadAttention(2, 3, kernel_initializer="zeros")
    with pytest.warns(UserWarning, match=STALLED) as found:
        layer.build((2, 4, 6), (2, 4, 6))
    named = [text.split("'")[1] for text in stalled(found)]
    assert named == ["query", "key", "value", "attention_output"]


def test_a_start_at_zero_is_warned_of_once_where_the_model_is_first_built_by_fit():
    model = subclassed(lambda: at_zero("Linear"))
    model.compile("sgd", "mse")
    x = inputs_of("Linear")
    with pytest.warns(UserWarning, match=STALLED) as found:
        model.fit(x, x[:, :5], verbose=0)
    assert len(stalled(found)) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"depth": 1}, {"factorization": "identity"}, {"depth": 4, "factorization": "identity"}],
    ids=str,
)
def test_zero_is_not_warned_of_where_it_trains(arguments):
    layer = at_zero("Linear", **arguments)
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile(keras.optimizers.SGD(0.3), "mse")
    x = inputs_of("Linear")
    model.fit(x, x[:, :5], verbose=0)
    assert numpy(layer.kernel).any()


def test_zero_is_not_warned_of_where_nothing_trains():
    layer = at_zero("Dense", trainable=False)
    layer.build((None, 8))
    layer.set_kernel(np.zeros((8, 5)))
    x = np.ones((1, 2, 6))
    kind = keras_overparam.FactoredMultiHeadAttention
    kind(2, 3, kernel_initializer="zeros", trainable=False)(x, x)


def test_a_kernel_that_is_set_to_zero_is_warned_of():
    layer = FactoredDense(5, depth=3, name="head")
    layer.build((None, 8))
    with pytest.warns(UserWarning, match=f"'head' {STALLED} 3"):
        layer.set_kernel(np.zeros((8, 5)))


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "Linear"])
def test_a_converted_kernel_of_zeros_is_warned_of(name):
    arguments, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), getattr(layers, name)(**arguments, name="head")])
    model.layers[0].kernel.assign(np.zeros(model.layers[0].kernel.shape))
    with pytest.warns(UserWarning, match=f"Factored{name} 'head' {STALLED} 2"):
        keras_overparam.overparameterize(model)
    keras_overparam.overparameterize(model, factorization="identity")
    model.layers[0].kernel.trainable = False
    keras_overparam.overparameterize(model)


def test_what_was_trained_from_zero_is_converted_saved_and_loaded_without_a_warning(tmp_path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(5, kernel_initializer="zeros")])
    model.layers[0].set_weights([np.ones((8, 5)), np.zeros(5)])
    keras_overparam.overparameterize(model).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.layers[0].exact_kernel(), 1, atol=1e-6)


# Each backend's own -------------------------------------------------------------------------------


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's")
class TestTensorFlow:
    @pytest.mark.parametrize("name", LAYERS)
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_first_call_in_a_graph(self, name, jit_compile):
        import tensorflow as tf

        made = [factored(name, **factoring) for factoring in FACTORINGS]
        tf.function(lambda x: [layer(x) for layer in made], jit_compile=jit_compile)(
            tf.constant(inputs_of(name))
        )
        for layer in made:
            assert_start(layer, stock_kernel(name))

    def test_all_factors_in_a_graph_are_of_one_sample(self):
        """The initializer draws anew in each run of its operation, and so must run once."""
        import tensorflow as tf

        layer = FactoredDense(
            4,
            depth=3,
            kernel_initializer=lambda shape, dtype=None: tf.random.normal(shape, dtype=dtype),
        )
        tf.function(lambda x: layer(x))(tf.ones((2, 6)))
        assert float(balancedness_gap([numpy(factor) for factor in layer.factors])) < 1e-5

    def test_in_the_scope_of_a_strategy(self):
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            layer = factored("Dense", depth=3)
            model = keras.Sequential([layer])
            model.compile(keras.optimizers.SGD(0.0), "mse")
        model.fit(inputs_of("Dense"), np.zeros((2, 5)), verbose=0)
        assert_start(layer, stock_kernel("Dense"))


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's")
class TestJAX:
    @pytest.mark.parametrize("large", [False, True])
    @pytest.mark.parametrize("spread", ["examples", "factors"])
    def test_in_a_distribution(self, spread, large, monkeypatch):
        """Keras compiles the initializer of a variable that is split over devices and large."""
        from keras import distribution
        from keras.src.backend.jax import core

        monkeypatch.setattr(core, "should_shard_at_init", lambda *_: large)
        devices = ["cpu:0", "cpu:1"]
        layouts = distribution.LayoutMap(distribution.DeviceMesh((1, 2), ("batch", "x"), devices))
        layouts[r".*/factor_\d"] = ("x", None)
        spreads = {
            "examples": lambda: distribution.DataParallel(devices=devices),
            "factors": lambda: distribution.ModelParallel(layout_map=layouts),
        }
        for factoring in FACTORINGS:
            even = factoring | ({"width": 6} if factoring["depth"] > 1 else {})
            with spreads[spread]().scope():
                layer = factored("Dense", **even)
                model = keras.Sequential([layer])
                model.predict(inputs_of("Dense"), verbose=0)
            assert len(layer.factors[0].value.devices()) == 2
            assert_start(layer, stock_kernel("Dense"))


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's")
class TestPyTorch:
    @pytest.mark.parametrize("name", LAYERS)
    def test_on_the_device_that_holds_no_values(self, name):
        for factoring in FACTORINGS:
            layer = factored(name, **factoring)
            with keras.StatelessScope(), keras.device("meta"):
                layer.build((2, *LAYERS[name][1]))
                assert all(str(f.value.device) == "meta" for f in layer.factors)
            assert_start(layer, stock_kernel(name))
