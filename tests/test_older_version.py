"""What an older version recorded is found, and what it left unfinished goes on.

The folders in tests/older_version were left by version 0.1.0 before `reproduce/` had rooms: runs on
few data, finished or killed.
"""

import gzip
import shutil
from pathlib import Path

import pytest
from faults import subjects

import end_to_end_rule
import gas_sensor
import mnist_cnn
import other_networks
import probe
from experiments.gas_sensor import job
from experiments.mnist.settings import Settings
from publishing import assets
from running import records
from running.records import Record

LEFT = Path(__file__).parent / "older_version"
ROWS = ["--dataset", "diabetes", "--seeds", "0"]


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(LEFT, tmp_path / "left"))


def contents(folder):
    return {path: path.read_bytes() for path in folder.glob("*/record.jsonl")}


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (mnist_cnn, ["--overparam", "--epochs", "1", "--dataset", "digits", "--jit", "off"]),
        (gas_sensor, ["--experiments", "adam", "--iterations", "4", *ROWS]),
        (
            end_to_end_rule,
            ["--problems", "l2", "--depths", "2", "--iterations", "3", *ROWS],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_finished_runs_are_found(script, arguments, folder):
    output = folder / script.__name__
    before = contents(output)
    script.main([*arguments, "--output", str(output), "--plot-only"])
    assert list(output.rglob("*.png"))
    assert contents(output) == before


def test_an_original_network_is_found_by_its_older_name(tmp_path):
    settings = Settings()
    left, new = tmp_path / settings.older_name, tmp_path / settings.run_name
    assert "product" in left.name and "product" not in new.name
    published = assets.ROOT / "assets" / "mnist_cnn" / f"{settings.run_name}.jsonl.gz"
    left.mkdir()
    (left / "record.jsonl").write_bytes(gzip.decompress(published.read_bytes()))
    assert records.folder_of(tmp_path, settings) == left
    before = contents(tmp_path)
    mnist_cnn.main(["--dataset", "mnist", "--output", str(tmp_path), "--plot-only"])
    assert (left / "figure.png").exists() and not new.exists()
    assert contents(tmp_path) == before
    assert assets.room("mnist").place(left / "record.jsonl") == published
    new.mkdir()
    assert records.folder_of(tmp_path, settings) == new


def test_published_records_have_the_names_that_their_settings_have():
    for path in assets.room("mnist").paths:
        (start,) = Record.at(path).of_kind("start")
        assert path.name == f"{Settings(**start['settings']).run_name}.jsonl.gz"


def test_a_problem_that_was_probed_is_found(folder):
    before = contents(folder / "probe")
    arguments = ["--problems", "Linnerud, l2", "--horizon", "80"]
    probe.main([*arguments, "--output", str(folder / "probe")])
    assert contents(folder / "probe") == before


def test_a_network_goes_on_after_its_last_epoch(folder, few_images):
    (left,) = (folder / "other_networks").iterdir()
    kept = Record(left).lines()
    arguments = ["--networks", "resnet8", "--factored", "none", "--dataset", "digits"]
    other_networks.main([*arguments, "--epochs", "2", "--output", str(left.parent)])
    lines = Record(left).lines()
    assert lines[: len(kept)] == kept
    assert [line["kind"] for line in lines[len(kept) :]] == ["resume", "epoch", "outcome"]


@pytest.fixture
def few_images(monkeypatch):
    from datasets import images

    monkeypatch.setattr(images, "_load_digits", images._load_digits)  # to be put back
    subjects.few_images(None)


def test_a_sweep_goes_on_from_its_checkpoint(folder, capsys, monkeypatch):
    every = job.models
    monkeypatch.setattr(job, "models", lambda name, base: every(name, base)[:1])
    (checkpoint,) = (folder / "gas_sensor").glob("*/sweep*.npz")
    done = []
    step = job.runs.tqdm.update
    monkeypatch.setattr(job.runs.tqdm, "update", lambda bar, n=1: done.append(n) or step(bar, n))
    arguments = ["--experiments", "adam", "--iterations", "600", *ROWS]
    gas_sensor.main([*arguments, "--output", str(folder / "gas_sensor")])
    assert Record(checkpoint.parent).outcome()["status"] == "finished"
    assert "is removed" not in capsys.readouterr().err
    assert sum(done) % 600 == 599  # the checkpoint was of iteration 1
