"""How published results were made, as the records say: data, seeds, device, versions, settings."""

from presenting.tables import markdown_table
from running.records import Record, read_json

# Of the outcome of consequences.py, which has no line of settings.
MEMORY_SETTINGS = ("learning_rate", "steps", "start_norm", "seeds")
VERSIONS = {"python": "Python", "platform": "on", "keras": "Keras", "tensorflow": "TensorFlow"}


def parts(assets):
    """Markdown tables by name: of each experiment's records, and of all benchmarks.

    Args:
        assets: folder of the published records: a folder of `.jsonl.gz` for each experiment, or
            one such file; and the benchmarks' reports, `benchmark_*.json`.

    Raises:
        ValueError: if a record says nothing.
    """
    paths = sorted({path.parent for path in assets.glob("*/*.jsonl.gz")})
    paths += sorted(assets.glob("*.jsonl.gz"))
    made = {f"runs_{path.name.partition('.')[0]}": runs_table(path) for path in paths}
    return made | {"runs_benchmarks": benchmark_table(sorted(assets.glob("benchmark_*.json")))}


def runs_table(path):
    """Table of what the records in a folder, or in one file, say of their runs."""
    paths = sorted(path.glob("*.jsonl.gz")) if path.is_dir() else [path]
    runs = [_first_line(one) for one in paths]
    where = f"{len(runs):,} in assets/{path.name}" if path.is_dir() else f"assets/{path.name}"
    rows = {"Records": where} | _facts(runs) | _settings_in_words(runs)
    return markdown_table(["", ""], [[name, text] for name, text in rows.items() if text])


def benchmark_table(paths):
    """Table of the benchmarks: their settings, device and versions."""
    rows = []
    for path in paths:
        report = read_json(path)
        settings = [
            f"{_name(key)} {text(value)}"
            for key, value in report.items()
            if isinstance(value, int | float | str) and key != "device"
        ]
        facts = _facts([report])
        name = path.stem.removeprefix("benchmark_")
        cells = [facts.get(key, "") for key in ("Device", "Versions")]
        rows.append([f"`{name}.py`", "; ".join(settings), *cells])
    return markdown_table(["Benchmark", "Settings", "Device", "Versions"], rows)


def text(value):
    """A setting's value in words."""
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value).replace("_", " ")


def _first_line(path):
    lines = Record.at(path).lines()
    if not lines:
        raise ValueError(f"{path} is no record; publish its run again.")
    return lines[0]


def _facts(runs):
    """Data, seeds, device and so on of runs: texts by name, of those that are recorded."""
    days = sorted({run["time"][:10] for run in runs if "time" in run})
    found = {
        "Data": _each((run.get("data") or {}).get("source") for run in runs),
        "Seeds": _seeds(runs),
        "Device": _each(run.get("device") for run in runs),
        "Precision": _each(run.get("precision") for run in runs),
        "Versions": _each(_versions(run.get("versions") or {}) for run in runs),
        "Recorded": " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
    }
    return {name: words for name, words in found.items() if words}


def _settings(run):
    if "settings" in run or "memory" not in run:
        return run.get("settings", {})
    memory = {name: run["memory"][name] for name in MEMORY_SETTINGS}
    return memory | {"radii": run["loops"]["radii"]}


def _settings_in_words(runs):
    """Every setting's recorded values, by the setting's name in words; seeds are facts."""
    names = dict.fromkeys(name for run in runs for name in _settings(run))
    return {
        _name(name): _joined(_texts(_settings(run).get(name) for run in runs))
        for name in names
        if name not in ("seed", "seeds")
    }


def _seeds(runs):
    """All seeds of runs that say theirs: one each, or several."""
    given = [_settings(run).get("seeds", _settings(run).get("seed")) for run in runs]
    lists = [seed if isinstance(seed, list) else [seed] for seed in given if seed is not None]
    return _joined(_texts(seed for seeds in lists for seed in seeds))


def _texts(values):
    """Distinct values as texts, numbers ascending, then words."""

    def order(value):
        numbers = value if isinstance(value, list | tuple) else [value]
        return [(0, n, "") if isinstance(n, int | float) else (1, 0, text(n)) for n in numbers]

    return list(dict.fromkeys(text(value) for value in sorted(values, key=order)))


def _joined(texts):
    """Texts on one line, set apart by what they do not hold themselves."""
    return ("; " if any("," in words for words in texts) else ", ").join(texts)


def _each(texts):
    return _joined(list(dict.fromkeys(filter(None, texts))))


def _versions(versions):
    return ", ".join(f"{VERSIONS.get(name, name)} {v}" for name, v in versions.items() if v)


def _name(setting):
    return setting.replace("_", " ")
