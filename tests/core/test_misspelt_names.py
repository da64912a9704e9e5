"""A misspelt name is one sentence that lists what there is."""

import keras
import numpy as np
import pytest

import keras_overparam as ko

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X[:, :2]
PATHS = ["net/hidden/kernel", "net/head/kernel"]


def model(first=keras.layers.Dense):
    layers = [keras.Input((4,)), first(3, name="hidden"), keras.layers.Dense(2, name="head")]
    return keras.Sequential(layers, name="net")


def fit(optimizer="sgd", first=keras.layers.Dense, callbacks=()):
    one = model(first)
    one.compile(optimizer, "mse")
    one.fit(X, Y, verbose=0, callbacks=list(callbacks))


def sweep(optimizer="sgd", **kwargs):
    start = [np.ones((2, 4, 1), "float32")]
    ko.sweep_linear_networks(X, Y[:, 0], start, optimizer, [0.1, 0.2], iterations=2, **kwargs)


FACTORIZATIONS = ["balanced", "independent", "identity"]
CASES = {
    "factorization": (lambda t: ko.FactoredDense(2, factorization=t), FACTORIZATIONS),
    "a convolution's factorization": (
        lambda t: ko.FactoredConv2D(2, 1, factorization=t),
        FACTORIZATIONS,
    ),
    "a conversion's factorization": (
        lambda t: ko.overparameterize(model(), factorization=t),
        ["balanced", "identity"],
    ),
    "layers": (lambda t: ko.overparameterize(model(), layers=t), ["hidden", "head"]),
    "one of layers": (
        lambda t: ko.overparameterize(model(), layers=["head", t]),
        ["hidden", "head"],
    ),
    "depth": (lambda t: fit(ko.EndToEnd(depth={t: 2})), PATHS),
    "exclude": (lambda t: fit(ko.EndToEnd(exclude=[t])), PATHS),
    "kernels": (lambda t: fit(ko.EndToEnd(kernels={f"{t}/kernel": 1})), PATHS),
    "layers to watch": (
        lambda t: fit(first=ko.FactoredDense, callbacks=[ko.FactorMonitor(None, layers=t)]),
        ["hidden"],
    ),
    "when to watch": (lambda t: ko.FactorMonitor(None, update_freq=t), ["epoch"]),
    "what is probed": (lambda t: ko.probe(t, (X, Y)), ["mse", "cross_entropy"]),
    "what is swept": (lambda t: sweep(loss=t), ["lp", "cross_entropy"]),
    "by which optimizer": (sweep, ["adadelta", "adagrad", "adam", "rmsprop", "sgd"]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("typo", ["haed", "lossscaleoptimizer"])
def test_a_misspelt_name(name, typo):
    call, there_is = CASES[name]
    with pytest.raises(ValueError, match=typo) as caught:
        call(typo)
    text = str(caught.value)
    assert "\n" not in text
    assert [one for one in there_is if one not in text] == []
