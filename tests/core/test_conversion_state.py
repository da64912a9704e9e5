"""Conversions carry all that layers keep, compare outputs, and refuse by name what they cannot."""

import collections

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_overparam import FactoredDense, FactoredLinear, collapse, overparameterize
from keras_overparam.conversion.comparing import compare, largest_difference

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, size=(16, 4)).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def assert_same(found, expected):
    expected = numpy(expected)
    np.testing.assert_allclose(numpy(found), expected, atol=1e-5 * np.abs(expected).max())


def there_and_back(model, x):
    """A model's conversion and what is collapsed from it, both of which compute the same."""
    expected = numpy(model(x))
    before = [numpy(variable) for variable in model.variables]
    deep = overparameterize(model)
    flat = collapse(deep)
    for each in (deep, flat):
        assert_same(each(x), expected)
    for variable, old in zip(model.variables, before, strict=True):  # seeds too
        np.testing.assert_array_equal(numpy(variable), old)
    return deep, flat


# What layers keep outside of their variables ------------------------------------------------------


def adapted(layer):
    layer.adapt(X)
    return layer


@keras.saving.register_keras_serializable(package="tests")
class Table(layers.Layer):
    """Keeps a NumPy array that is saved as an asset."""

    values = np.zeros(4)

    def call(self, x):
        return x + ops.cast(self.values, x.dtype)

    def save_assets(self, folder):
        np.save(f"{folder}/values.npy", self.values)

    def load_assets(self, folder):
        self.values = np.load(f"{folder}/values.npy")


@keras.saving.register_keras_serializable(package="tests")
class Stored(layers.Layer):
    """Keeps a NumPy array that is saved in a store of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.values = np.zeros(4, "float32")

    def call(self, x):
        return ops.multiply(x, ops.convert_to_tensor(self.values))

    def save_own_variables(self, store):
        store["values"] = self.values

    def load_own_variables(self, store):
        self.values = np.array(store["values"])


@keras.saving.register_keras_serializable(package="tests")
class Holder(layers.Layer):
    """Holds another layer and a `Dense`."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        self.dense = layers.Dense(4, bias_initializer="ones")

    def build(self, shape):
        if not self.inner.built:
            self.inner.build(shape)
        self.dense.build(shape)

    def call(self, x):
        return self.dense(self.inner(x))

    def get_config(self):
        return super().get_config() | {"inner": layers.serialize(self.inner)}

    @classmethod
    def from_config(cls, config):
        return cls(layers.deserialize(config.pop("inner")), **config)


def filled(layer):
    layer.values = np.arange(4, dtype="float32")
    return layer


KEEPERS = {
    "Normalization": lambda: adapted(layers.Normalization()),
    "Normalization, given": lambda: layers.Normalization(mean=2.0, variance=9.0),
    "Discretization": lambda: adapted(layers.Discretization(num_bins=3)),
    "assets": lambda: filled(Table()),
    "a store of its own": lambda: filled(Stored()),
}


@pytest.mark.parametrize("where", ["beside", "within", "held", "unchanged"])
@pytest.mark.parametrize("name", KEEPERS)
def test_what_a_layer_keeps_outside_of_its_variables_is_carried(name, where):
    layer = KEEPERS[name]()
    if where == "within":
        layer = keras.Sequential([keras.Input((4,)), layer])
    if where in ("held", "unchanged"):
        layer = Holder(layer)
    model = keras.Sequential(
        [keras.Input((4,)), layer, layers.Rescaling(0.5), layers.Dense(3, name="head")]
    )
    there_and_back(model, X)
    if where == "unchanged":
        assert_same(overparameterize(model, layers="head")(X), model(X))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="strings are TensorFlow's")
def test_vocabularies_are_carried():
    words = np.array([["the cat"], ["a dog and the cat"]])
    vectorize = layers.TextVectorization(output_sequence_length=4)
    vectorize.adapt(words)
    lookup = layers.StringLookup(output_mode="multi_hot")
    lookup.adapt(words)
    text = keras.Input((1,), dtype="string")
    embedded = layers.Flatten()(layers.Embedding(9, 4)(vectorize(text)))
    merged = layers.Concatenate()([embedded, lookup(text)])
    model = keras.Model(text, layers.Dense(3)(merged))
    import tensorflow as tf

    there_and_back(model, tf.constant(words))


