"""A run's life: started, interrupted, gone on with, over."""

import contextlib
import shutil

from running import records
from running.strategies import Distribution


def run(folder, start, work, *, resume=None, again=False, passing=(), distribution=None):
    """Do what is not done yet in a run's own folder; the `Record`, which has an outcome then.

    With several workers all of them call this. The chief has the record, and says what is missing.

    Args:
        folder: of the run.
        start: function that returns the fields of the record's first line.
        work: function of the record that does what is missing; the chief's returns the outcome's
            fields.
        resume: function of the record that tells whether `work` can go on from what is there, and
            restores it; without one, an interrupted run starts anew.
        again: whether to forget what is there.
        passing: patterns of paths that are of no use once the run is over.
        distribution: a `Distribution`; one device by default.
    """
    distribution = distribution or Distribution()
    folder, chief = records.make_folder(folder), distribution.is_chief
    record = records.Record(folder)
    with records.only_one(folder) if chief else contextlib.nullcontext():
        if chief:
            _remove(folder, ["*"] if again else [])
            record.mend()
        if distribution.from_chief(record.outcome() is None):
            if not (resume and resume(record)) and chief:
                _remove(folder, passing)
                record.keep([])
                record.append("start", **start())
            outcome = work(record)
            if chief:
                record.append("outcome", **outcome)
        if chief:
            _remove(folder, passing)
    return record


def _remove(folder, patterns):
    """Remove what matches one of some patterns, but for the lock."""
    for path in {path for pattern in patterns for path in folder.glob(pattern)}:
        if path.name != records.LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
