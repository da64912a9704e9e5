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
    "end_to_end_cnn.py": ["--dataset", "digits", "--rounds", "1", "--steps", "2"],
    "monitor.py": ["--dataset", "digits", "--rounds", "1", "--steps", "2"],
    "end_to_end_step.py": ["--rounds", "1", "--steps", "1", "--shapes", "12x5", "6x6"],
    "sweep.py": [
        *("--rounds", "1", "--dataset", "diabetes", "--configurations", "3", "2"),
        *("--scale", "0.02", "--peak-size", "64"),
    ],
}
CONVERSION = ["--rounds", "1", "--steps", "1", "--batch", "1", "--size", "32"]
UNITS = {"sweep.py": "µs per configuration-iteration"}


def run_quickly(script, arguments, folder):
    """Run a benchmark; its report."""
    output = folder / "report.json"
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--output", str(output)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(output.read_text())


@pytest.mark.parametrize("script", QUICK)
def test_benchmarks_run(script, tmp_path):
    rows = run_quickly(script, QUICK[script], tmp_path)["rows"]
    assert {line["unit"] for line in rows} == {UNITS.get(script, "ms per step"), "ratio"}
    assert all(line["median"] > 0 for line in rows)


def test_conversion_of_applications(tmp_path):
    arguments = [*CONVERSION, "--models", "MobileNetV2"]
    report = run_quickly("conversion.py", arguments, tmp_path)
    (model,) = report["models"]
    original, deep, flat = model["parameters"]
    assert original == flat < deep
    assert model["difference_overparameterized"] < 1e-5 > model["difference_collapsed"]
    assert all(line["median"] > 0 for line in report["rows"])


def test_the_error_of_the_rule_along_a_training(tmp_path):
    arguments = ["--dataset", "digits", "--steps", "3", "--every", "1", "--tolerances"]
    rows = run_quickly("kept_rule_error.py", [*arguments, "1e-9", "0.9"], tmp_path)["rows"]
    assert [(row["kernel"], row["regularize"]) for row in rows[:2]] == [
        ("3136×512", "product"),
        ("512×10", "product"),
    ]
    for row in rows:
        assert 0 < row["exact"]["median"] <= row["exact"]["largest"] < 1e-4
        assert row["kept"]["median"] <= row["kept"]["largest"] < 0.5
        if row["tolerance"] < 1e-6:  # the exact rule at every step
            assert row["kept"]["largest"] < 1e-4
        assert 0 <= row["decompositions"] <= 3
