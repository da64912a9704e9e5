"""Several devices and workers train as one does, and end together."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from clusters import free_ports, tf_config

import mnist_cnn
from datasets import images as datasets
from experiments.mnist import training
from experiments.mnist.settings import Settings
from running import records, replicas, strategies

ROOT = Path(__file__).resolve().parents[1]
FEW = 400  # training images: eleven steps in two epochs
STDDEV = 0.05  # at the tutorial's 0.1 the deep network makes 1e-3 of a rounding error of one weight
QUICK = f"--dataset digits --epochs 2 --device cpu --init-stddev {STDDEV}".split()
COMMON = {"epochs": 2, "dataset": "digits", "init_stddev": STDDEV}
ORIGINAL, PRODUCT, FACTORS, NONE = MODELS = [
    Settings(depth=1, **COMMON),
    *(Settings(depth=2, regularize=r, **COMMON) for r in ("product", "factors", "none")),
]
ARGUMENTS = {
    ORIGINAL: [],
    PRODUCT: ["--overparam"],
    FACTORS: ["--overparam", "--regularize", "factors"],
    NONE: ["--overparam", "--regularize", "none"],
}
# Command lines, one after another, in a process of their own, with few images and perhaps two
# devices. It may be told to end by a signal at a step of the overparameterized network.
SCRIPT = f"""
import dataclasses, json, os, sys
import tensorflow as tf
from datasets import images as datasets

job = json.loads(sys.argv[1])
if job["devices"] > 1:
    devices = [tf.config.LogicalDeviceConfiguration()] * job["devices"]
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
whole = datasets.load_images

def few(*arguments):
    data = whole(*arguments)
    images, labels = data.train_images[:{FEW}], data.train_labels[:{FEW}]
    return dataclasses.replace(data, train_images=images, train_labels=labels)

datasets.load_images = few
import mnist_cnn
from experiments.mnist import training

recorded = training.StepRecorder.on_train_batch_end

def dies(self, batch, logs=None):
    recorded(self, batch, logs)
    if self.step == job["dies_at"] and self.model.count_params() > 1_700_000:
        os.kill(os.getpid(), job["signal"])

training.StepRecorder.on_train_batch_end = dies
for arguments in job["commands"]:
    mnist_cnn.main(arguments)
"""


class Process:
    """A process that runs commands on `devices` devices, or as one of two workers."""

    def __init__(self, *commands, devices=1, ports=(), worker=0, dies_at=None, by=signal.SIGKILL):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), f"{ROOT}/reproduce"])}
        environment["TF_CONFIG"] = tf_config(worker, *ports) if ports else "{}"
        commands = [[str(argument) for argument in command] for command in commands]
        job = {"commands": commands, "devices": devices, "dies_at": dies_at, "signal": int(by)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(job)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, status=0):
        """What it printed; it must end with the given status."""
        try:
            output, _ = self.process.communicate(timeout=400)
        finally:
            self.process.kill()
        assert self.process.returncode == status, output[-3000:]
        return output


def two_workers(command, folder, dying=None, **death):
    """Both workers of a command, each told to write to a folder of its own below `folder`."""
    ports = free_ports()
    command = [*command, "--strategy", "multi-worker", "--output"]
    return [
        Process(
            [*command, folder / str(worker)],
            ports=ports,
            worker=worker,
            **(death if worker == dying else {}),
        )
        for worker in range(2)
    ]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """A function from settings to the folder of their run on one device, in this process."""
    folder = tmp_path_factory.mktemp("one")
    data = datasets.load_images("digits", None, None)
    images, labels = data.train_images[:FEW], data.train_labels[:FEW]
    data = dataclasses.replace(data, train_images=images, train_labels=labels)

    def run(settings):
        training.train(settings, data, folder / settings.run_name)
        return folder / settings.run_name

    return run


def weights(folder):
    """All variables of the model that a run left, dropout's generator included."""
    model = keras.saving.load_model(folder / "model.keras")
    assert all(
        type(layer).__module__.startswith(("keras.", "keras_over")) for layer in model.layers
    )
    return {variable.path: variable.numpy() for variable in model.variables}