def test_random_generators_go_on_where_they_were():
    class Sampling(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x):
            return x + keras.random.normal(ops.shape(x), seed=self.seeds)

    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), Sampling()])
    model(X)  # the next numbers are not the first
    deep = overparameterize(model)
    assert_same(deep(X), model(X))
    assert_same(collapse(deep)(X), model(X))


def test_what_is_frozen_stays_frozen_variable_by_variable():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    model.layers[0].kernel.trainable = False
    model.layers[1].beta.trainable = False
    deep, flat = there_and_back(model, X)
    factors_and_bias = [variable.trainable for variable in deep.layers[0].variables]
    assert factors_and_bias == [False, False, True]
    assert {v.path: v.trainable for v in flat.weights} == {
        v.path: v.trainable for v in model.weights
    }
    trainable = {v.path.split("/")[-1] for v in deep.trainable_variables}
    assert trainable == {"bias", "gamma"}


# Models that were refused or spoilt ---------------------------------------------------------------


@keras.saving.register_keras_serializable(package="tests")
class BuiltEarly(layers.Layer):
    """Its `from_config` gives it its weights, as KerasHub's decoder does."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)

    @classmethod
    def from_config(cls, config):
        layer = cls(**config)
        layer.build((None, 4))
        return layer


def test_a_layer_that_its_configuration_already_builds():
    model = keras.Sequential([keras.Input((4,)), BuiltEarly(), layers.Dense(2)])
    deep, _ = there_and_back(model, X)
    assert isinstance(deep.layers[0].dense, FactoredDense)


class Unbuilding(layers.Layer):
    """Has no `build`: what it holds is built when it is first called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = [layers.Dense(5), layers.LayerNormalization(), layers.Dense(4)]

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


@pytest.mark.parametrize("chosen", [None, "head"])
def test_a_layer_without_a_build_of_its_own(chosen):
    model = keras.Sequential([layers.Dense(4), Unbuilding(), layers.Dense(2, name="head")])
    model(X)
    model.set_weights([RNG.normal(size=w.shape) for w in model.get_weights()])
    deep = overparameterize(model, layers=chosen)
    assert_same(deep(X), model(X))
    assert_same(collapse(deep)(X), model(X))


class Wordless(layers.Layer):
    """Cannot be made from a configuration; whoever holds it makes it."""

    def __init__(self, units, name):
        super().__init__(name=name)
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return ops.relu(self.dense(x))


@keras.saving.register_keras_serializable(package="tests")
class Making(layers.Layer):
    """Makes such layers itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = Wordless(5, name="first")
        self.second = Wordless(4, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 5))

    def call(self, x):
        return self.second(self.first(x))


@keras.saving.register_keras_serializable(package="tests")
class Outer(keras.Model):
    """Holds a layer that makes its layers itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.making = Making()

    def call(self, x):
        return self.making(x)


def test_layers_that_their_holders_make_need_no_configuration(tmp_path):
    model = Outer()
    model(X)
    deep, flat = there_and_back(model, X)
    assert isinstance(deep.making.second.dense, FactoredDense)
    for untold in (deep, overparameterize(model, depth=1)):
        with pytest.raises(ValueError, match="'making' itself.*save_weights"):
            untold.save(tmp_path / "model.keras")  # also after its configuration was asked for
    flat.save(tmp_path / "model.keras")
    assert_same(keras.models.load_model(tmp_path / "model.keras")(X), flat(X))


