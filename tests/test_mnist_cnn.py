"""The command line of the main job, as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

import mnist_cnn
from experiments.mnist import job, results
from experiments.mnist.settings import Settings
from running import records

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--dataset", "digits", "--epochs", "1"]


def fails(capsys, *arguments):
    """Run the command line, which must fail; its message on standard error."""
    with pytest.raises(SystemExit) as caught:
        mnist_cnn.main([str(argument) for argument in arguments])
    if isinstance(caught.value.code, str):
        return caught.value.code
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Both networks trained for one epoch on the embedded digits, in a process of their own."""
    output = tmp_path_factory.mktemp("out")
    script = str(ROOT / "reproduce" / "mnist_cnn.py")
    command = [sys.executable, script, "--compare", *QUICK, "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return output, run


def test_compare_leaves_everything(compared):
    output, run = compared
    for depth in (1, 2):
        folder = output / Settings(depth=depth, epochs=1, dataset="digits").run_name
        left = {path.name for path in folder.iterdir()}
        assert left == {
            ".lock",
            "record.jsonl",
            "model.keras",
            "collapsed.keras",
            "figure.png",
            "figure.svg",
            "tensorboard",
        }
    (figure,) = output.glob("compare-*.png")
    (summary,) = output.glob("compare-*.json")
    original, overparameterized = json.loads(summary.read_text())
    assert original["parameters"] == 1_663_370
    assert overparameterized["parameters"] == 1_925_614
    assert figure.stat().st_size > 10_000
    assert "| Test error (%) |" in run.stdout
    assert "step/s" in run.stderr  # the progress bar


def test_the_substitute_for_mnist_is_announced_everywhere(compared):
    output, run = compared
    assert "NOT MNIST" in run.stderr
    record = next(output.glob("*/record.jsonl"))
    assert "NOT MNIST" in records.Record.at(record).of_kind("start")[0]["data"]["notice"]


def test_it_prints_nothing_but_its_own_messages(compared):
    _, run = compared
    assert "Traceback" not in run.stderr
    assert "retracing" not in run.stderr


def test_a_run_killed_outright_goes_on_with_the_same_command(tmp_path):
    script = str(ROOT / "reproduce" / "mnist_cnn.py")
    arguments = ["--dataset", "digits", "--epochs", "3", "--output", str(tmp_path)]
    record = records.Record(tmp_path / Settings(epochs=3, dataset="digits").run_name)
    process = subprocess.Popen([sys.executable, script, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not record.of_kind("epoch") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(record.of_kind("epoch"))
    assert 1 <= done < 3, "the kill came too late to mean anything"
    mnist_cnn.main(arguments)
    assert record.outcome()["status"] == "finished"
    assert [line["epoch"] for line in record.of_kind("resume")] == [done]
    assert [line["epoch"] for line in record.of_kind("epoch")] == [1, 2, 3]


def test_plot_only_redraws_without_training(compared, capsys, monkeypatch):
    output, _ = compared
    for figure in output.rglob("*.png"):
        figure.unlink()
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("trained"))
    monkeypatch.setattr(job, "load_images", lambda *_: pytest.fail("loaded"))
    mnist_cnn.main(["--compare", *QUICK, "--plot-only", "--output", str(output)])
    assert len(list(output.rglob("*.png"))) == 3
    assert "overparameterized, L2 on product" in capsys.readouterr().out


def test_the_same_records_give_the_same_figure(compared):
    output, _ = compared
    arguments = ["--compare", *QUICK, "--plot-only", "--output", str(output)]
    mnist_cnn.main(arguments)
    (figure,) = output.glob("compare-*.png")
    before = figure.read_bytes()
    mnist_cnn.main(arguments)
    assert figure.read_bytes() == before


def test_the_collapsed_model_loads_where_the_package_is_not_installed(compared, tmp_path):
    output, _ = compared
    folder = output / Settings(depth=2, epochs=1, dataset="digits").run_name
    code = (
        "import sys, keras; m = keras.saving.load_model(sys.argv[1]); print(m.count_params());"
        "assert not any('keras_overparam' in name for name in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder / "collapsed.keras")]
        if sys.version_info >= (3, 11)
        else [sys.executable, "-c", code, str(folder / "collapsed.keras")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "1663370", run.stderr[-2000:]


def test_the_trained_model_needs_this_package_only(compared):
    output, _ = compared
    folder = output / Settings(depth=2, epochs=1, dataset="digits").run_name
    model = keras.saving.load_model(folder / "model.keras")
    assert type(model).__name__ == "Functional"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--overparam", "--depth", "0"], "must be a positive integer, received '0'"),
        (["--overparam", "--width", "-3"], "must be a positive integer, received '-3'"),
        (["--epochs", "many"], "must be a positive integer, received 'many'"),
        (["--learning-rate", "nan"], "must be a positive number, received 'nan'"),
        (["--seeds", "-1"], "must be an integer from 0 to 4294967295, received '-1'"),
        (["--depth", "3"], "--depth and --width need --overparam or --compare"),
        (["--overparam", "--compare"], "not allowed with argument"),
        (["--regularize", "both"], "invalid choice: 'both'"),
        (["--device", "tpu"], "--device: must be auto, cpu, gpu or gpu:N, received 'tpu'"),
        (["--device", "gpu:99"], "--device gpu:99 asks for a GPU, but TensorFlow sees"),
    ],
)
def test_bad_options_are_one_sentence(arguments, sentence, capsys, tmp_path):
    assert sentence in fails(capsys, *arguments, "--output", tmp_path)


def test_an_output_that_cannot_be_written_is_one_sentence(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = fails(capsys, *QUICK, "--output", tmp_path / "file")
    assert "cannot be written" in message
    assert "choose another one with --output" in message


def test_archives_that_are_not_mnist_are_one_sentence(capsys, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not MNIST")
    message = fails(capsys, "--archives", tmp_path, "--output", tmp_path / "out")
    assert message.startswith("mnist_cnn.py: error: The archive train-images-idx3-ubyte.gz")


def test_nothing_to_plot_is_one_sentence(capsys, tmp_path):
    message = fails(capsys, "--plot-only", "--output", tmp_path)
    assert "holds no finished runs of these settings" in message


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "train", interrupted)
    with pytest.raises(SystemExit) as ended:
        mnist_cnn.main([*QUICK, "--output", str(tmp_path)])
    assert ended.value.code == 130
    assert "The same command goes on after the last finished epoch" in capsys.readouterr().err


def test_an_unfinished_record_cannot_be_summarized(tmp_path):
    records.Record(tmp_path).append("start", settings={})
    with pytest.raises(ValueError, match="holds no finished run"):
        results.load(tmp_path)
