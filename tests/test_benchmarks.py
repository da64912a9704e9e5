"""The benchmarks run; what they measure is nobody's test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = {
    "mnist_step.py": ["--rounds", "1", "--steps", "2"],
    "end_to_end_step.py": ["--rounds", "1", "--steps", "1", "--shapes", "12x5", "6x6"],
    "sweep.py": [
        *["--rounds", "1", "--dataset", "diabetes", "--configurations", "3", "2"],
        *["--scale", "0.05", "--peak-size", "64"],
    ],
}
UNITS = {"sweep.py": "µs per configuration-iteration"}


@pytest.mark.parametrize("script", QUICK)
def test_benchmarks_run(script, tmp_path):
    output = tmp_path / "report.json"
    command = [sys.executable, str(ROOT / "benchmarks" / script), *QUICK[script]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--output", str(output)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    rows = json.loads(output.read_text())["rows"]
    assert {line["unit"] for line in rows} == {UNITS.get(script, "ms per step"), "ratio"}
    assert all(line["median"] > 0 for line in rows)
