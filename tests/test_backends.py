"""The scripts on JAX and on PyTorch, where TensorFlow is not installed, end where it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import end_to_end_rule
import gas_sensor
from experiments.gas_sensor import results
from running import records

ROOT = Path(__file__).resolve().parents[1]
MAIN = ["--overparam", "--dataset", "digits", "--epochs", "2", "--seeds", "3"]
SWEEP = ["--dataset", "diabetes", "--iterations", "20", "--seeds", "0", "1"]
RULE = [*SWEEP, "--problems", "l2", "l4", "--depths", "2"]
# Command lines, one after another, in a process that has no TensorFlow. The first one is
# interrupted after an epoch, and started again.
SCRIPT = """
import sys
sys.modules["tensorflow"] = None
import json, pathlib
import end_to_end_rule, gas_sensor, mnist_cnn
from experiments.mnist import training

job = json.loads(sys.argv[1])
epoch = training.Run._epoch

def interrupted(*arguments):
    epoch(*arguments)
    raise KeyboardInterrupt

training.Run._epoch = interrupted
try:
    mnist_cnn.main(job["main"])
except SystemExit as ended:
    assert ended.code == 130
training.Run._epoch = epoch
mnist_cnn.main(job["main"])
gas_sensor.main(job["sweep"])
end_to_end_rule.main(job["rule"])
assert sys.modules["tensorflow"] is None
"""


def commands(folder):
    given = {"main": MAIN, "sweep": SWEEP, "rule": RULE}
    return {name: [*line, "--output", str(folder / name)] for name, line in given.items()}


@pytest.fixture(scope="module", params=["jax", "torch"])
def elsewhere(request, tmp_path_factory):
    """Folder of what the scripts left on another backend, and its name."""
    pytest.importorskip(request.param, reason="the extra test or torch installs it")
    folder = tmp_path_factory.mktemp(request.param)
    environment = os.environ | {
        "KERAS_BACKEND": request.param,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "reproduce")]),
    }
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands(folder))],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "UserWarning" not in run.stderr
    return folder, request.param


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Folder of what they leave on this one."""
    folder = tmp_path_factory.mktemp("here")
    gas_sensor.main(commands(folder)["sweep"])
    end_to_end_rule.main(commands(folder)["rule"])
    return folder


def test_the_main_job_is_interrupted_and_goes_on(elsewhere):
    folder, backend = elsewhere
    (run,) = (path for path in (folder / "main").iterdir() if path.is_dir())
    record = records.Record(run)
    assert f"-{backend}-" in run.name
    assert record.lines()[0]["versions"]["backend"] == backend
    assert record.lines()[0]["versions"][backend]
    assert len(record.of_kind("resume")) == 1 and len(record.of_kind("epoch")) == 2
    outcome = record.outcome()
    assert outcome["status"] == "finished" and outcome["test_error_percent"] < 60  # of ten classes
    assert outcome["collapsed_largest_difference"] < 1e-3
    assert {"model.keras", "collapsed.keras", "figure.png"} <= {path.name for path in run.iterdir()}
    assert len(list((run / "tensorboard").glob("events*"))) == 3  # two trainings, and the figure


def same_runs(here, folder, script, number):
    """The folders of each run of a script, here and on the other backend."""
    runs = [path for path in (here / script).iterdir() if path.is_dir()]
    assert len(runs) == number
    return [(path, folder / script / path.name) for path in runs]


def test_sweeps_leave_the_same_losses_under_the_same_names(elsewhere, here):
    folder, _ = elsewhere
    for both in same_runs(here, folder, "sweep", 6):
        expected, found = map(results.load, both)
        assert found.rates.tolist() == expected.rates.tolist()
        np.testing.assert_allclose(found.curves, expected.curves, rtol=1e-4)


def test_the_rule_and_its_networks_end_alike_in_float64(elsewhere, here):
    folder, _ = elsewhere
    for both in same_runs(here, folder, "rule", 8):
        expected, found = (records.Record(run).outcome() for run in both)
        for name in ("loss", "rule_loss", "largest_difference"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-15)


@pytest.mark.slow
def test_two_devices_train_as_one_on_jax(tmp_path):
    pytest.importorskip("jax", reason="the test extra installs it")
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "reproduce")]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    objectives = []
    for strategy, replicas in (("none", 1), ("mirrored", 2)):
        # Of smaller weights than the tutorial's, which magnify a rounding error a thousand times.
        line = [*MAIN, "--init-stddev", "0.05", "--strategy", strategy]
        command = [sys.executable, ROOT / "reproduce" / "mnist_cnn.py", *line]
        subprocess.run([*command, "--output", tmp_path / strategy], env=environment, check=True)
        (run,) = (path for path in (tmp_path / strategy).iterdir() if path.is_dir())
        record = records.Record(run)
        assert record.lines()[0]["replicas"] == replicas
        objectives.append([epoch["objective"] for epoch in record.of_kind("epoch")])
    np.testing.assert_allclose(*objectives, rtol=1e-4)