@keras.saving.register_keras_serializable(package="tests")
class Factored(keras.Model):
    """Makes a factored layer itself."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = FactoredDense(3)

    def call(self, x):
        return self.head(x)


def test_what_its_class_makes_factored_cannot_be_saved_collapsed_and_says_so(tmp_path):
    model = Factored()
    model(X)
    flat = collapse(model)
    assert_same(flat(X), model(X))
    with pytest.raises(
        ValueError, match="'factored' makes .*are converted.*class make stock layers"
    ):
        flat.save(tmp_path / "model.keras")


@keras.saving.register_keras_serializable(package="tests")
class Tempered(keras.Model):
    """Has a variable and layers without names, which Keras numbers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(4), layers.Dense(4)]
        self.temperature = self.add_weight(shape=(), initializer="ones")
        self.shift = keras.Variable(np.zeros(4, "float32"))

    def call(self, x):
        return self.blocks[1](self.blocks[0](x)) * self.temperature + self.shift


def test_what_is_collapsed_is_saved_whatever_keras_numbers(tmp_path):
    model = Tempered()
    model(X)
    model.temperature.assign(3.0)
    _, flat = there_and_back(model, X)
    flat.save(tmp_path / "model.keras")
    assert_same(keras.saving.load_model(tmp_path / "model.keras")(X), model(X))


@keras.saving.register_keras_serializable(package="tests")
class Twice(Holder):
    """Is given a layer, and makes another one of the same name."""

    def __init__(self, inner, **kwargs):
        super().__init__(inner, **kwargs)
        self.dense = layers.Dense(4, name="same")


def test_a_configuration_that_tells_of_one_of_two_layers_of_a_name_is_not_saved(tmp_path):
    model = keras.Sequential([keras.Input((4,)), Twice(layers.Dense(4, name="same"), name="twice")])
    deep, flat = there_and_back(model, X)
    with pytest.raises(ValueError, match="'twice' makes 'same'.* itself"):
        deep.save(tmp_path / "model.keras")
    flat.save(tmp_path / "model.keras")
    assert_same(keras.saving.load_model(tmp_path / "model.keras")(X), model(X))


class Peeking(keras.Model):
    """Looks into a part of a layer that only the stock one has."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4)
        self.outer = layers.Dense(4)

    def call(self, x):
        return self.outer(ops.matmul(x, ops.convert_to_tensor(self.inner._kernel)))


@pytest.mark.filterwarnings("ignore:Layer 'peeking' looks like it has unbuilt state:UserWarning")
def test_a_conversion_that_cannot_be_called_is_refused():
    model = Peeking(name="peeking")
    model.inner.build((None, 4))
    model(X)
    with pytest.raises(ValueError, match="'peeking', a Peeking,.*calling it failed: .*_kernel"):
        overparameterize(model)
    assert_same(overparameterize(model, layers=lambda x: x is model.outer)(X), model(X))


class Renewed(keras.Model):
    """Two layers of the same shape, the first of which is replaced later."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.Dense(4)
        self.second = layers.Dense(4)

    def call(self, x):
        return self.second(ops.tanh(self.first(x)))


@pytest.mark.filterwarnings("ignore:`build:UserWarning")  # of the layer that Keras keeps, unbuilt
def test_layers_are_told_apart_by_where_they_are_held_and_not_by_order():
    model = Renewed()
    model.first = layers.Dense(4, name="new")
    model(X)
    assert [layer.name for layer in model._layers][2:] == ["new"]  # Keras lists the old one, too
    _, flat = there_and_back(model, X)
    for value, other in zip(flat.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-5)
    assert [w.path for w in flat.weights] == [w.path for w in model.weights]
    assert_same(overparameterize(model, layers="new")(X), model(X))


