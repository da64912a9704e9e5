"""What TensorBoard shows of the MNIST scripts' runs, by its own readers; and how it is opened."""

import json
import os
import shlex
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from experiments.mnist import boards
from experiments.mnist.settings import Settings
from keras_overparam import FactoredDense, FactorMonitor
from keras_overparam.event_log import EventLog


def leave_logs(settings, folder):
    """What a run of the settings leaves, of a network of one layer."""
    log = EventLog(folder)
    boards.describe(settings, log)
    log.scalar("training/objective", 1.0, 10)
    log.scalar("validation/error_percent", 90.0, 10)
    log.flush()
    if settings.depth > 1:
        model = keras.Sequential([keras.Input((3,)), FactoredDense(2, name="dense1")])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(np.eye(3), np.ones((3, 2)), verbose=0, callbacks=[FactorMonitor(folder)])


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for settings in (Settings(), Settings(depth=2), Settings(depth=2, learning_rate=0.02)):
        leave_logs(settings, folder / settings.run_name / "tensorboard")
    return folder


@pytest.fixture(scope="module")
def provider(logs):
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer

    runs = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(logs)).Reload()
    return data_provider.MultiplexerDataProvider(runs, str(logs))


@pytest.fixture(scope="module")
def request_context():
    from tensorboard import context

    return context.RequestContext()


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")  # TensorBoard's own
def test_the_objective_comes_first_and_the_spectra_last(provider, request_context):
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin

    plugin = CustomScalarsPlugin(TBContext(data_provider=provider, logdir=""))
    layout = json.loads(plugin.layout_impl(request_context, ""))
    assert [category["title"] for category in layout["category"]] == [
        "Training",
        "End-to-end rule",
        "Preconditioner",
        "Spectrum of the products",
    ]
    assert layout["category"][0]["chart"][0]["title"] == "Objective"
    runs = provider.list_scalars(request_context, experiment_id="", plugin_name="scalars")
    groups = {tag.split("/")[0] for tags in runs.values() for tag in tags}
    assert sorted(groups) == ["training", "validation", "weights"]  # as "Time series" has them


def test_what_differs_between_the_runs_is_first(provider, request_context):
    from tensorboard.plugins.hparams.backend_context import Context

    known = Context(SimpleNamespace(data_provider=provider, logdir="", flags=None))
    contents = known.hparams_metadata(request_context, "")
    found = known.experiment_from_metadata(request_context, "", True, contents, [])
    names = [one.name for one in found.hparam_infos]
    assert names[:3] == ["depth", "learning_rate", "model"]
    assert {"backend", "regularize", "seed"} < set(names[3:])
    metrics = [(one.name.group, one.name.tag) for one in found.metric_infos[:2]]
    assert metrics == [("", "training/objective"), ("", "validation/error_percent")]


@pytest.mark.skipif(os.name == "nt", reason="runs a shell script")
@pytest.mark.parametrize("folder", ["runs/mnist_cnn", "my runs/it's $HOME; a*"])
def test_the_command_that_opens_it_can_be_pasted(tmp_path, monkeypatch, folder):
    program = tmp_path / "tensorboard"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    command = boards.opening(folder)
    assert command.startswith("tensorboard --logdir ")
    told = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["--logdir", folder]


@pytest.mark.skipif(os.name == "nt", reason="splits as a POSIX shell does")
def test_where_the_shell_does_not_find_it_python_starts_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = shlex.split(boards.opening("my runs"))
    assert words == [sys.executable, "-m", "tensorboard.main", "--logdir", "my runs"]
    version = [*words[:3], "--version_tb"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.strip()
