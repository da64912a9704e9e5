#!/usr/bin/env bash
# TensorBoard 2.20.0: what a resumed training's mark drops depends on the first file having one too.
#
# Expected: the file of a training that goes on begins with a SessionLog.START event that holds the
#   step it goes on from (PyTorch's SummaryWriter writes it for `purge_step`), and TensorBoard drops
#   what the folder's earlier files hold of that step and later ones.
# Seen: TensorBoard's own reader (`--load_fast false`, EventAccumulator) takes the first START in a
#   folder for the beginning, whatever its step, and drops nothing; only a second one counts. A writer
#   that marks a file only when it resumes has the points past the restored step shown twice.
# For whoever writes event files: begin every file with the mark, as FactorMonitor does.
#
# Output seen:
#   only the resumed file is marked: [0, 10, 20, 30, 20, 30, 40]
#   both are marked: [0, 10, 20, 30, 40]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf -- "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'tensorboard==2.20.0' 'setuptools<81'
cat >"$folder/two_files.py" <<'PYTHON'
import sys
import time
from pathlib import Path

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter


def write(folder, number, steps, mark):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"events.out.tfevents.{number:010d}").open("wb") as file:
        events = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if mark is not None:
            start = SessionLog(status=SessionLog.START)
            events.append(Event(wall_time=time.time(), step=mark, session_log=start))
        for step in steps:
            events.append(Event(wall_time=time.time(), step=step, summary=scalar_pb("loss", 1.0)))
        for event in events:
            RecordWriter(file).write(event.SerializeToString())


def shown(folder):
    accumulator = EventAccumulator(str(folder)).Reload()
    return [event.step for event in accumulator.Tensors("loss")]


root = Path(sys.argv[1])
for name, first_mark in (("only the resumed file is marked", None), ("both are marked", 0)):
    write(root / name, 1, [0, 10, 20, 30], first_mark)  # killed after step 30, last kept at 20
    write(root / name, 2, [20, 30, 40], 20)
    print(f"{name}: {shown(root / name)}")
PYTHON
"$folder/venv/bin/python" "$folder/two_files.py" "$folder/runs" 2>"$folder/log" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
only the resumed file is marked: [0, 10, 20, 30, 20, 30, 40]
both are marked: [0, 10, 20, 30, 40]
SEEN