@keras.saving.register_keras_serializable(package="tests")
class Listing(layers.Layer):
    """Lists layers in an attribute that a model of them takes over."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.steps = [layers.Dense(5, "relu"), layers.Dense(4)]
        self.steps = keras.Sequential(self.steps)

    def build(self, shape):
        self.steps.build(shape)

    def call(self, x):
        return self.steps(x)


def test_layers_that_are_held_by_a_model_that_is_held():
    model = keras.Sequential([keras.Input((4,)), Listing(), layers.Dense(2)])
    deep, flat = there_and_back(model, X)
    assert isinstance(deep.layers[0].steps.layers[1], FactoredDense)
    assert len(deep.layers[0].weights) == 6 and len(flat.weights) == len(model.weights)


def test_a_lambda_keeps_its_function():
    scale = 2.0
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Lambda(lambda x, by: scale * by * x, arguments={"by": 3.0}, name="times"),
            layers.Dense(3),
        ]
    )
    deep, _ = there_and_back(model, X)
    assert deep.layers[0].name == "times"


def test_a_kernel_that_a_wrapper_uses_is_left_alone_with_it():
    model = normalized()
    model.add(layers.Dense(2, name="head"))
    deep = overparameterize(model, layers="head")
    assert_same(deep(X), model(X))
    assert deep.layers[0].kernel is deep.layers[0].layer.kernel


@keras.saving.register_keras_serializable(package="tests")
class Network(keras.Model):
    """A functional model that its constructor makes, as those of KerasHub are."""

    def __init__(self, scale=2.0, **kwargs):
        x = keras.Input((4,))
        making = Making()
        super().__init__(x, layers.BatchNormalization()(scale * making(x)), **kwargs)
        self.making, self.scale = making, scale

    def scaled(self, x):
        return self(x) / self.scale

    def get_config(self):
        return {"scale": self.scale, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_a_model_that_its_class_makes_keeps_its_class(tmp_path):
    network = Network(3.0)
    x = keras.Input((4,))
    for model in (network, keras.Model(x, layers.Dense(2)(network(x)))):
        model.set_weights([RNG.normal(size=w.shape) ** 2 for w in model.get_weights()])
        deep, flat = there_and_back(model, X)
        inner = deep if model is network else deep.layers[1]
        assert type(inner) is Network
        assert_same(inner.scaled(X), network.scaled(X))
        with pytest.raises(ValueError, match="save_weights"):
            deep.save(tmp_path / "model.keras")
        flat.save(tmp_path / "model.keras")
        assert_same(keras.models.load_model(tmp_path / "model.keras")(X), flat(X))
    assert isinstance(deep.layers[1].making.first.dense, FactoredDense)


def test_strings_beside_numbers_are_compared():
    if BACKEND != "tensorflow":
        pytest.skip("strings are TensorFlow's")
    words, x = keras.Input((1,), dtype="string"), keras.Input((4,))
    found = layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")(words)
    model = keras.Model([words, x], layers.Dense(3)(layers.Concatenate()([found, x])))
    texts = []
    collapse(overparameterize(model, report=texts.append), report=texts.append)
    assert all("Largest difference" in text for text in texts)


def test_a_linear_map_without_a_bias():
    model = keras.Sequential([keras.Input((4,)), FactoredLinear(3)])
    assert_same(collapse(model)(X), model(X))


def test_lora_is_merged_into_the_kernel_that_is_factored():
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.Dense(3)(attention(x, x)))
    model.layers[-1].enable_lora(2)
    attention.query_dense.enable_lora(1)
    model.set_weights([RNG.normal(size=w.shape) for w in model.get_weights()])
    deep, flat = there_and_back(model, RNG.normal(size=(2, 5, 4)))
    assert all(factor.trainable for factor in deep.layers[-1].factors)
    assert not any(layer.lora_enabled for layer in (flat.layers[-1],))
    kept = overparameterize(model, layers="attention")  # LoRA's weights stay as they are
    for value, old in zip(
        kept.layers[-1].get_weights(), model.layers[-1].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, old)


def quantized():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="small")])
    model.layers[0].quantize("int8")
    return model


def normalized():
    inner = layers.Dense(3, name="small")
    return keras.Sequential([keras.Input((4,)), layers.SpectralNormalization(inner)])


class Tied(layers.Layer):
    """Multiplies by the transpose of a kernel that another layer made."""

    def __init__(self, kernel=None, **kwargs):
        super().__init__(**kwargs)
        if kernel is None:
            kernel = self.add_weight(shape=(4, 3), name="kernel")
        self.kernel = kernel

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.kernel))

    def get_config(self):
        return {"name": self.name}


def tied():
    dense = layers.Dense(3, name="small")
    dense.build((None, 4))
    return keras.Sequential(
        [keras.Input((4,)), dense, Tied(dense.kernel, name="tied"), layers.Dense(2, name="head")]
    )


class Computing(keras.Model):
    """A functional model that computes something else than its graph."""

    def __init__(self, units):
        x = keras.Input((4,))
        super().__init__(x, layers.Dense(units, name="small")(x), name="own")

    def call(self, x, training=None):
        return 2 * super().call(x, training=training)


def computing():
    return Computing(3)


class Forgetful(layers.Layer):
    """Keeps something that is not saved."""

    scale = 1.0

    def call(self, x):
        return self.scale * x


def forgetful():
    layer = Forgetful(name="forgetful")
    layer.scale = 3.0
    return keras.Sequential([keras.Input((4,)), layer, layers.Dense(3, name="small")])


class Scaled(keras.Model):
    """Keeps plain values that its configuration does not tell of."""

    def __init__(self, at=("training",), **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.at = at
        self.scale, self.sizes, self.unknown, self._passes = 1.0, (1, 2), float("nan"), 0

    def call(self, x, training=False):
        self._passes += 1
        used = "training" if training else "inference"
        return self.dense(x) * (self.scale if used in self.at else 1.0)

    def get_config(self):
        return {"name": self.name, "at": self.at}


def scaled(*at):
    model = Scaled(at, name="scaled")
    model(X)
    model.scale = 3.0
    return model


def test_plain_values_that_are_not_carried_are_named():
    model = scaled("training")
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, X[:, :3], verbose=0)
    model.predict(X, verbose=0)
    with pytest.warns(UserWarning, match=r"in the conversion scaled.scale is 1.0 and not 3.0. Let"):
        deep = overparameterize(model)
    deep.scale = 3.0
    with pytest.warns(UserWarning, match=r"in the conversion scaled.scale is 1.0 and not 3.0. Let"):
        collapse(deep)
    model.scale, model.sizes = 1.0, (1, 3)
    with pytest.warns(
        UserWarning, match=r"in the conversion scaled.sizes is \(1, 2\) and not \(1,"
    ):
        overparameterize(model)
    model.sizes = (1, 2)
    there_and_back(model, X)


def constrained():
    dense = layers.Dense(3, kernel_constraint="non_neg", name="small")
    return keras.Sequential([keras.Input((4,)), dense])


def diverged():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="small")])
    model.set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    return model


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            quantized,
            r"'small' of the class Dense .* is quantized.* leave the layer out by `layers`",
        ),
        (constrained, r"'small' .* `kernel_constraint`.* regularizer .* or leave the layer out"),
        (diverged, r"'small' .* not finite.* Load weights .* or leave the layer out"),
        (normalized, r"SpectralNormalization .* variable of the layer 'small'.* Leave 'small' out"),
        (tied, r"'tied' of the class Tied .* variable of the layer 'small'.* Leave 'small' out"),
        (computing, r"'own' of the class Computing .* has a `call` of its own"),
        (forgetful, r"something else, first in the layer 'forgetful': .* for saving"),
        (
            lambda: scaled("inference"),
            r"'scaled', .* \(scaled.scale is 1.0 and not 3.0\).* plain values in its configuration",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(make, sentence):
    model = make()
    with pytest.raises(ValueError, match=sentence):
        overparameterize(model)


def test_a_variable_of_two_layers_does_not_become_two():
    with pytest.raises(ValueError, match=r"'tied'.*variable of the layer 'small'"):
        overparameterize(tied(), layers="head")


# Comparing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", [False, True])
def test_sequential_models_are_compared(fitted):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    if fitted:
        model.compile("sgd", "mse")
        model.fit(X, X[:, :3], verbose=0)
    texts = []
    collapse(overparameterize(model, report=texts.append), report=texts.append)
    for text in texts:
        difference = float(text.split("outputs: ")[1].split()[0])
        assert difference < 1e-6


class Several(keras.Model):
    """Takes two arguments, of which Keras remembers the first."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, x, scale):
        return self.dense(x) * scale


