"""Sweeps on several devices and on several workers leave the records of one device."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from clusters import free_ports, tf_config

import gas_sensor as script
from datasets import gas_sensor
from experiments.gas_sensor import job
from experiments.gas_sensor import runs as sweep_runs
from experiments.gas_sensor import settings as sweep_settings
from keras_overparam.sweep import engine as sweep
from running import records, strategies

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--dataset", "diabetes", "--iterations", "12", "--seeds", "0"]
SAVES_BEFORE_DEATH = 15  # of a part's 12 or more: in the second part of the grid


def shrink(replace):
    """One model, of whose grid there are two parts; a checkpoint after each recorded iteration."""
    replace(job, "models", lambda experiment, base: [base])
    replace(job, "report", lambda *_: None)
    replace(sweep_settings, "FIRST_RATES", 5)
    replace(sweep_runs, "EXTENSIONS", 1)
    replace(sweep.Clock, "rang", lambda clock: True)


def run(output, strategy, cpus=1, cluster="{}", dies=False):
    """The script, in a process of its own that may kill itself; what it says goes to a file."""
    with output.with_suffix(".log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ["TF_CONFIG"] = cluster
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * cpus
    tf.config.set_logical_device_configuration(cpu, parts)
    shrink(setattr)
    save, saves = sweep.Checkpoint.save, []

    def fatal_save(checkpoint, arrays):
        save(checkpoint, arrays)
        saves.append(checkpoint)
        if len(saves) == SAVES_BEFORE_DEATH:
            os.kill(os.getpid(), signal.SIGKILL)

    if dies:
        sweep.Checkpoint.save = fatal_save
    script.main([*OPTIONS, "--output", str(output), "--strategy", strategy])


def started(*arguments):
    """A process that runs it. TensorFlow is imported once for all of them."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    process = processes.Process(target=run, args=arguments, daemon=True)
    process.start()
    return process


def started_workers(folder, dies):
    """Two workers that share no folder; the second may die."""
    ports = free_ports()
    return [
        started(
            folder / f"worker{index}",
            "multi-worker",
            1,
            tf_config(index, *ports),
            dies and index == 1,
        )
        for index in range(2)
    ]


def ended(processes):
    """Exit codes."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def trained(output):
    """What a finished sweep has on record, of each part: rates, finite steps, losses."""
    (folder,) = output.iterdir()
    assert {path.name for path in folder.iterdir()} == {records.LOCK, "record.jsonl"}
    record = records.Record(folder)
    assert record.outcome()["status"] == "finished"
    parts = record.of_kind("rates")
    assert len(parts) == 2
    return [
        np.array(part[name], float) for part in parts for name in ("exponents", "steps", "losses")
    ]


def test_records_are_those_of_one_device(tmp_path, monkeypatch):
    paths = [str(ROOT), str(ROOT / "reproduce"), str(ROOT / "tests")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    workers = started_workers(tmp_path, dies=True)
    mirrored = started(tmp_path / "mirrored", "mirrored", 2)
    shrink(monkeypatch.setattr)
    script.main([*OPTIONS, "--output", str(tmp_path / "none")])
    expected = trained(tmp_path / "none")
    log = tmp_path / "worker0.log"
    assert ended(workers) == [1, -signal.SIGKILL], log.read_text()
    assert log.read_text().count("error: A worker was lost") == 1
    (kept,) = (tmp_path / "worker1").rglob("*.npz")
    assert kept.name == "sweep-31-2of2.npz"
    assert ended(started_workers(tmp_path, dies=False)) == [0, 0], log.read_text()
    assert not [path for path in (tmp_path / "worker1").rglob("*") if path.is_file()]
    assert ended([mirrored]) == [0], (tmp_path / "mirrored.log").read_text()
    for name in ("mirrored", "worker0"):
        for found, other in zip(trained(tmp_path / name), expected, strict=True):
            np.testing.assert_allclose(found, other, rtol=1e-4)


def test_a_worker_with_another_sweep_is_refused(tmp_path, monkeypatch):
    """Before anything is trained, for the chief would wait for it."""
    data = gas_sensor.load_ethanol("diabetes")
    settings = sweep_settings.Settings(dataset="diabetes", iterations=12)
    monkeypatch.setattr(sweep_runs, "train_part", None)
    monkeypatch.setattr(strategies.Distribution, "from_chief", lambda _, digest: digest + 1)
    worker = strategies.Distribution(worker=1, workers=2)
    with pytest.raises(strategies.ClusterError, match="Worker 1 trains another run than the chief"):
        sweep_runs.run(settings, data, tmp_path, distribution=worker)
    assert not list(tmp_path.iterdir())
