"""What the records say of how they were made: settings, data, device, versions, seeds."""

import dataclasses
from pathlib import Path

from running.records import Record, read_json

RECORDS = ("**/*.jsonl.gz", "benchmark_*.json")
UNKNOWN = "not recorded"
# Of the outcome of consequences.py, which has no line of settings.
MEMORY_SETTINGS = ("learning_rate", "steps", "start_norm", "seeds")


@dataclasses.dataclass(frozen=True)
class Run:
    """One record: where it is, the settings, and everything else that it says of the run."""

    path: Path
    settings: dict
    facts: dict

    @property
    def name(self):
        """The name of the file without its endings."""
        return self.path.name.partition(".json")[0]


def load(path):
    """Read what a record, or a benchmark's report, says of its run.

    Raises:
        ValueError: if it says nothing.
    """
    if path.suffix == ".json":
        facts = read_json(path)
        return Run(path, _scalars(facts), facts)
    lines = Record.at(path).lines()
    if not lines:
        raise ValueError(f"{path} is no record; publish its run again.")
    return Run(path, _settings(lines[0]), lines[0])


def runs_of(experiment, assets):
    """The published runs of an experiment, in the order of their names.

    Raises:
        ValueError: if there are none.
    """
    runs = [load(path) for path in sorted(Path(assets).glob(experiment.records))]
    chosen = [run for run in runs if experiment.chosen.items() <= run.settings.items()]
    if not chosen:
        raise ValueError(f"{assets} holds no records for {experiment.title!r}; publish some.")
    return chosen


def unclaimed(claimed, assets):
    """Records in assets that are not among the claimed runs."""
    paths = {path for pattern in RECORDS for path in Path(assets).glob(pattern)}
    return sorted(paths - {run.path for run in claimed})


def distinct(runs):
    """Every setting's recorded values, as texts in ascending order."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return {name: _texts(run.settings.get(name) for run in runs) for name in names}


def facts(runs):
    """Data, seeds, device and so on of runs: texts by name; data and seeds only where there are."""
    found = {
        "Records": _where(runs),
        "Data": _each(runs, lambda facts: (facts.get("data") or {}).get("source")),
        "Seeds": _seeds(runs),
        "Device": _each(runs, lambda facts: facts.get("device")) or UNKNOWN,
        "Precision": _each(runs, lambda facts: facts.get("precision")),
        "Versions": _each(runs, lambda facts: _versions(facts.get("versions") or {})) or UNKNOWN,
        "Recorded": _period(run.facts["time"][:10] for run in runs if "time" in run.facts),
    }
    return {name: text for name, text in found.items() if text}


def joined(texts):
    """Texts on one line, set apart by what they do not hold themselves."""
    return ("; " if any("," in text for text in texts) else ", ").join(texts)


def text(value):
    """A setting's value in words."""
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _where(runs):
    path = runs[0].path
    if len(runs) == 1:
        return f"assets/{path.name}"
    return f"{len(runs):,} in assets/{path.parent.name}"


def _settings(line):
    if "settings" in line:
        return line["settings"]
    memory = {name: line["memory"][name] for name in MEMORY_SETTINGS}
    return memory | {"radii": line["loops"]["radii"]}


def _scalars(facts):
    """The plain values of a benchmark's report: its settings."""
    return {
        name: value
        for name, value in facts.items()
        if isinstance(value, int | float | str) and name != "device"
    }


def _texts(values):
    """Distinct values as texts, numbers ascending, then words."""

    def order(value):
        numbers = value if isinstance(value, list | tuple) else [value]
        return [(0, n, "") if isinstance(n, int | float) else (1, 0, text(n)) for n in numbers]

    return list(dict.fromkeys(text(value) for value in sorted(values, key=order)))


def _each(runs, fact):
    return joined(list(dict.fromkeys(filter(None, (fact(run.facts) for run in runs)))))


def _seeds(runs):
    """All seeds of runs that say theirs: one each, or several."""
    given = [run.settings.get("seeds", run.settings.get("seed")) for run in runs]
    lists = [seed if isinstance(seed, list) else [seed] for seed in given if seed is not None]
    return joined(_texts(seed for seeds in lists for seed in seeds))


def _versions(versions):
    names = {"python": "Python", "platform": "on", "keras": "Keras", "tensorflow": "TensorFlow"}
    return ", ".join(
        f"{names.get(name, name)} {version}" for name, version in versions.items() if version
    )


def _period(days):
    days = sorted(set(days))
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""
