"""The same seed on the same machine leaves the same bits: again, and in another process."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from keras import layers

import gas_sensor
import mnist_cnn
from experiments.gas_sensor import job as sweep_job
from experiments.mnist import job as mnist_job
from experiments.mnist import tutorial_cnn
from keras_overparam import (
    EndToEnd,
    FactoredConv2D,
    FactoredDense,
    overparameterize,
    sweep_linear_networks,
)

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "import sys, test_determinism; test_determinism.leave_everything(sys.argv[1])"
# What a record says of the clock, and the check of that. All else must be the same, among it the
# settings, the losses of every step and the digest of a checkpoint, which holds all weights and the
# optimizer's state.
CLOCK = ("time", "seconds", "milliseconds_per_step", "check")
MODELS = sweep_job.models


def leave_everything(folder):
    """Leave in a folder what seeds determine: the scripts' records, and digests of arrays."""
    digests = {name: digest(function(0)) for name, function in ARRAYS.items()}
    Path(folder, "arrays.json").write_text(json.dumps(digests))
    output = ["--output", str(folder)]
    with (  # few steps, one model, no figures
        mock.patch.object(tutorial_cnn, "epoch_ends", lambda settings, train_size: [4]),
        mock.patch.object(mnist_job, "report"),
        mock.patch.object(sweep_job, "models", lambda name, base: MODELS(name, base)[1:2]),
        mock.patch.object(sweep_job, "report"),
    ):
        mnist_cnn.main(["--overparam", "--dataset", "digits", "--epochs", "1", *output])
        gas_sensor.main(["--dataset", "diabetes", "--iterations", "12", *output])


def digest(arrays):
    """Of the bits of some arrays."""
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()


def starts(seed):
    """Initial weights of layers, of initializers that have no seed of their own."""
    keras.utils.set_random_seed(seed)
    kinds = ("balanced", "independent", "identity")
    dense = [FactoredDense(6, depth=3, factorization=kind) for kind in kinds]
    model = keras.Sequential(
        [layers.Input((8, 8, 2)), FactoredConv2D(4, 3), layers.Flatten(), *dense]
    )
    return model.get_weights()


def conversion(seed):
    """Weights of a converted model, and what it computes."""
    keras.utils.set_random_seed(seed)
    plain = keras.Sequential(
        [layers.Input((8, 8, 2)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)]
    )
    deep = overparameterize(plain, depth=3)
    return [*deep.get_weights(), deep(keras.random.normal((7, 8, 8, 2)))]


def training(seed):
    """Weights after some steps by the rule, on shuffled batches, with dropout."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [layers.Input((120,)), layers.Dense(80), layers.Dropout(0.5), layers.Dense(1)]
    )
    model.compile(EndToEnd(0.01, depth=2), loss="mse")
    features = np.random.default_rng(seed).normal(size=(96, 120))
    history = model.fit(features, features[:, 0], batch_size=32, epochs=2, verbose=0)
    return [*model.get_weights(), history.history["loss"]]


def sweep(seed):
    """Losses, factors and steps of a sweep."""
    random = np.random.default_rng(seed)
    features, targets = random.normal(size=(300, 20)), random.normal(size=300)
    factors = [0.3 * random.normal(size=(6, 20, 4)), 0.3 * random.normal(size=(6, 4, 1))]
    rates = np.geomspace(1e-3, 1e-1, 6)
    result = sweep_linear_networks(features, targets, factors, "adam", rates, 30, power=4)
    return [result.losses, result.steps, *result.factors]


ARRAYS = {"starts": starts, "conversion": conversion, "training": training, "sweep": sweep}


def left_in(folder):
    """What is to be the same, by name: bytes of records but for the clock, and digests."""
    left = dict(json.loads((folder / "arrays.json").read_text()))
    for path in sorted(folder.glob("*/record.jsonl")):
        record = path.read_bytes()
        for name in CLOCK:
            record = re.sub(rf'"{name}": [^,}}]+'.encode(), f'"{name}": _'.encode(), record)
        left[path.parent.name] = record
    return left


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What two calls in this process left, and one in a process with other hashes."""
    first, again, elsewhere = (tmp_path_factory.mktemp(name) for name in ("a", "b", "c"))
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "reproduce", "tests"))
    other = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(elsewhere)],
        env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for folder in (first, again):
        leave_everything(folder)
    output, _ = other.communicate(timeout=400)
    assert other.returncode == 0, output[-3000:]
    return first, again, elsewhere


def test_everything_is_the_same_again_and_in_another_process(folders):
    first, again, elsewhere = map(left_in, folders)
    kinds = sorted(name.partition("-")[0] for name in first)
    assert kinds == ["conversion", "diabetes", "digits", "starts", "sweep", "training"]
    assert [name for name in first if again.get(name) != first[name]] == []
    assert [name for name in first if elsewhere.get(name) != first[name]] == []


@pytest.mark.parametrize("name", ["starts", "conversion"])
def test_another_seed_is_another_start(name):
    assert digest(ARRAYS[name](0)) != digest(ARRAYS[name](1))
