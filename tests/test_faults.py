"""Faults: nothing is lost and nothing silently wrong; a sample of `fault_harness.py`."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_overparam.sweep.checkpoint import Checkpoint, CheckpointError
from publishing import fault_table, pages
from running import records

ROOT = Path(__file__).resolve().parents[1]
LINES = [{"kind": "start", "rate": 0.125}, {"kind": "epoch", "loss": [1.5, None]}, {"kind": "end"}]


def harness(*arguments):
    command = [sys.executable, str(ROOT / "tests" / "fault_harness.py"), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]


def test_a_few_kills_and_flips_lose_nothing(tmp_path):
    path = tmp_path / "matrix.json"
    some = ("--only", "sweep_linear_networks", "--faults", "kill", "bit-flip", "--kills", 3)
    harness(*some, "--output", path)
    rows = json.loads(path.read_text())["rows"]
    assert [row["trials"] >= 3 for row in rows] == [True, True]
    assert [row["losses"] for row in rows] == [[], []]


@pytest.mark.slow
def test_the_whole_matrix_is_without_losses(tmp_path):
    harness("--output", tmp_path / "matrix.json")


def test_the_published_matrix_is_whole_and_without_losses():
    matrix = json.loads((ROOT / "assets" / "fault_matrix.json").read_text(encoding="utf-8"))
    for subject, why_not in matrix["why_not"].items():
        rows = [row for row in matrix["rows"] if row["subject"] == subject]
        assert {row["fault"] for row in rows} | set(why_not) >= set(fault_table.FAULTS)
        assert [row["losses"] for row in rows] == [[] for _ in rows]
        assert sum(row["trials"] for row in rows if row["fault"] == "kill") >= 50
        # A fault of which nobody ever heard did not strike.
        heard = {row["fault"] for row in rows if row["sentences"]}
        assert heard >= {"disk", "read-only"} - set(why_not)


def flips(content):
    """The content with one bit flipped, for each of its bytes one."""
    rng = random.Random(0)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        yield place, bytes(flipped)


def test_no_flipped_bit_changes_a_record(tmp_path):
    record = records.Record(tmp_path)
    record.keep(LINES)
    content = record.path.read_bytes()
    for place, flipped in flips(content):
        record.path.write_bytes(flipped)
        assert record.lines() == LINES[: content.count(b"\n", 0, place)]


def test_no_flipped_bit_changes_a_published_record(tmp_path):
    record = records.Record(tmp_path)
    record.keep(LINES)
    published = records.Record.at(tmp_path / "record.jsonl.gz")
    records.publish(record.path, published.path)
    outcomes = set()
    for _, flipped in flips(published.path.read_bytes()):
        published.path.write_bytes(flipped)
        try:
            outcomes.add(published.lines() == LINES)
        except records.OutputError as error:
            outcomes.add("is damaged (" in str(error))
    assert outcomes == {True}


def test_no_flipped_bit_changes_a_checkpoint(tmp_path):
    checkpoint = Checkpoint(tmp_path / "sweep.npz", "digest")
    arrays = {"iteration": np.array(7), "factor": np.linspace(0, 1, 5)}
    checkpoint.save(arrays)
    assert list(tmp_path.iterdir()) == [checkpoint.path]
    content = checkpoint.path.read_bytes()
    # A header that promises less is not a matter of the archive's checksums.
    shorter = content.replace(b"'shape': (5,), ", b"'shape': (4,), ")
    refused = 0
    for _, flipped in [(0, shorter), *flips(content)]:
        checkpoint.path.write_bytes(flipped)
        try:
            loaded = checkpoint.load()
        except CheckpointError as error:
            assert f"{checkpoint.path} is damaged (" in str(error)
            refused += 1
        else:
            assert loaded.keys() == arrays.keys()
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array, strict=True)
    assert refused > len(content) / 4


def test_a_line_after_one_that_was_cut_off_is_not_lost(tmp_path, capsys):
    record = records.Record(tmp_path)
    record.keep(LINES)
    record.path.write_bytes(record.path.read_bytes()[:-5])
    record.mend()
    assert capsys.readouterr().err == ""  # that is how kills are
    record.append("more")
    assert [line["kind"] for line in record.lines()] == ["start", "epoch", "more"]


def test_a_damaged_record_is_kept_aside(tmp_path, capsys):
    record = records.Record(tmp_path)
    record.keep(LINES)
    damaged = record.path.read_bytes().replace(b"1.5", b"2.5")
    record.path.write_bytes(damaged)
    record.mend()
    assert record.lines() == LINES[:1]
    assert (tmp_path / "record.jsonl.damaged").read_bytes() == damaged
    assert "is damaged from line 2 on" in capsys.readouterr().err


def test_records_of_earlier_versions_are_read_and_mended(tmp_path):
    record = records.Record(tmp_path)
    record.path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert record.lines() == LINES
    record.mend()
    record.append("more")
    assert record.lines()[:3] == LINES


HOLD = """
import sys
from running import records
with records.only_one(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "reproduce")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    other.stdout.readline()
    with pytest.raises(records.OutputError, match="Another process is working in"):
        records.only_one(tmp_path).__enter__()
    other.kill()
    other.communicate()
    with records.only_one(tmp_path):  # the lock went with the process
        assert [path.name for path in tmp_path.iterdir()] == [records.LOCK]


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        (tmp_path / f"figure.{process}.partial.png").touch()
    (tmp_path / "other.1.partial.png").touch()
    records.write_atomically(tmp_path / "figure.png", lambda path: path.write_bytes(b"new"))
    assert {path.name for path in tmp_path.iterdir()} == {"figure.png", "other.1.partial.png"}


def test_a_damaged_figure_is_not_shown(tmp_path):
    content = bytearray((ROOT / "assets" / "mnist_cnn.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "figure.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"figure.png is damaged \("):
        pages.figure("figure.png", ":alt: a", {"path": tmp_path / "page.md"})


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "benchmark.json").write_text('{"rows": [')
    with pytest.raises(ValueError, match=r"benchmark.json is damaged \(.*\); restore it"):
        records.read_json(tmp_path / "benchmark.json")


def test_no_flipped_bit_changes_a_benchmark(tmp_path):
    path, report = tmp_path / "benchmark.json", {"device": "x", "rows": [{"median": 1.5}, None]}
    records.write_json(path, report)
    for _, flipped in flips(path.read_bytes()):
        path.write_bytes(flipped)
        try:
            assert records.read_json(path) == report
        except ValueError as error:
            assert "is damaged (" in str(error)


def test_the_table_counts_trials_and_losses(tmp_path):
    row = {"subject": "a.py", "fault": "kill", "target": "", "trials": 7, "losses": [], "said": ""}
    lost = row | {"fault": "bit-flip", "target": "records", "losses": ["x"], "said": "a.py: error"}
    facts = {"device": "here", "seed": 0, "versions": {"tensorflow": "2", "keras": "3"}}
    facts["why_not"] = {"a.py": {"network": "needs none", "checkpoints": "has none"}}
    records.write_json(tmp_path / "matrix.json", facts | {"rows": [row, lost]})
    text = fault_table.fault_table(tmp_path / "matrix.json")
    assert "| `a.py` | 7 | — | — | — | 7, **1 lost** | — | — | — |" in text
    assert "14 trials, **1 losses**" in text
    assert "—: `a.py` needs none.\n" in text
    assert "| bit flipped: records | `a.py: error` |" in text
