"""Keras's distributions on JAX: weights are those of one device, whatever is spread over two."""

import keras
import numpy as np
import pytest
from keras import distribution

from keras_overparam import EndToEnd, FactoredConv2D, FactoredDense

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="Keras distributes on JAX only"
)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6, 6, 2)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")
DEVICES = ["cpu:0", "cpu:1"]


def halves_of_examples():
    return distribution.DataParallel(devices=DEVICES)


def halves_of_factors():
    """Each factor is split by columns."""
    layouts = distribution.LayoutMap(distribution.DeviceMesh((1, 2), ("batch", "model"), DEVICES))
    layouts[r".*/factor_\d"] = (None, "model")
    return distribution.ModelParallel(layout_map=layouts)


def trained(spread, tolerance):
    """A model with factors, an L2 term on their product, and a kernel trained by the rule."""
    distribution.set_distribution(spread)
    try:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input(X.shape[1:]),
                FactoredConv2D(4, 3, activation="relu"),
                keras.layers.Flatten(),
                FactoredDense(64, kernel_regularizer=keras.regularizers.L2(0.01)),
                keras.layers.Dense(64, activation="tanh"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(EndToEnd(0.05, depth=2, momentum=0.5, tolerance=tolerance), "mse")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
        return model
    finally:
        distribution.set_distribution(None)


@pytest.mark.parametrize(
    ("tolerance", "spreads"),
    [(0, [halves_of_examples, halves_of_factors]), (0.01, [halves_of_examples])],
)
def test_weights_are_those_of_one_device(tolerance, spreads):
    alone = trained(None, tolerance)
    for spread in spreads:
        model = trained(spread(), tolerance)
        for one, other in zip(model.weights, alone.weights, strict=True):
            shards = {shard.data.shape for shard in one.value.addressable_shards}
            split = spread is halves_of_factors and "/factor_" in one.path
            assert shards == {(one.shape[0], one.shape[1] // 2) if split else tuple(one.shape)}
            assert len(one.value.devices()) == 2 and len(other.value.devices()) == 1
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)
