"""The benchmarks run; what they measure is nobody's test."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import first_hour
import gpu
import keras
import numpy as np
import pytest
import start_up
from linear_task import Task, multiply

from publishing import first_hour_table

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
UNITS = {"sweep.py": ["µs per configuration-iteration", "exponent"]}


def run_quickly(script, arguments, folder):
    """Run a benchmark in this process; its report."""
    output = folder / "report.json"
    importlib.import_module(script.removesuffix(".py")).main([*arguments, "--output", str(output)])
    return json.loads(output.read_text())


@pytest.mark.parametrize("script", QUICK)
def test_benchmarks_run(script, tmp_path):
    rows = run_quickly(script, QUICK[script], tmp_path)["rows"]
    assert {line["unit"] for line in rows} == {*UNITS.get(script, ["ms per step"]), "ratio"}
    assert all(line["median"] > 0 for line in rows if line["unit"] != "exponent")


def test_the_growth_of_an_optimizers_step(tmp_path):
    small = ["--widths", "6", "8", "--depths", "2", "3", "--base-width", "6"]
    rows = run_quickly("optimizer_growth.py", ["--rounds", "1", "--steps", "1", *small], tmp_path)[
        "rows"
    ]
    assert {row["unit"] for row in rows} == {"ms per step", "ratio", "exponent"}
    points = {(row["contender"], row["width"], row["depth"]) for row in rows if "width" in row}
    assert {("Adam", 8, 2), ("EndToEnd, exact", 6, 3)} <= points
    assert all(row["median"] > 0 for row in rows if row["unit"] != "exponent")


def test_training_step(tmp_path):
    """Contenders that learn otherwise than the oracle would end the run."""
    output = tmp_path / "report.json"
    # In a process of its own: it measures the memory of processes, and has PyTorch's threads.
    command = [sys.executable, ROOT / "benchmarks" / "training_step.py", "--quick"]
    run = subprocess.run([*command, "--output", output], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    rows = json.loads(output.read_text())["rows"]
    medians = {}
    for row in rows:
        medians.setdefault(row["unit"], []).append(row["median"])
    assert medians.keys() == {"GFLOP/s", "GB/s", "ms per step", "ratio", "exponent", "MB"}
    assert all(min(medians[unit]) > 0 for unit in medians if unit != "exponent")
    operations = {
        (row["contender"], row["batch"]): row["operations"]
        for row in rows
        if "depth" in row and "operations" in row
    }
    assert operations["Dense", 4] == 6 * 4 * 8 * 8
    assert operations["stacked Dense", 4] == 2 * operations["Dense", 4]
    assert (tmp_path / "report.png").stat().st_size > (tmp_path / "report.svg").stat().st_size > 0


def test_orders_are_all_ways_to_multiply():
    task = Task((3, 5, 2, 4), batch=6)
    factors = [task.inputs(), *task.matrices()]
    counts = {order: task.operations(order) for order in task.orders()}
    assert len(counts) == 5  # Catalan's number
    products = [multiply(order, factors) for order in counts]
    np.testing.assert_allclose(products[1:], [products[0]] * 4, rtol=1e-4, atol=1e-5)
    assert counts[task.in_sequence()] == 6 * 6 * (3 * 5 + 5 * 2 + 2 * 4)
    assert counts[0, ((1, 2), 3)] == 6 * (3 * 5 * 2 + 3 * 2 * 4 + 6 * 3 * 4)


def test_start_up(tmp_path, monkeypatch):
    """With light packages: what the real ones take is nobody's test."""
    monkeypatch.setattr(start_up, "PACKAGES", ("json", "sqlite3"))
    output = tmp_path / "report.json"
    start_up.main(["--rounds", "1", "--backends", "tensorflow", "--output", str(output)])
    *times, ratio, a, b, c = json.loads(output.read_text())["rows"]
    assert all(row["median"] > 0 for row in (*times, a, b, c))
    assert ratio["median"] == pytest.approx(times[1]["median"] / times[0]["median"], rel=1e-2)
    assert ratio["modules"] > len(ratio["modules_of_others"]) > 0


def test_a_first_hour(monkeypatch, tmp_path):
    say = "print('here:', __import__('os').getcwd()); raise SystemExit(3)"
    (tmp_path / "file").touch()
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(first_hour, "ROOT", tmp_path)
    monkeypatch.setattr(first_hour, "STEPS", {"a step": [sys.executable, "-c", say]})
    output = tmp_path / "hour.json"
    first_hour.main(["--output", str(output)])
    (hour,) = json.loads(output.read_text())["hours"]
    clone, step = hour["steps"]
    assert (clone["status"], step["status"]) == (0, 3)
    assert step["lines"] == {"number": 1, "last": ["here: ."]}
    assert step["wall"] > 0 < step["cpu"]
    assert "a step: " in first_hour_table.first_hour(output)


@pytest.mark.slow
def test_conversion_of_applications(tmp_path):
    arguments = [*CONVERSION, "--models", "MobileNet"]
    report = run_quickly("conversion.py", arguments, tmp_path)
    (model,) = report["models"]
    original, deep, flat = model["parameters"]
    assert original == flat < deep
    assert model["difference_overparameterized"] < 1e-5 > model["difference_collapsed"]
    assert all(line["median"] > 0 for line in report["rows"])


@pytest.mark.slow
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


def test_what_a_gpu_is_to_show_runs_on_a_processor(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "backend", keras.backend.backend)
    small = ["--widths", "8", "--batches", "4", "--configurations", "2", "--examples", "20"]
    small += ["--peak-size", "16", "--rounds", "1", "--steps", "2"]
    for part in ("limits", "training_step", "end_to_end_step", "sweep"):
        output = tmp_path / f"{part}.json"
        gpu.main([*small, "--worker", part, "--output", str(output)])
        found = json.loads(output.read_text())
        assert found["device"] and found["rows"]
        assert all(row["median"] > 0 for row in found["rows"] if "share" not in row["what"])
    assert len(gpu.digest(2)) == 64
    gpu.main(["--wheels"])
    assert "keras==" in capsys.readouterr().out


def test_a_part_that_fails_leaves_the_others_alone(tmp_path):
    """In other processes, as on a GPU; one has no data, and one no time."""
    output = tmp_path / "gpu.json"
    options = ["--peak-size", "16", "--archives", "/no/such/folder", "--dataset", "mnist"]
    with pytest.raises(SystemExit, match="main_job': 'ended with status 1'"):
        gpu.main([*options, "--parts", "main_job", "limits", "--output", str(output)])
    parts = json.loads(output.read_text())["parts"]
    assert parts["main_job"]["rows"] == [] and len(parts["limits"]["rows"]) == 3
    with pytest.raises(SystemExit, match="left out"):
        gpu.main([*options, "--seconds", "1", "--parts", "limits", "--output", str(output)])
