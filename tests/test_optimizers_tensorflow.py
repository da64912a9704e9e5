"""EndToEnd inside TensorFlow: graphs, XLA, several replicas."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_overparam import EndToEnd

ROOT = Path(__file__).resolve().parents[1]
X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X @ np.random.default_rng(1).normal(size=(6, 3))).astype("float32")


def trained(optimizer, **arguments):
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(
        [tf.keras.Input((6,)), tf.keras.layers.Dense(5, "relu"), tf.keras.layers.Dense(3)]
    )
    model.compile(optimizer=optimizer, loss="mse", **arguments)
    model.fit(X, Y, epochs=3, batch_size=16, shuffle=False, verbose=0)
    return model.get_weights()


def test_it_is_a_tf_keras_optimizer():
    assert isinstance(EndToEnd(), tf.keras.optimizers.Optimizer)


@pytest.mark.parametrize("arguments", [{}, {"tolerance": 0.01}, {"depth": 3}])
def test_variables_that_are_not_of_keras_in_a_graph(arguments):
    variable = tf.Variable(np.random.default_rng(0).normal(size=(80, 70)).astype("float32"))
    optimizer = EndToEnd(1e-3, **arguments)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(variable**2)
        optimizer.apply_gradients([(tape.gradient(loss, variable), variable)])
        return loss

    losses = [float(step()) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]


@pytest.mark.parametrize("arguments", [{}, {"tolerance": 0.01, "momentum": 0.5}])
@pytest.mark.parametrize("way", [{"run_eagerly": True}, {"jit_compile": True}])
def test_eager_graph_and_xla_give_the_same(arguments, way):
    reference = trained(EndToEnd(0.01, 3, **arguments), jit_compile=False)
    for a, b in zip(trained(EndToEnd(0.01, 3, **arguments), **way), reference, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"tolerance": 1e-3}, {"gradient_rank": 8}])
def test_tracking_is_the_same_under_xla(arguments):
    def end(compiled):
        rng = np.random.default_rng(2)
        kernel = tf.keras.Variable(rng.normal(size=(80, 64)).astype("float32") / 8)
        left, right = (rng.normal(size=(size, 8)).astype("float32") / 8 for size in (80, 64))
        optimizer = EndToEnd(0.01, 2, **arguments)
        optimizer.build([kernel])
        step = tf.function(lambda g: optimizer.apply([g], [kernel]), jit_compile=compiled)
        for count in range(5):
            step(tf.constant(left @ np.roll(right, count, axis=0).T))
        return kernel.numpy()

    np.testing.assert_allclose(end(True), end(False), rtol=1e-3, atol=1e-4)


def test_a_step_inside_a_function():
    kernel = tf.keras.Variable(np.eye(3, dtype="float32"))
    optimizer = EndToEnd(0.5, 2)
    optimizer.build([kernel])

    @tf.function
    def step():
        optimizer.apply([tf.ones((3, 3))], [kernel])

    step()
    np.testing.assert_allclose(kernel, np.eye(3) - 1.0, atol=1e-5)


REPLICAS = """
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_overparam import EndToEnd

rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 6)).astype("float32"), rng.normal(size=(64, 3)).astype("float32")


def weights(strategy, tolerance):
    tf.keras.utils.set_random_seed(1)
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.Input((6,)), tf.keras.layers.Dense(3)])
        optimizer = EndToEnd(0.05, 3, momentum=0.9, weight_decay=0.1, tolerance=tolerance)
        model.compile(optimizer=optimizer, loss="mse")
    model.fit(x, y, epochs=3, batch_size=16, shuffle=False, verbose=0)
    return model.get_weights()


for tolerance in (0.0, 0.01):
    single = weights(tf.distribute.get_strategy(), tolerance)
    mirrored = weights(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tolerance)
    for a, b in zip(single, mirrored, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
print("same")
"""


def test_two_replicas_do_what_one_does():
    run = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip().endswith("same"), run.stderr[-2000:]