def assert_same_training(folder, expected):
    """Two runs differ by rounding: by 1e-8, or 1e-4 where it carried a ReLU over its kink.

    Gradients of the L2 term that were twice as large changed its curve by 1e-3; those of the
    cross-entropy changed weights by 1e-2, masks of stock dropout by 5e-3.
    """
    ours, theirs = (weights(path) for path in (folder, expected))
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-4)
    ours, theirs = (records.Record(path).of_kind("epoch") for path in (folder, expected))
    for a, b in zip(ours, theirs, strict=True):
        for metric, tolerance in (("l2", 2e-5), ("cross_entropy", 1e-3), ("objective", 1e-3)):
            np.testing.assert_allclose(a[metric], b[metric], rtol=tolerance)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """Output folder of runs on two devices."""
    output = tmp_path_factory.mktemp("mirrored")
    options = [*QUICK, "--strategy", "mirrored", "--output", output]
    Process(*([*ARGUMENTS[s], *options] for s in MODELS), devices=2).end()
    return output


@pytest.mark.parametrize("settings", MODELS, ids=lambda s: f"{s.depth}-{s.regularize}")
def test_two_devices_train_as_one(settings, mirrored, one_device):
    assert_same_training(mirrored / settings.run_name, one_device(settings))
    (start,) = records.Record(mirrored / settings.run_name).of_kind("start")
    assert (start["strategy"], start["replicas"], start["workers"]) == ("mirrored", 2, 1)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Folder of two workers' command, one of which was killed and started again; what they said."""
    folder = tmp_path_factory.mktemp("workers")
    chief, other = two_workers(["--compare", *QUICK], folder, 1, dies_at=8)
    other.end(-signal.SIGKILL)
    said = chief.end(1)
    epochs = records.Record(folder / "0" / PRODUCT.run_name).of_kind("epoch")
    assert [line["epoch"] for line in epochs] == [1]
    for worker in two_workers(["--compare", *QUICK], folder):
        worker.end()
    return folder, said


def test_a_killed_worker_ends_the_other_in_one_sentence(interrupted):
    last = interrupted[1].splitlines()[-1]
    assert last.startswith("mnist_cnn.py: error: A worker was lost")
    assert "The same command on every worker goes on after the last finished epoch" in last
    assert "Traceback" not in interrupted[1]


@pytest.mark.parametrize("settings", [ORIGINAL, PRODUCT], ids=["original", "resumed"])
def test_two_workers_train_as_one_device(settings, interrupted, one_device):
    folder = interrupted[0] / "0" / settings.run_name
    assert_same_training(folder, one_device(settings))
    (start,) = records.Record(folder).of_kind("start")
    assert (start["strategy"], start["replicas"], start["workers"]) == ("multi-worker", 2, 2)
    resumed = [line["epoch"] for line in records.Record(folder).of_kind("resume")]
    assert resumed == ([1] if settings is PRODUCT else [])


def test_only_the_chief_writes(interrupted):
    assert [path.name for path in interrupted[0].iterdir()] == ["0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dying", "by", "status"), [(0, signal.SIGKILL, -signal.SIGKILL), (1, signal.SIGINT, 1)]
)
def test_restarted_workers_end_like_undisturbed_ones(dying, by, status, tmp_path):
    command = ["--overparam", *QUICK]
    pair = two_workers(command, tmp_path / "disturbed", dying, dies_at=8, by=by)
    assert "lost" in pair[1 - dying].end(1).splitlines()[-1]
    said = pair[dying].end(status)
    assert by != signal.SIGINT or "Interrupted. The same command goes on" in said
    for name in ("disturbed", "undisturbed"):
        for worker in two_workers(command, tmp_path / name):
            worker.end()
    ours, theirs = (
        weights(tmp_path / name / "0" / PRODUCT.run_name) for name in ("disturbed", "undisturbed")
    )
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_goes_on_under_another_strategy(tmp_path, one_device):
    command = ["--overparam", *QUICK, "--output", tmp_path]
    Process([*command, "--strategy", "mirrored"], devices=2, dies_at=8).end(-signal.SIGKILL)
    Process(command).end()
    (resume,) = records.Record(tmp_path / PRODUCT.run_name).of_kind("resume")
    assert resume["strategy"] == "none"
    assert_same_training(tmp_path / PRODUCT.run_name, one_device(PRODUCT))