def test_what_cannot_be_compared_is_said_with_the_reason():
    model = Several(name="several")
    model(X, scale=2.0)
    with pytest.warns(UserWarning, match=r"'several'.*not compared: calling it failed: .*scale"):
        overparameterize(model)


class Looking(keras.Model):
    """Looks up what it is given, and says no to what is not there."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)

    def call(self, features):
        return self.dense(features["values"]) * features["scale"]


def test_inputs_to_compare_on_are_taken():
    model = Looking(name="looking")
    x = {"values": X, "scale": np.ones(1, "float32")}
    model(x)
    texts = []
    overparameterize(model, inputs=x, report=texts.append)
    assert "Largest difference of the outputs: " in texts[0]
    with pytest.raises(ValueError, match="`inputs` must be what 'looking' can be called with: "):
        overparameterize(model, inputs=X)


def test_random_outputs_are_not_compared():
    class Noise(layers.Layer):
        def call(self, x):
            return x + ops.convert_to_tensor(RNG.normal(size=(2, 4)).astype("float32"))

    model = keras.Sequential([layers.Dense(4), Noise()])
    model(X[:2])
    with pytest.warns(UserWarning, match="outputs are random"):
        overparameterize(model)


def test_differences_are_judged_by_what_rounding_does_to_this_model():
    """Large terms that cancel: outputs are known to few digits, and that is no fault."""
    x = keras.Input((4,))
    y = layers.Dense(8)(x)
    ill = keras.Model(x, y - layers.Rescaling(1.0, 3e-4)(y) + 1e-6 * layers.Dense(8)(x))
    for layer in ill.layers:
        if isinstance(layer, layers.Dense):
            layer.kernel.assign(100 * RNG.normal(size=(4, 8)))
    deep = overparameterize(ill)
    found = compare(ill, deep)
    assert found.same
    deep.layers[1].factors[0].assign(1.1 * deep.layers[1].factors[0])
    wrong = overparameterize(keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a")]))
    right = collapse(wrong)
    wrong.layers[0].factors[0].assign(1.001 * wrong.layers[0].factors[0])
    found = compare(right, wrong)
    assert not found.same and found.difference == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_low_precision_is_compared_in_its_own_digits(policy):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,))])
    for units in (16, 16, 3):
        model.add(layers.Dense(units, "gelu", dtype=policy))
    deep = overparameterize(model)
    assert compare(model, deep).same
    deep.layers[1].factors[0].assign(2 * deep.layers[1].factors[0])
    assert not compare(model, deep).same


def test_differences_of_outputs_of_all_kinds():
    for expected, found, difference in [
        ([2.0, 4.0], [2.0, 3.0], 0.25),
        ([0.0, 0.0], [0.0, 3.0], 3.0),
        ([np.nan, np.inf], [np.nan, np.inf], 0.0),
        ([np.nan, 1.0], [0.0, 1.0], np.inf),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        (["a", "b"], ["a", "b"], 0.0),
        (["a", "b"], ["a", "c"], np.inf),
        ([1, 2], [1, 2], 0.0),
        ([True, False], [True, True], 1.0),
        ([1.0], [1.0, 1.0], np.inf),
    ]:
        assert largest_difference([np.array(expected)], [np.array(found)]) == difference


# What belongs to no layer, or to an unusual place ------------------------------------------------


def tied_decoder():
    x = keras.Input((4,))
    encoder = layers.Dense(3, use_bias=False, name="encoder")
    return keras.Model(x, ops.einsum("ab,cb->ac", encoder(x), encoder.kernel))


def tied_by_a_function():
    x = keras.Input((4,))
    encoder = layers.Dense(3, use_bias=False, name="encoder")
    decoded = layers.Lambda(lambda y: ops.matmul(y, ops.transpose(encoder.kernel)))
    return keras.Model(x, decoded(encoder(x)))


@pytest.mark.parametrize("made", [tied_decoder, tied_by_a_function])
def test_a_variable_that_an_operation_or_a_function_reads_is_not_shared_with_the_copy(made):
    model = made()
    with pytest.raises(ValueError, match="it reads 'encoder/kernel' of the given model"):
        overparameterize(model)


@pytest.mark.parametrize("shared", [False, True])
def test_an_activation_with_weights(shared):
    slope = layers.PReLU("uniform")
    again = slope if shared else layers.PReLU("uniform")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, slope), layers.Dense(4, again), layers.Dense(2)]
    )
    model(X)
    for _ in range(2):
        deep, _ = there_and_back(model, X)
    assert len(deep.weights) == len(model.weights) + 3
    assert (deep.layers[0].activation is deep.layers[1].activation) == shared
    deep.compile("sgd", "mse")
    deep.fit(X, np.ones((16, 2)), verbose=0)
    assert_same(collapse(deep)(X), deep(X))
    assert_same(deep.layers[0].collapse()(X), deep.layers[0](X))


def test_functions_without_a_name_go_along():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, activation=lambda x: x * 2, kernel_regularizer=lambda x: ops.sum(x**2)),
            layers.Dense(3),
        ]
    )
    model(X)
    there_and_back(model, X)
    there_and_back(overparameterize(model, layers=lambda x: x is model.layers[1]), X)


class Plain(keras.Model):
    """The commonest kind: its constructor takes nothing."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(5, "relu")
        self.head = layers.Dense(3)

    def call(self, x):
        return self.head(self.hidden(x))


