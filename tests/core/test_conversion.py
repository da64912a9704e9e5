"""overparameterize and collapse: the same function, there and back, for models of every kind."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_overparam import (
    FactoredConv2D,
    FactoredDense,
    FactoredEinsumDense,
    FactoredMultiHeadAttention,
    balancedness_gap,
    collapse,
    overparameterize,
)
from keras_overparam.layers import FactoredKernel

RNG = np.random.default_rng(0)


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def nested():
    """A functional model that calls a model within it twice, and shares a frozen layer with it."""
    shared = layers.Dense(8, name="shared")
    inside = keras.Input((8,), name="inside")
    inner = keras.Model(inside, layers.Dense(8, "relu", name="last")(shared(inside)), name="inner")
    x = keras.Input((8,), name="features")
    y = inner(ops.relu(shared(inner(x))) + 1)
    model = keras.Model(x, layers.Dense(3, name="head", kernel_regularizer="l2")(y), name="nested")
    shared.trainable = False
    return model, RNG.normal(size=(4, 8)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """Layers in an attribute under two names, a list and a dictionary; one of them frozen."""

    def __init__(self, units=7, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(9)
        self.alias = self.first
        self.middle = [layers.Dense(units), layers.Dropout(0.5)]
        self.ends = {"mean": layers.Dense(5), "scale": layers.BatchNormalization()}
        self.middle[0].trainable = False

    def call(self, x, training=False):
        x = self.middle[1](self.middle[0](self.first(x)), training=training)
        return self.ends["scale"](self.ends["mean"](x), training=training)


def subclassed():
    model, x = Subclassed(), RNG.normal(size=(4, 8)).astype("float32")
    model(x)
    return model, x


def transformer():
    x = keras.Input((5, 12))
    y = layers.LayerNormalization()(layers.MultiHeadAttention(2, 6, name="attention")(x, x) + x)
    z = layers.Dense(12)(layers.Dense(24, "gelu")(y))
    model = keras.Model(x, layers.LayerNormalization()(y + z))
    return model, RNG.normal(size=(2, 5, 12)).astype("float32")


def wrapped():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(5, 3, activation="relu"),
            layers.DepthwiseConv2D(3),
            layers.Reshape((4, 5)),
            layers.TimeDistributed(layers.Dense(4)),
            layers.Flatten(),
            layers.Dense(2, dtype="float32"),
        ]
    )
    return model, RNG.normal(size=(2, 6, 6, 3)).astype("float32")


MODELS = [nested, subclassed, transformer, wrapped]


def relative_difference(found, expected):
    found, expected = numpy(found), numpy(expected)
    return np.abs(found - expected).max() / np.abs(expected).max()


def factored_layers(model):
    found, ahead = [], [model]
    while ahead:
        layer = ahead.pop()
        found += [layer] if isinstance(layer, FactoredKernel) and layer not in found else []
        ahead += layer._layers
    return found


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("make", MODELS)
def test_there_and_back_without_changing_the_function(make, depth):
    model, x = make()
    model.set_weights([RNG.normal(size=w.shape) ** 2 / 3 for w in model.get_weights()])
    before = [w.copy() for w in model.get_weights()]
    expected = model(x)
    deep = overparameterize(model, depth)
    assert relative_difference(deep(x), expected) < 1e-5
    assert deep.count_params() > model.count_params()
    for layer in factored_layers(deep):
        assert float(balancedness_gap([numpy(f) for f in layer.factors])) < 1e-4
    flat = collapse(deep)
    assert relative_difference(flat(x), expected) < 1e-5
    assert not factored_layers(flat)
    assert flat.count_params() == model.count_params()
    assert [w.path for w in flat.weights] == [w.path for w in model.weights]
    assert [w.trainable for w in flat.weights] == [w.trainable for w in model.weights]
    for value, original in zip(flat.get_weights(), before, strict=True):
        np.testing.assert_allclose(value, original, atol=1e-5 * max(np.abs(original).max(), 1))
    for value, original in zip(model.get_weights(), before, strict=True):  # untouched
        np.testing.assert_array_equal(value, original)
    again = collapse(flat)  # of no effect
    for value, other in zip(again.get_weights(), flat.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_shared_layers_stay_shared_and_frozen_ones_frozen():
    model, _ = nested()
    deep = overparameterize(model)
    inner = deep.get_layer("inner")
    assert deep.get_layer("shared") is inner.get_layer("shared")
    assert isinstance(deep.get_layer("shared"), FactoredDense)
    assert not deep.get_layer("shared").trainable
    assert deep.get_layer("head").trainable and inner.get_layer("last").trainable
    assert [layer.name for layer in deep.layers] == [layer.name for layer in model.layers]
    assert deep.name == "nested"
    model, _ = subclassed()
    deep = overparameterize(model)
    assert deep.alias is deep.first and isinstance(deep.first, FactoredDense)
    assert [layer.name for layer in deep._layers] == [layer.name for layer in model._layers]
    assert not deep.middle[0].trainable and deep.first.trainable


def test_a_layer_that_two_layers_hold_stays_one():
    @keras.saving.register_keras_serializable(package="tests")
    class Holder(layers.Layer):
        def __init__(self, inner, **kwargs):
            super().__init__(**kwargs)
            self.inner = inner

        def build(self, input_shape):
            if not self.inner.built:
                self.inner.build(input_shape)

        def call(self, x):
            return self.inner(x)

        def get_config(self):
            return super().get_config() | {"inner": layers.serialize(self.inner)}

        @classmethod
        def from_config(cls, config):
            return cls(layers.deserialize(config.pop("inner")), **config)

    dense = layers.Dense(4)
    model = keras.Sequential(
        [keras.Input((4,)), Holder(dense), Holder(dense), layers.Dense(4, name="other")]
    )
    for chosen, kind in (("other", layers.Dense), (None, FactoredDense)):
        deep = overparameterize(model, layers=chosen)
        assert deep.layers[0].inner is deep.layers[1].inner
        assert type(deep.layers[0].inner) is kind
        assert len(collapse(deep).weights) == len(model.weights)


def stem_body_and_head():
    return keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            layers.Conv2D(3, 3, name="stem"),
            layers.Flatten(),
            layers.Dense(4, name="body"),
            layers.Dense(2, name="head"),
        ]
    )


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (lambda model: layers.Conv2D, {"stem"}),
        (lambda model: "^he", {"head"}),
        (lambda model: lambda layer: layer.name == "body", {"body"}),
        (lambda model: model.get_layer("body"), {"body"}),
        (lambda model: ["head", layers.Conv2D], {"stem", "head"}),
        (lambda model: [model.get_layer("body"), "head"], {"body", "head"}),
    ],
)
def test_which_layers(chosen, names):
    model = stem_body_and_head()
    deep = overparameterize(model, layers=chosen(model))
    assert {layer.name for layer in factored_layers(deep)} == names
    assert isinstance(deep.get_layer("stem"), FactoredConv2D) == ("stem" in names)


def test_where_none_is_chosen_it_is_said_why():
    model = stem_body_and_head()
    with pytest.raises(ValueError, match=r"There are 'stem' \(Conv2D\), .*\.Conv1D'>$"):
        overparameterize(model, layers=layers.Conv1D)
    with pytest.raises(ValueError, match=r"factored already, collapse\(\) it first"):
        overparameterize(overparameterize(model))


def test_what_a_stock_layer_has_no_counterpart_for_is_reported():
    kept, lost = (
        FactoredDense(3, name="kept"),
        FactoredDense(3, factor_regularizer="l2", name="lost"),
    )
    texts = []
    flat = collapse(keras.Sequential([keras.Input((4,)), kept, lost]), report=texts.append)
    assert flat.losses == [] and "Without their factor_regularizer: lost." in texts[0]


def test_attention_is_factored_as_a_whole_and_saved(tmp_path):
    model, x = transformer()
    model.get_layer("attention")._layers[1].trainable = False
    deep = overparameterize(model, 3, [12, 12], layers=["dense", layers.MultiHeadAttention])
    frozen = [not layer.trainable for layer in deep.get_layer("attention").projections]
    assert frozen == [False, True, False, False]
    assert type(deep.get_layer("attention")) is FactoredMultiHeadAttention
    names = [layer.name for layer in deep.get_layer("attention").projections]
    assert names == ["query", "key", "value", "attention_output"]
    deep.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert relative_difference(loaded(x), deep(x)) == 0
    loaded.compile("sgd", "mse")
    loaded.fit(x, np.zeros(x.shape), verbose=0)
    assert relative_difference(collapse(loaded)(x), loaded(x)) < 1e-5
    assert type(collapse(loaded).get_layer("attention")) is layers.MultiHeadAttention


def test_attention_that_is_factored_in_part_says_that_it_cannot_be_saved(tmp_path):
    model, x = transformer()
    deep = overparameterize(model, layers="query")
    assert isinstance(deep.get_layer("attention")._query_dense, FactoredEinsumDense)
    with pytest.raises(ValueError, match=r"attention.*query.*save_weights"):
        deep.save(tmp_path / "model.keras")
    deep.save_weights(tmp_path / "model.weights.h5")
    other = overparameterize(transformer()[0], layers="query")
    other.load_weights(tmp_path / "model.weights.h5")
    assert relative_difference(other(x), deep(x)) == 0
    flat = collapse(deep)
    assert relative_difference(flat(x), deep(x)) < 1e-5
    flat.save(tmp_path / "model.keras")
    assert relative_difference(keras.models.load_model(tmp_path / "model.keras")(x), flat(x)) == 0


def test_a_factored_model_is_saved_and_loaded(tmp_path):
    """(A model that shares a layer with one within it is not: Keras 3.15 cannot load such.)"""
    inner, x = wrapped()
    outer = keras.Sequential([keras.Input(x.shape[1:]), inner, layers.Dense(3)])
    for model in (inner, outer):
        deep = overparameterize(model, 3)
        deep.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        for one, other in zip(loaded.get_weights(), deep.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        # PyTorch's threads may share the sums of a convolution otherwise each time.
        assert relative_difference(loaded(x), deep(x)) < 1e-6


def test_training_the_converted_model_and_collapsing_it():
    model, x = wrapped()
    deep = overparameterize(model)
    deep.compile(keras.optimizers.SGD(0.01), loss="mse")
    deep.fit(np.repeat(x, 8, 0), np.ones((16, 2)), batch_size=4, epochs=12, verbose=0)
    assert relative_difference(deep(x), model(x)) > 1e-3
    assert relative_difference(collapse(deep)(x), deep(x)) < 1e-5


@pytest.mark.parametrize("make", [nested, subclassed, wrapped])
def test_a_compiled_model_stays_compiled_and_its_copy_is_not(make):
    model, x = make()
    model.compile("adam", loss=lambda y, found: ops.mean((y - found) ** 2))  # has no configuration
    deep = overparameterize(model)
    assert model.compiled and not deep.compiled and not collapse(deep).compiled
    model.fit(x, numpy(model(x)), verbose=0)


def squared(y, found):  # has no configuration either, but is there
    return ops.mean((y - found) ** 2, axis=-1)


@pytest.mark.parametrize("make", [nested, subclassed, wrapped])
def test_how_a_model_is_compiled_is_carried_over_if_that_is_asked_for(make):
    model, x = make()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.5)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, clipnorm=1.0)
    model.compile(optimizer, loss=squared, metrics=["mae"], run_eagerly=False, jit_compile=False)
    y = numpy(model(x)) + 1
    model.fit(x, y, verbose=0)
    said = []
    deep = overparameterize(model, compile=True, report=said.append)
    assert "ompiled" not in said[0]
    flat = collapse(deep, compile=True)
    for new in (deep, flat):
        assert new.optimizer is not model.optimizer and int(new.optimizer.iterations) == 0
        assert new.optimizer.get_config() == model.optimizer.get_config()
        expected, found = (m.evaluate(x, y, verbose=0, return_dict=True) for m in (model, new))
        assert found == pytest.approx(expected, rel=1e-4)
    before = numpy(deep(x))
    deep.fit(x, y, verbose=0)
    assert relative_difference(deep(x), before) > 1e-6
    overparameterize(model, report=said.append)
    assert "Not compiled, as the given model is: compile=True" in said[-1]


def test_what_cannot_be_compiled_alike_is_said():
    model, _ = nested()
    with pytest.raises(ValueError, match="carries over how .* is compiled; it is not"):
        overparameterize(model, compile=True)
    model.compile("sgd", loss=lambda y, found: ops.mean((y - found) ** 2))
    with pytest.raises(ValueError, match="cannot be carried over: .*lambda.* compile the new"):
        overparameterize(model, compile=True)
    with pytest.raises(ValueError, match="`compile` must be True or False"):
        overparameterize(model, compile="yes")


def test_each_choice_of_a_list_must_choose_something():
    model, _ = wrapped()
    name = next(one.name for one in model.layers if isinstance(one, layers.Conv2D))
    overparameterize(model, layers=[name, layers.Conv2D])
    with pytest.raises(ValueError, match=f"'{name}'.* Received: '{name[:-1]}_x'"):
        overparameterize(model, layers=[layers.Conv2D, f"{name[:-1]}_x"])


def test_too_narrow_a_width_is_said():
    model, _ = wrapped()
    with pytest.warns(UserWarning, match="loses"):
        deep = overparameterize(model, width=1, layers=layers.Conv2D)
    assert deep.layers[0].factors[0].shape[-1] == 1


def test_unbalanced_factors_are_said():
    model = keras.Sequential([keras.Input((3,)), FactoredDense(3)])
    large = 1e4 * np.array([[1.0, 1, 0], [0, 0, 0], [0, 0, 0]])
    cancelling = np.array([[1, 0, 0], [-1 + 1e-6, 0, 0], [0, 0, 0]])
    model.set_weights([large, cancelling, np.zeros(3)])
    with pytest.warns(UserWarning, match="magnifies"):
        collapse(model)


def test_report():
    texts = []
    deep = overparameterize(nested()[0], depth=3, report=texts.append)
    collapse(deep, report=texts.append)
    there, back = texts
    assert re.search(r"head +Dense +FactoredDense +8×3 +8·3·3·3 +27 → 45", there)
    assert re.search(r"head +FactoredDense +Dense +8×3 +8·3·3·3 +45 → 27", back)
    for text in texts:
        assert float(re.search(r"outputs: (\S+) of the largest", text).group(1)) < 1e-5


class Unconfigured(keras.Model):
    """Cannot be made again: what it takes is no configuration."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.function(self.dense(x))


