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
Y = RNG.normal(size=(32, 3)).astype("float32")
DEVICES = ["cpu:0", "cpu:1"]


def halves_of_factors():
    """Each factor split over two devices, by columns; the batch is not."""
    layouts = distribution.LayoutMap(distribution.DeviceMesh((1, 2), ("batch", "model"), DEVICES))
    layouts[".*factor.*"] = (None, "model")
    return distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")


def trained(spread, tolerance):
    """Every kind of trained kernel in one model; its weights."""
    distribution.set_distribution(spread)
    try:
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input(X.shape[1:]),
                FactoredConv2D(4, 3, activation="relu", name="convolution"),
                keras.layers.Flatten(),
                FactoredDense(40, depth=3, kernel_regularizer=keras.regularizers.L2(0.01)),
                keras.layers.Dense(36, activation="tanh"),
                keras.layers.Dense(3),
            ]
        )
        model.compile(EndToEnd(0.05, depth=2, momentum=0.5, tolerance=tolerance), "mse")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
        sharding = {v.path: v.value.sharding for v in model.trainable_variables}
        return model.get_weights(), sharding
    finally:
        distribution.set_distribution(None)


@pytest.mark.parametrize("tolerance", [0, 0.01])
def test_weights_are_those_of_one_device(tolerance):
    alone, _ = trained(None, tolerance)
    for spread in (distribution.DataParallel(devices=DEVICES), halves_of_factors()):
        weights, sharding = trained(spread, tolerance)
        for p,s in sharding.items(): print(p, s)
        for a, b in zip(weights, alone, strict=True):
            print(np.abs(a-b).max())
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
