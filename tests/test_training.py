"""What a run leaves, and that nothing is lost when it is interrupted, damaged or diverges."""

import json
import sys

import keras
import numpy as np
import pytest

from datasets.images import ImageData
from experiments.mnist import results, training
from experiments.mnist.settings import Settings
from experiments.mnist.tutorial_cnn import logits
from running import records

TINY = Settings(depth=2, epochs=3, dataset="tiny")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(400).astype(np.int32) % 10
    images = rng.integers(0, 60, size=(400, 28, 28, 1))
    for index, label in enumerate(labels):  # a bar whose place tells the class
        images[index, 2 * label : 2 * label + 4] += 190
    images = images.astype(np.uint8)
    return ImageData(
        "tiny", "made here", "file", images[:300], labels[:300], images[300:], labels[300:], "0"
    )


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, training.train(TINY, data, folder)


class Stop(Exception):
    """Stands for a kill."""


def killed_in_epoch(monkeypatch, number):
    """Make training die in the middle of the given epoch."""
    original = training.StepRecorder.on_train_batch_end
    ends = iter(range(1000))

    def dies(self, batch, logs=None):
        original(self, batch, logs)
        if next(ends) == 4 * number - 2:
            raise Stop

    monkeypatch.setattr(training.StepRecorder, "on_train_batch_end", dies)


def curves(record):
    return {name: results.load(record.path).curves[name] for name in results.METRICS}


def assert_same_run(folder, record, undisturbed, data):
    for name, curve in curves(undisturbed[1]).items():
        np.testing.assert_array_equal(curves(record)[name], curve)
    ours, expected = (
        keras.saving.load_model(path / "model.keras").get_weights()
        for path in (folder, undisturbed[0])
    )
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_leaves_record_models_and_logs(undisturbed, data):
    folder, record = undisturbed
    start, outcome = record.of_kind("start")[0], record.outcome()
    assert start["settings"]["depth"] == 2
    assert start["parameters"] == 1_925_614
    assert start["versions"]["keras"] == keras.__version__
    assert start["data"]["notice"] is None
    assert outcome["status"] == "finished"
    epochs = record.of_kind("epoch")
    assert [line["first_step"] for line in epochs] == [0, 4, 8]
    for line in epochs:
        assert len(line["objective"]) == len(line["cross_entropy"]) == len(line["l2"]) == 4
        total = np.add(line["cross_entropy"], line["l2"])
        np.testing.assert_allclose(line["objective"], total, rtol=1e-5)
        assert line["milliseconds_per_step"] > 0
    model = keras.saving.load_model(folder / "model.keras")
    single = keras.saving.load_model(folder / "collapsed.keras")
    difference = np.abs(logits(model, data.test_images) - logits(single, data.test_images)).max()
    assert difference == outcome["collapsed_largest_difference"] < 1e-4
    assert single.count_params() == outcome["collapsed_parameters"] == 1_663_370
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    assert not (folder / "checkpoint").exists()
    assert not list(folder.glob("*partial*"))


def test_it_learns(undisturbed):
    cross_entropy = results.load(undisturbed[0]).curves["cross_entropy"]
    assert cross_entropy[-4:].mean() < 0.8 * cross_entropy[:2].mean()


def test_the_same_seed_gives_the_same_record(undisturbed, data, tmp_path):
    record = training.train(TINY, data, tmp_path)
    assert_same_run(tmp_path, record, undisturbed, data)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_killed_run_resumes_and_ends_like_an_undisturbed_one(
    epoch, undisturbed, data, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        killed_in_epoch(patch, epoch)
        with pytest.raises(Stop):
            training.train(TINY, data, tmp_path)
    assert len(records.Record(tmp_path).of_kind("epoch")) == epoch - 1
    record = training.train(TINY, data, tmp_path)
    assert [line["epoch"] for line in record.of_kind("resume")] == (
        [epoch - 1] if epoch > 1 else []
    )
    assert_same_run(tmp_path, record, undisturbed, data)


@pytest.mark.parametrize("damage", ["checkpoint", "record"])
def test_a_damaged_checkpoint_or_record_costs_an_epoch_not_the_result(
    damage, undisturbed, data, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        killed_in_epoch(patch, 3)
        with pytest.raises(Stop):
            training.train(TINY, data, tmp_path)
    newest = tmp_path / "checkpoint" / "epoch-2.npz"
    damaged = newest if damage == "checkpoint" else tmp_path / "record.jsonl"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    record = training.train(TINY, data, tmp_path)
    assert [line["epoch"] for line in record.of_kind("resume")] == [1]
    assert_same_run(tmp_path, record, undisturbed, data)


def test_a_finished_run_is_not_repeated_unless_asked(undisturbed, data, monkeypatch, tmp_path):
    folder, record = undisturbed
    before = record.path.read_bytes()
    monkeypatch.setattr(training.Run, "go", lambda *_: pytest.fail("repeated"))
    training.train(TINY, data, folder)
    assert record.path.read_bytes() == before
    copy = records.Record(tmp_path)
    copy.path.write_bytes(before)
    went = []
    monkeypatch.setattr(training.Run, "go", lambda _, record: went.extend(record.lines()) or {})
    training.train(TINY, data, tmp_path, again=True)
    assert [line["kind"] for line in went] == ["start"]


def test_divergence_is_a_result(data, tmp_path):
    settings = Settings(depth=2, learning_rate=1e6, epochs=2, dataset="tiny")
    record = training.train(settings, data, tmp_path)
    assert record.outcome()["status"] == "diverged"
    text = record.path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text.splitlines()[-1])["kind"] == "outcome"
    result = results.load(tmp_path)
    assert np.isnan(result.curves["objective"][-1])
    assert result.steps_to("objective", 0.0) is None


def test_tensorboard_logs_hold_the_scalars(undisturbed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = undisturbed
    events = EventAccumulator(str(folder / training.LOGS))
    events.Reload()
    assert set(events.Tags()["tensors"]) == {
        "training/objective",
        "training/cross_entropy",
        "training/l2",
        "validation/error_percent",
        "settings",
        "custom_scalars__config__",
        "_hparams_/session_start_info",
    }
    assert [event.step for event in events.Tensors("validation/error_percent")] == [4, 8, 12]
    factors = EventAccumulator(str(folder / training.LOGS / "factors" / "dense1"))
    factors.Reload()
    assert [event.step for event in factors.Tensors("weights/norm")] == [0, 4, 8, 12]


def test_an_output_folder_that_cannot_be_written_is_one_sentence(data, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(records.OutputError, match=r"output folder .* cannot be written \("):
        training.train(TINY, data, blocked / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="no such device")
def test_a_full_disk_is_one_sentence():
    with pytest.raises(records.OutputError, match=r"cannot be written \(No space left"):
        record = records.Record.at("/dev/full")
        record.append("start", text="x" * 10_000)


def test_atomic_writing_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fails(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(records.OutputError, match="No space left on device"):
        records.write_atomically(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
