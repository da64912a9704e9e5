"""Sweeps of single kernels are what Keras's own training loop does."""

import keras
import numpy as np
import pytest

from keras_overparam import EndToEnd, LpLoss, sweep_linear_networks

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 5)).astype("float32")
Y = (X @ RNG.normal(size=(5, 2)) + 0.1).astype("float32")
STARTS = 0.3 * RNG.normal(size=(2, 5, 2)).astype("float32")
RATES, STEPS = (0.02, 0.1), 25
OPTIMIZERS = {
    "SGD": lambda rate: keras.optimizers.SGD(rate),
    "momentum": lambda rate: keras.optimizers.SGD(rate / 5, momentum=0.8),
    "nesterov": lambda rate: keras.optimizers.SGD(rate / 5, momentum=0.8, nesterov=True),
    "Adagrad": lambda rate: keras.optimizers.Adagrad(rate),
    "Adadelta": lambda rate: keras.optimizers.Adadelta(10 * rate),
    "RMSprop": lambda rate: keras.optimizers.RMSprop(rate, momentum=0.5),
    "Adam": lambda rate: keras.optimizers.Adam(rate, amsgrad=True),
    "clipvalue": lambda rate: keras.optimizers.SGD(rate, clipvalue=0.05),
    "EndToEnd": lambda rate: EndToEnd(rate, 2, momentum=0.5),
}


def fitted(optimizer, start, power):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([start])
    model.compile(optimizer=optimizer, loss=LpLoss(power))
    fit = {"batch_size": len(X), "shuffle": False, "verbose": 0}
    history = model.fit(X, Y, epochs=STEPS, **fit).history["loss"]
    return history, model.get_weights()[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sweep_does_what_model_fit_does(name):
    power = 2 if name == "Adam" else 4
    rates = [float(OPTIMIZERS[name](rate).learning_rate) for rate in RATES]
    result = sweep_linear_networks(
        X, Y, [STARTS], OPTIMIZERS[name](1.0), rates, range(1, STEPS + 1), power
    )
    for index, rate in enumerate(RATES):
        losses, kernel = fitted(OPTIMIZERS[name](rate), STARTS[index], power)
        np.testing.assert_allclose(result.losses[:-1, index], losses, rtol=1e-4)
        np.testing.assert_allclose(result.factors[0][index], kernel, rtol=1e-4, atol=1e-5)