class Hidden(keras.Model):
    """Has more layers than its configuration says."""

    def __init__(self, more=0):
        super().__init__()
        self.steps = [layers.Dense(2) for _ in range(1 + more)]

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x

    def get_config(self):
        return {}


def test_refusals_name_the_layer_and_leave_the_model_as_it_was():
    x = np.ones((2, 3), "float32")
    unconfigured = Unconfigured(object())
    unconfigured.function = lambda y: y
    unconfigured(x)
    hidden = Hidden(more=1)
    hidden(x)
    constrained = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")])
    constrained.add(layers.Dense(2, kernel_constraint="non_neg", name="b"))
    for model, message in (
        (unconfigured, "Unconfigured"),
        (hidden, "Hidden"),
        (constrained, "'b'.*kernel_constraint"),
        (keras.Sequential([layers.Dense(2)], name="empty"), "empty.*no weights"),
        (keras.Sequential([keras.Input((3,)), layers.Flatten()]), "No layer.*Flatten"),
        ("model", "must be a Keras model"),
    ):
        before = None if isinstance(model, str) else [w.copy() for w in model.get_weights()]
        with pytest.raises(ValueError, match=message):
            overparameterize(model)
        if before is not None:
            for value, original in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(value, original)
    with pytest.raises(ValueError, match="factorization"):
        overparameterize(constrained, factorization="independent")
    with pytest.raises(ValueError, match="`layers`"):
        overparameterize(constrained, layers=3)


def test_a_functional_model_of_a_class_of_its_own_is_said_to_become_plain():
    class Named(keras.Model):
        def __init__(self, units):
            x = keras.Input((3,))
            super().__init__(x, layers.Dense(units)(x))

    model = Named(2)
    with pytest.warns(UserWarning, match="Named"):
        deep = overparameterize(model)
    assert not isinstance(deep, Named)
