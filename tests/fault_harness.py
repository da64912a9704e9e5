"""Kills, full disks, damage: what becomes of every script and of the sweep engine.

    python tests/fault_harness.py                                 the whole matrix, an hour or so
    python tests/fault_harness.py --only report.py --faults kill  a part of it
    python tests/fault_harness.py --output assets/fault_matrix.json

Each subject runs undisturbed first; then each fault is thrown at it at seeded random places and
times, and what it leaves is compared with what the undisturbed run left, to the bit but for the
fields in `faults.contents.VOLATILE`. A part of the matrix replaces its rows in the output file.
Full and read-only disks are mounted, which takes root on Linux.
"""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "reproduce")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Imported here so that forked processes need not: they must only be imported, nothing computed.
import sklearn.datasets
import tensorflow_datasets.image_classification
from faults.injected import FAULTS, Laboratory, load
from faults.subjects import PUBLISHED, SUBJECTS, published_copy

import consequences
import end_to_end_rule
import explain
import gas_sensor
import mnist_cnn
import mnist_rates
import other_networks
import probe
import report
from datasets import gas_sensor_builder
from running import machine, records

PREPARED_BY = {"mnist": "mnist_cnn.py", "gas_sensor": "consequences.py"}


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--kills", type=int, default=50, help="of each subject (%(default)s)")
    parser.add_argument("--trials", type=int, default=4, help="of other faults (%(default)s)")
    parser.add_argument("--only", choices=names, nargs="+", default=names, metavar="SCRIPT")
    parser.add_argument("--faults", choices=FAULTS, nargs="+", default=list(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, help="prepared data, made where they are missing")
    parser.add_argument("--output", type=Path, help="JSON file of the matrix")
    return parser.parse_args(arguments)


def cells_of(subject, options, scratch, prepared):
    """The subject's row of the matrix: dictionaries of its cells, and why others are missing."""
    laboratory = Laboratory(subject, scratch, options.seed, options.trials, prepared)
    print(f"{subject.name}: {laboratory.undisturbed.seconds:.1f} s undisturbed", flush=True)
    for name in options.faults:
        if name in subject.why_not:
            continue
        started = time.monotonic()
        arguments = (options.kills,) if name == "kill" else ()
        for cell in FAULTS[name](laboratory, *arguments):
            yield cell
            seconds = time.monotonic() - started
            print(
                f"  {name} {cell.target}: {cell.trials} trials, {len(cell.losses)} losses, "
                f"{seconds:.0f} s; {cell.said}",
                flush=True,
            )
            for loss in cell.losses:
                print(f"    LOSS {loss}", flush=True)


def prepare_data(subjects, faults, folder, scratch):
    """Have the data sets prepared once that the subjects need, undisturbed."""
    damaging = {"truncate", "bit-flip"} & set(faults)
    for data in {subject.data for subject in subjects if subject.data and damaging}:
        if (folder / data).exists():
            continue
        (maker,) = (subject for subject in SUBJECTS if subject.name == PREPARED_BY[data])
        options = ("--dataset", data, "--data-dir", str(folder))
        bench = _Bench(maker, scratch / f"prepare-{data}")
        ended, loaded = load(bench, bench.scratch / "out", *options, changes=(_with_archives,))
        if not loaded:
            sys.exit(f"{data} could not be prepared: {ended.errors}")
        print(f"{data}: prepared in {ended.seconds:.0f} s", flush=True)


class _Bench(Laboratory):
    """A laboratory without an undisturbed run."""

    def __init__(self, subject, scratch):
        scratch.mkdir()
        self.subject, self.scratch, self.count = subject, scratch, 0


ARCHIVES = os.environ.get("KERAS_OVERPARAM_ARCHIVES", "")


def _with_archives(_):
    os.environ["KERAS_OVERPARAM_ARCHIVES"] = ARCHIVES


def matrix(options):
    """The rows that the options ask for, and the facts of how they were made."""
    subjects = [subject for subject in SUBJECTS if subject.name in options.only]
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        prepared = options.data_dir or Path(scratch) / "prepared"
        prepare_data(subjects, options.faults, prepared, Path(scratch))
        published_copy(Path(scratch) / PUBLISHED, ROOT)  # the output may be among it
        for subject in subjects:
            folder = Path(scratch) / subject.name
            folder.mkdir()
            for cell in cells_of(subject, options, folder, str(prepared)):
                row = {"subject": subject.name, **dataclasses.asdict(cell)}
                rows.append(row)
                if options.output:
                    write(rows, options)
            shutil.rmtree(folder)
    return rows


def _key(row):
    return row["subject"], row["fault"], row["target"]


def write(rows, options):
    """Put the rows into the output file, in the place of earlier ones of theirs."""
    earlier = records.read_json(options.output)["rows"] if options.output.exists() else []
    new = {_key(row) for row in rows}
    order = [subject.name for subject in SUBJECTS]
    kept = [row for row in earlier if _key(row) not in new] + rows
    kept.sort(key=lambda row: (order.index(row["subject"]), list(FAULTS).index(row["fault"])))
    records.write_json(
        options.output,
        {
            "seed": options.seed,
            "kills": options.kills,
            "trials": options.trials,
            "device": machine.processor(),
            "versions": records.versions(),
            "why_not": {subject.name: subject.why_not for subject in SUBJECTS},
            "rows": kept,
        },
        indent=1,
    )


def main(arguments=None):
    """Run the command line."""
    rows = matrix(parse(arguments))
    losses = sum(len(row["losses"]) for row in rows)
    print(f"{sum(row['trials'] for row in rows):,} trials, {losses} losses")
    sys.exit(losses > 0)


if __name__ == "__main__":
    main()
