"""What an output folder holds, without what differs between two undisturbed runs."""

import hashlib
import io
import json
import zipfile

import h5py
import numpy as np

from running.records import Record

# Fields of records and summaries that tell when, and how fast, a run went.
VOLATILE = ("time", "seconds", "milliseconds_per_step")
# A line that only a resumed run has.
RESUMED = "resume"
# Folders and endings of files that are no results: logs, checkpoints, what a kill or damage left.
IGNORED = ("tensorboard", "checkpoint")
LEFT = (".partial", ".damaged")


def contents(folder):
    """What the files of a folder hold, by their relative paths; equal for equal results."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        ignored = set(name.parts) & set(IGNORED) or any(left in path.name for left in LEFT)
        if path.is_file() and not ignored:
            found[str(name)] = _content(path)
    return found


def recorded(folder):
    """The lines of all records in a folder, by their relative paths."""
    paths = (path for path in sorted(folder.rglob("*.jsonl")) if LEFT[0] not in path.name)
    return {str(path.relative_to(folder)): _lines(path) for path in paths}


def lost_lines(before, after):
    """Whether lines of records are missing that were there before."""
    return any(lines != after.get(name, [])[: len(lines)] for name, lines in before.items())


def _content(path):
    if path.suffix == ".jsonl":
        return _lines(path)
    if path.suffix == ".json":
        return _lasting(json.loads(path.read_text(), parse_constant=_no_constant))
    if path.suffix == ".keras":
        return _weights(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in arrays.items()}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _no_constant(name):
    raise ValueError(f"{name} is not JSON")


def _lines(path):
    lines = Record.at(path).lines()
    return [_lasting(line) for line in lines if line["kind"] != RESUMED]


def _lasting(value):
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in VOLATILE}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _weights(path):
    """The arrays of a Keras model, to the bit."""
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    arrays = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item.dtype.str, item.shape, item[()].tobytes()

    with h5py.File(weights) as file:
        file.visititems(keep)
    return arrays