def test_a_class_whose_constructor_takes_nothing_is_made_by_it():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = Plain()
    finally:
        keras.config.set_dtype_policy("float32")
    model(X)
    deep, flat = there_and_back_in_low_precision(model)
    assert type(deep) is type(flat) is Plain
    assert deep.hidden.compute_dtype == flat.hidden.compute_dtype == "bfloat16"


def there_and_back_in_low_precision(model):
    deep = overparameterize(model)
    flat = collapse(deep)
    for each in (deep, flat):
        np.testing.assert_allclose(
            numpy(ops.cast(each(X), "float32")), numpy(ops.cast(model(X), "float32")), atol=0.5
        )
    return deep, flat


def test_a_graph_keeps_its_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    finally:
        keras.config.set_dtype_policy("float32")
    for each in there_and_back_in_low_precision(model):
        assert each.dtype_policy.name == "mixed_bfloat16"


def test_states_of_recurrent_layers():
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((5, 4), batch_size=2), layers.LSTM(3, stateful=True), layers.Dense(3)]
    )
    model(x)
    deep = overparameterize(model)
    assert_same(deep(x), model(x))


def test_paths_within_wrappers():
    x = keras.Input((5, 4))
    model = keras.Model(x, layers.Dense(3)(layers.Bidirectional(layers.GRU(2))(x)))
    paths = [weight.path for weight in model.weights if weight.path.startswith("bidirectional")]
    for each in there_and_back(model, np.random.default_rng(0).normal(size=(2, 5, 4))):
        assert [w.path for w in each.weights if "gru" in w.path] == paths


