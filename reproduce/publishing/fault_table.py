"""The matrix of faults as tables, from the record that `tests/fault_harness.py` leaves."""

from presenting.tables import markdown_table
from running.records import read_json

FAULTS = {
    "kill": "killed",
    "disk": "disk full",
    "read-only": "read-only",
    "truncate": "cut off",
    "bit-flip": "bit flipped",
    "divergence": "diverged",
    "network": "network lost",
    "two-copies": "two copies",
}
NOTHING = "—"


def fault_table(path):
    """Markdown: trials by script and fault, with losses; what was said, by fault.

    Args:
        path: the record, a JSON file.
    """
    report = read_json(path)
    rows = report["rows"]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    matrix = [
        [f"`{subject}`", *(_cell(_of(rows, subject=subject, fault=fault)) for fault in FAULTS)]
        for subject in subjects
    ]
    examples = {}
    for row in sorted(rows, key=lambda row: list(FAULTS).index(row["fault"])):
        if row["said"]:
            examples.setdefault(_what(row), f"`{row['said']}`")
    trials, losses = (sum(counts) for counts in zip(*map(_counts, rows), strict=True))
    versions = report["versions"]
    return "\n\n".join(
        [
            markdown_table(["", *FAULTS.values()], matrix),
            f"{trials:,} trials, **{losses or 'no'} losses**; {report['device']}; TensorFlow "
            f"{versions['tensorflow']}, Keras {versions['keras']}; seed {report['seed']}. "
            f"{NOTHING}: {_why_not(report['why_not'])}.",
            markdown_table(["Fault", "Said, for example"], examples.items()),
        ]
    )


def _why_not(reasons):
    """Why some cells are empty, in words."""
    subjects = {}
    for subject, faults in reasons.items():
        for fault in faults.keys() & FAULTS.keys():
            subjects.setdefault(faults[fault], {})[f"`{subject}`"] = None
    return "; ".join(f"{', '.join(names)} {why}" for why, names in sorted(subjects.items()))


def _of(rows, **wanted):
    return [row for row in rows if wanted.items() <= row.items()]


def _counts(row):
    return row["trials"], len(row["losses"])


def _cell(rows):
    """Trials, with the number of losses if there are any."""
    trials, losses = (sum(_counts(row)[index] for row in rows) for index in (0, 1))
    return (f"{trials}, **{losses} lost**" if losses else f"{trials}") if trials else NOTHING


def _what(row):
    return f"{FAULTS[row['fault']]}: {row['target']}" if row["target"] else FAULTS[row["fault"]]
