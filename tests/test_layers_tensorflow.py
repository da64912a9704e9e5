"""The layers inside TensorFlow: graphs, XLA, batch sizes unknown until run time, gradients."""

import numpy as np
import pytest
import tensorflow as tf

import keras_overparam
from keras_overparam import FactoredDense, overparameterize
from keras_overparam.factorization import application_plans, chain_sizes


@pytest.fixture
def layer():
    layer = FactoredDense(8, "relu", depth=3, width=8)
    layer.build((None, 8))
    assert len(application_plans(chain_sizes(layer.factors))) > 1  # so that there is a choice
    return layer


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_unknown_batch_size_in_a_graph(layer, jit_compile, rows):
    @tf.function(input_signature=[tf.TensorSpec([None, 8])], jit_compile=jit_compile)
    def value_and_gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return loss, tape.gradient(loss, layer.trainable_variables)

    x = np.random.default_rng(rows).normal(size=(rows, 8)).astype("float32")
    with tf.GradientTape() as tape:
        expected = tf.reduce_sum(layer(x) ** 2)
    expected_gradients = tape.gradient(expected, layer.trainable_variables)
    loss, gradients = value_and_gradients(x)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    for gradient, reference in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-3, atol=1e-4)


def matmul_operations(function):
    """Shapes multiplied in a concrete function, branches of conditionals included."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return sum(node.op == "MatMul" for node in nodes)


def decisions(function):
    """Conditionals at the top of a concrete function."""
    kinds = ("Case", "StatelessCase", "If", "StatelessIf")
    return sum(operation.type in kinds for operation in function.graph.get_operations())


def test_the_order_is_chosen_when_the_layer_is_traced(layer):
    """Conditionals cannot be exported to TFLite or ONNX, vectorized or differentiated forwards."""
    few = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([2, 8]))
    many = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([100, 8]))
    unknown = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([None, 8]))
    assert matmul_operations(few) == 3  # x through three factors
    assert matmul_operations(many) == 3  # two for the product, one for x
    assert matmul_operations(unknown) == 3
    assert [decisions(function) for function in (few, many, unknown)] == [0, 0, 0]


def test_gradients_of_each_task_and_forward_ones_in_a_graph(layer):
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype("float32")

    def gradient(task):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(task) ** 2)
        return tape.gradient(loss, layer.trainable_variables)[0]

    @tf.function(input_signature=[tf.TensorSpec((None, None, 8))])
    def of_each_task(x):
        return tf.vectorized_map(gradient, x)

    @tf.function(input_signature=[tf.TensorSpec((None, 8))])
    def forwards(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            y = layer(x)
        return accumulator.jvp(y)

    for found, task in zip(of_each_task(x), x, strict=True):
        np.testing.assert_allclose(found, gradient(task), rtol=1e-3, atol=1e-4)
    step = (layer(x[0] + 1e-3) - layer(x[0] - 1e-3)) / 2e-3
    np.testing.assert_allclose(forwards(x[0]), step, atol=2e-2 * np.abs(step).max())


LAYERS = {
    "Dense": (4,),
    "Conv1D": (4, 1),
    "Conv2D": (4, 1),
    "DepthwiseConv2D": (1,),
    "EinsumDense": ("abcd,de->abce", (None, None, 4)),
    "MultiHeadAttention": (2, 3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_checkpoints_of_tensorflow_hold_the_factors(name, tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 6)[-3 if name == "Conv1D" else -4 :])
    arguments = (x, x) if name == "MultiHeadAttention" else (x,)

    def made():
        new = getattr(keras_overparam, f"Factored{name}")(*LAYERS[name], depth=3)
        return new, new(*arguments)

    (layer, outputs), (other, others) = made(), made()
    assert np.abs(outputs - others).max() > 0.01
    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "checkpoint")
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other(*arguments), outputs)


def test_zero_rows(layer):
    assert tuple(layer(np.zeros((0, 8), "float32")).shape) == (0, 8)


def test_the_layer_is_a_tf_keras_layer(layer):
    assert isinstance(layer, tf.keras.layers.Layer)


def test_saved_model_export(layer, tmp_path):
    model = tf.keras.Sequential([tf.keras.Input((8,)), layer])
    model.export(tmp_path / "exported", verbose=False)
    x = np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    loaded = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-4, atol=1e-5)


def test_mirrored_strategy(layer):
    config = layer.get_config()
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.Input((8,)), FactoredDense.from_config(config)])
        model.compile(optimizer="sgd", loss="mse")
    x = np.ones((4, 8), "float32")
    losses = model.fit(x, np.zeros((4, 8)), epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@tf.keras.utils.register_keras_serializable(package="tests")
class Subclassed(tf.keras.Model):
    """Holds its layer in an attribute, where a conversion puts another."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.head = tf.keras.layers.Dense(3)

    def call(self, x):
        return self.head(x)


def test_checkpoints_of_tensorflow_hold_what_a_conversion_put_there(tmp_path):
    x = np.ones((2, 4), "float32")
    models = [Subclassed(), Subclassed()]
    for model in models:
        model(x)
    model, other = map(overparameterize, models)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other(x), model(x))
