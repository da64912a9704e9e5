"""Sweeps on several devices and on several workers leave the records of one device.

Run as a script, this file is one process of such a sweep.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import gas_sensor as script
from keras_overparam import sweep
from plumbing import records, sweep_runs

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ["--dataset", "diabetes", "--iterations", "12", "--seeds", "0", "--output"]
SAVES_BEFORE_DEATH = 15  # of a part's 12: in the second part of the grid


def shrink(replace):
    """One model, of whose grid there are two parts; a checkpoint after each recorded iteration."""
    replace(script, "models", lambda experiment, base: [base])
    replace(script, "report", lambda *_: None)
    replace(sweep_runs, "FIRST_RATES", 5)
    replace(sweep_runs, "EXTENSIONS", 1)
    replace(sweep.Clock, "rang", lambda clock: True)


def main(devices, dies, arguments):
    """The script as a process of its own, with so many CPUs; it may kill itself."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * devices
    )
    shrink(setattr)
    save, saves = sweep.Checkpoint.save, []

    def fatal_save(checkpoint, arrays):
        save(checkpoint, arrays)
        saves.append(checkpoint)
        if len(saves) == SAVES_BEFORE_DEATH:
            os.kill(os.getpid(), signal.SIGKILL)

    if dies:
        sweep.Checkpoint.save = fatal_save
    script.main(arguments)


def process(strategy, output, devices=1, dies=False, **environment):
    """A started process of the sweep; it appends what it says to a file beside its folder."""
    arguments = [str(devices), str(int(dies)), *OPTIONS, str(output), "--strategy", strategy]
    path = os.pathsep.join([str(ROOT), str(ROOT / "reproduce")])
    with output.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env=os.environ | {"PYTHONPATH": path} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def workers(folder, dies=()):
    """Two started workers that share no folder; those named are killed."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = {"worker": [f"localhost:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    configs = [{"cluster": cluster, "task": {"type": "worker", "index": i}} for i in range(2)]
    return [
        process(
            "multi-worker", folder / f"worker{i}", dies=i in dies, TF_CONFIG=json.dumps(config)
        )
        for i, config in enumerate(configs)
    ]


def trained(output):
    """Rates, steps and losses on record in a folder."""
    (path,) = output.glob("*/record.jsonl")
    parts = records.Record(path.parent).of_kind("rates")
    assert records.Record(path.parent).outcome() and not list(path.parent.glob("*.npz"))
    return [np.array([part[what] for part in parts[1:]] , float) for what in ("exponents", "steps", "losses")] + [np.array(parts[0][what], float) for what in ("exponents", "steps", "losses")]


def test_records_are_those_of_one_device(tmp_path, monkeypatch):
    killed = workers(tmp_path, dies=[1])
    shrink(monkeypatch.setattr)
    script.main([*OPTIONS, str(tmp_path / "none")])
    expected = trained(tmp_path / "none")
    print(killed[1].wait(), killed[0].wait())
    print((tmp_path / "worker0.log").read_text())
    print((tmp_path / "worker1.log").read_text())
    mirrored = process("mirrored", tmp_path / "mirrored", devices=2)
    print(mirrored.wait())
    print((tmp_path / "mirrored.log").read_text())
    again = workers(tmp_path)
    print([a.wait() for a in again])
    print((tmp_path / "worker0.log").read_text())
    print((tmp_path / "worker1.log").read_text())
    for output in ("mirrored", "worker0"):
        for a, b in zip(expected, trained(tmp_path/output)):
            print(a.shape, np.abs(a/b-1).max())
    for p in tmp_path.rglob("*"): print(p)
    print((list((tmp_path/"mirrored").glob("*/record.jsonl"))[0]).read_text())
    assert 0


if __name__ == "__main__":
    main(int(sys.argv[1]), bool(int(sys.argv[2])), sys.argv[3:])