def test_the_dropout_of_one_replica_is_the_stock_layer():
    x = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    ours, stock = (
        layer(0.5, seed=3) for layer in (replicas.GlobalBatchDropout, keras.layers.Dropout)
    )
    for _ in range(2):
        np.testing.assert_array_equal(ours(x, training=True), stock(x, training=True))
    np.testing.assert_array_equal(ours(x), x)


def test_the_chief_is_the_first_of_all_workers():
    config = {
        "cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"]},
        "task": {"type": "worker", "index": "1"},
    }
    assert strategies.cluster(json.dumps(config)) == (["a:1", "b:2", "c:3"], 2)
    assert strategies.cluster(tf_config(0, 1, 2)) == (["localhost:1", "localhost:2"], 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "worker 0",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:2"]}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_workers_that_are_not_named_are_one_sentence(text, monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(SystemExit) as caught:
        mnist_cnn.main([*QUICK[:4], "--strategy", "multi-worker", "--output", str(tmp_path)])
    assert caught.value.code.startswith("mnist_cnn.py: error: --strategy multi-worker finds")
    assert caught.value.code.endswith(f"Received: {text or 'nothing'}")


def test_a_worker_waits_until_something_listens_at_the_others_port():
    ours, theirs = free_ports()
    addresses = [f"localhost:{ours}", f"localhost:{theirs}"]
    waiting = threading.Thread(target=strategies.wait_for, args=(addresses, 0, 60))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    with socket.create_server(("", theirs)):
        waiting.join(30)
    assert not waiting.is_alive()


def test_a_worker_that_does_not_come_is_one_sentence(capsys):
    ours, theirs = free_ports()
    with pytest.raises(strategies.ClusterError, match=f"No worker came to localhost:{theirs} in"):
        strategies.wait_for([f"localhost:{ours}", f"localhost:{theirs}"], 0, patience=0)
    assert f"waits for localhost:{theirs}" in capsys.readouterr().out


def test_a_port_in_use_is_one_sentence():
    with socket.create_server(("", 0)) as taken:
        addresses = [f"localhost:{taken.getsockname()[1]}", "localhost:1"]
        with pytest.raises(strategies.ClusterError, match="cannot listen at port .* in use"):
            strategies.wait_for(addresses, 0, patience=0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--jit", "on"], "--jit on compiles the step of one device"),
        (["--mixed-precision", "float16"], "--strategy trains in bfloat16 or float32"),
        (
            ["--device", "gpu:1"],
            "--strategy mirrored trains on several devices, and --device gpu:1",
        ),
    ],
)
def test_what_does_not_go_together_is_one_sentence(arguments, sentence, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        mnist_cnn.main(["--strategy", "mirrored", *arguments, "--output", str(tmp_path)])
    assert sentence in f"{caught.value.code} {capsys.readouterr().err}"


def test_unequal_shares_are_one_sentence():
    with pytest.raises(strategies.ClusterError, match="A batch of 64 examples has no equal shares"):
        strategies.Distribution("mirrored", ("cpu:0", "cpu:1", "cpu:2")).check_shares(64)


def test_other_errors_of_one_process_stay_what_they_are():
    import tensorflow as tf

    with (
        pytest.raises(tf.errors.DeadlineExceededError),
        strategies.Distribution().watched(),
    ):
        raise tf.errors.DeadlineExceededError(None, None, "something else")