Pair = collections.namedtuple("Pair", "first second")


@keras.saving.register_keras_serializable(package="tests")
class Named(keras.Model):
    """Holds its layers in a tuple with names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.both = Pair(layers.Dense(4), layers.Dense(4))

    def call(self, x):
        return self.both.first(x) * self.both.second(x)


def test_layers_in_a_tuple_with_names():
    model = Named()
    model(X)
    deep, _ = there_and_back(model, X)
    assert isinstance(deep.both.second, FactoredDense)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"layers": lambda layer: 1 / 0}, ZeroDivisionError, "^division by zero$"),
        ({"width": 0}, ValueError, "^`width` must be"),
        ({"width": [3, 4]}, ValueError, "^`width` must"),
    ],
)
def test_mistakes_in_arguments_are_not_blamed_on_a_layer(arguments, error, words):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    with pytest.raises(error, match=words):
        overparameterize(model, **arguments)


# Models without weights ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="tests")
class WithTable(layers.Layer):
    """Keeps a layer that it uses without calling it, as `TextVectorization` its `StringLookup`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = Table()

    def build(self, shape):
        self.built = True

    def call(self, x):
        return self.table.call(x)


def test_a_layer_without_a_build_of_its_own_is_not_waited_for():
    x = keras.Input((4,))
    model = keras.Model(x, WithTable()(x))
    assert not model.layers[-1].table.built
    assert_same(collapse(model)(X), X)
