"""The core's annotations hold, and tell a type checker what users may do."""

import os
import re
from pathlib import Path

from mypy import api

import keras_overparam

ROOT = Path(__file__).resolve().parents[1]

# What a user writes. Without a comment of what is found in it, a line is right.
USE = """
import keras
import numpy as np

from keras_overparam import EndToEnd, FactoredDense, collapse, overparameterize
from keras_overparam import sweep_linear_networks

class Net(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.deep = FactoredDense(16, "relu", depth=3, width=[8, 4], kernel_regularizer="l2")

def trained(model: Net, features: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Net:
    deep = overparameterize(model, width=4, layers=["dense", keras.layers.Dense], report=print)
    deep.compile(EndToEnd(0.1, depth={"dense": 2}, exclude=["bias"]), loss="mse")
    deep.fit(features, features)
    plain = collapse(deep)
    reveal_type(plain)  # note: Revealed type is "user.Net"
    return plain

ones = np.ones((2, 3, 1))
result = sweep_linear_networks(np.eye(3), [1.0, 2.0, 3.0], [ones], "sgd", [0.1, 0.2], iterations=9)
reveal_type(result.iterations_to(0.1))  # note: Revealed type is "numpy.ndarray
FactoredDense(3, factorization="balance")  # error: Argument "factorization"
FactoredDense(3, kernel_constraint="unit_norm")  # error: Argument "kernel_constraint"
EndToEnd(depth="2")  # error: Argument "depth"
overparameterize(Net(), factorization="independent")  # error: Argument "factorization"
sweep_linear_networks(np.eye(3), np.eye(3), [ones], "sgd", [0.1], "9")  # error: Argument 6
"""


def test_the_core_and_its_users_code_type_check_strictly(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    file = tmp_path / "user.py"
    file.write_text(USE)
    core = os.path.relpath(keras_overparam.__path__[0])
    report, problems, _ = api.run(["--strict", "--no-error-summary", core, str(file)])
    assert problems == ""
    # From its cache, mypy reports the folder of an earlier run.
    found = dict(re.findall(r"^.+\Wuser\.py:(\d+): (.*)$", report, re.MULTILINE))
    assert len(found) == len(report.splitlines()), report  # nothing in the core
    expected = {str(n): line.split("  # ")[-1] for n, line in enumerate(USE.splitlines(), 1)}
    expected = {n: text for n, text in expected.items() if text.startswith(("note:", "error:"))}
    assert found.keys() == expected.keys(), report
    assert all(found[n].startswith(text) for n, text in expected.items()), report
