"""A new user's first hour, step by step in a fresh environment: what is typed, seen, and how long.

    python benchmarks/first_hour.py                               this commit
    python benchmarks/first_hour.py --revisions 98dc1a6 HEAD      two, one after the other

Clones the repository into a temporary folder, installs it into an environment of its own there, and
takes each step as a process of its own. MNIST is read from the folder that KERAS_OVERPARAM_ARCHIVES
names, or downloaded. Takes about four minutes a commit on two CPU cores; leave the machine alone.
"""

import argparse
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from turns import ROOT, cpu_of_children

from running import machine, records

CONTROL = re.compile(r"\x1b\[[\d;]*m|\x08+")  # colours, and going back over what is written anew
LINES = 6  # of a step's output that are kept, the last ones
OWN_MODEL = """
import keras
import numpy as np
from keras_overparam import FactoredDense

model = keras.Sequential([keras.Input((784,)), FactoredDense(512, "relu"), FactoredDense(10)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
x, y = np.random.rand(1000, 784), np.random.randint(10, size=1000)
model.fit(x, y, verbose=2)
"""
TENSORBOARD = """
import keras
import numpy as np
from keras_overparam import FactoredDense, FactorMonitor

model = keras.Sequential([keras.Input((20,)), FactoredDense(10), FactoredDense(5)])
model.compile("sgd", "mse")
x, y = np.random.rand(1000, 20), np.random.rand(1000, 5)
model.fit(x, y, verbose=2, callbacks=[keras.callbacks.TensorBoard("logs"), FactorMonitor("logs")])
"""
PROBE = """
import numpy as np
from keras_overparam import probe

features, targets = np.random.rand(500, 20), np.random.rand(500)
print(probe(4, (features, targets), horizon=10_000))
"""
PYTHON = ".venv/bin/python"
STEPS = {
    "make an environment": ["python3", "-m", "venv", ".venv"],
    "install": [".venv/bin/pip", "install", "-qq", "-e", ".[reproduce]"],
    "ask for help": [PYTHON, "reproduce/mnist_cnn.py", "--help"],
    "misspell a problem": [PYTHON, "reproduce/probe.py", "--problems", "ethanoll"],
    "read the claims": [PYTHON, "reproduce/claims.py"],
    "first model of one's own": [PYTHON, "-c", OWN_MODEL],
    "first logs for TensorBoard": [PYTHON, "-c", TENSORBOARD],
    "first probe": [PYTHON, "-c", PROBE],
    "first result, one epoch of MNIST": [
        *(PYTHON, "reproduce/mnist_cnn.py", "--overparam", "--epochs", "1"),
    ],
}


def taken(command, folder):
    """A step: seconds by the clock and of the processors, how it ended, and its last lines."""
    began, before = time.perf_counter(), cpu_of_children()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TFDS_DATA_DIR": str(folder / "data")}
    environment.pop("PYTHONPATH", None)
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return {
        "wall": round(time.perf_counter() - began, 2),
        "cpu": round(cpu_of_children() - before, 2),
        "status": run.returncode,
        "lines": shown(run.stdout, folder),
    }


def shown(output, folder):
    """What a terminal is left with: how many lines, and the last of them; places are replaced."""
    output = CONTROL.sub("", output.replace("\r\n", "\n"))
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in output.split("\n")]
    lines = [line.replace(str(folder), ".") for line in lines if line]
    if archives := os.environ.get("KERAS_OVERPARAM_ARCHIVES"):
        lines = [line.replace(archives, "archives") for line in lines]
    return {"number": len(lines), "last": lines[-LINES:]}


def first_hour(revision, steps):
    """All steps at a commit: a dictionary of the commit and of what each step took."""
    commit = _git("rev-parse", "--short", revision)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "keras_overparam"
        clone = taken(["git", "clone", "-q", str(ROOT), str(folder)], Path(scratch))
        subprocess.run(["git", "checkout", "-q", commit], cwd=folder, check=True)
        found.append({"step": "clone"} | clone)
        for step, command in steps.items():
            print(f"{commit}: {step} …", flush=True)
            found.append({"step": step} | taken(command, folder))
        size = sum(p.lstat().st_size for p in (folder / ".venv").rglob("*"))
    return {"commit": commit, "installed_bytes": size, "steps": found}


def _git(*arguments):
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main(arguments=None):
    """Take the steps, and leave what was seen as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--revisions", nargs="+", default=["HEAD"], help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "assets" / "first_hour.json")
    options = parser.parse_args(arguments)
    hours = [first_hour(revision, STEPS) for revision in options.revisions]
    report = {"versions": records.versions(), "device": machine.device_name(), "hours": hours}
    records.write_json(options.output, report)


if __name__ == "__main__":
    main()
