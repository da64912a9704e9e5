"""One page of everything that was published: ledger, figures, tables, and how each was made.

The words are in `page_contents`, the page's shape in `page.html.j2` and `page.css`.
"""

import base64
import io
import struct
from pathlib import Path

import PIL.Image
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from publishing import page_runs as report_runs
from publishing.markdown import Table, blocks
from publishing.page_contents import EXPERIMENTS, FIGURES, TABLES
from running.records import read_json

# The words of a verdict, and their style.
VERDICTS = {"reproduced": "good", "partly": "fair", "not reproduced": "bad"}
LEDGER = "claims"  # the generated table that the ledger makes needless
FOLDED = 25  # tables of more rows than that are folded
PNG = b"\x89PNG\r\n\x1a\n"


def page(assets, tables):
    """The page as HTML text; the same files give the same text.

    Args:
        assets: folder of the published records, figures and the ledger.
        tables: generated tables by name, as Markdown.

    Raises:
        ValueError: if something in assets has no place on the page, or something is damaged.
    """
    assets = Path(assets)
    ledger = load_ledger(assets / "claims.json")
    figures = load_figures(assets)
    tables = load_tables(tables)
    sections = [section(key, assets, figures, tables) for key in EXPERIMENTS]
    check_complete(sections, assets)
    return template().render(
        ledger=ledger,
        verdicts=VERDICTS,
        counts={verdict: [r["verdict"] for r in ledger].count(verdict) for verdict in VERDICTS},
        sections=sections,
        folded=FOLDED,
    )


def load_ledger(path):
    """Rows of the claims ledger."""
    rows = read_json(path)
    for row in rows:
        if row["verdict"] not in VERDICTS:
            raise ValueError(f"{path} holds an unknown verdict: {row['verdict']!r}.")
    return rows


def load_figures(assets):
    """Figures by name, in the order of their entries: caption, size and content."""
    names = {path.stem for path in assets.glob("*.png")}
    demand_entries(names, FIGURES, "FIGURES", "the figure")
    missing = sorted(FIGURES.keys() - names)
    if missing:
        raise ValueError(f"{assets} lacks the figure {missing[0]}.png; draw it again.")
    return {
        name: {"name": name, "number": number, "words": words, **load_png(assets / f"{name}.png")}
        for number, (name, words) in enumerate(FIGURES.items(), start=1)
    }


def load_png(path):
    """Size of an image, and the data URI of its content."""
    content = path.read_bytes()
    if not content.startswith(PNG):
        raise ValueError(f"{path} is not a PNG file; draw it again.")
    try:
        PIL.Image.open(io.BytesIO(content)).verify()
    except Exception as error:  # damage shows as any error
        raise ValueError(f"{path} is damaged ({error}); draw it again.") from error
    width, height = struct.unpack(">II", content[16:24])  # the first chunk is always the header
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return {"width": width, "height": height, "uri": uri}


def load_tables(tables):
    """Blocks of the generated tables by name, in the order of their entries, with captions."""
    tables = {name: text for name, text in tables.items() if name != LEDGER}
    demand_entries(tables, TABLES, "TABLES", "the generated table")
    return {name: captioned(name, blocks(tables[name])) for name in TABLES if name in tables}


def captioned(name, found):
    """The blocks of a generated part, each with its caption, None for text."""
    titles = list(TABLES[name].titles)
    count = sum(isinstance(block, Table) for block in found)
    if count != len(titles):
        raise ValueError(f"{name} has {count} tables, but {len(titles)} titles in TABLES.")
    return [(titles.pop(0) if isinstance(block, Table) else None, block) for block in found]


def section(key, assets, figures, tables):
    """What the page shows of an experiment."""
    experiment = EXPERIMENTS[key]
    runs = report_runs.runs_of(experiment, assets)
    settings = report_runs.distinct(runs)
    return {
        "key": key,
        "title": experiment.title,
        "question": experiment.question,
        "commands": [filled(command, settings) for command in experiment.commands],
        "figures": [
            figure | {"command": filled(figure["words"].command, settings)}
            for figure in figures.values()
            if figure["words"].experiment == key
        ],
        "tables": {name: t for name, t in tables.items() if TABLES[name].experiment == key},
        "facts": report_runs.facts(runs),
        "settings": {name: report_runs.joined(texts) for name, texts in settings.items()},
        "runs": runs,
        "run_table": run_table(runs, settings),
    }


def filled(command, settings):
    """A command with the recorded values of the settings that it names."""
    words = {name: " ".join(texts).replace(",", "").split() for name, texts in settings.items()}
    return command.format_map({name: " ".join(dict.fromkeys(w)) for name, w in words.items()})


def run_table(runs, settings):
    """Table of the settings in which runs differ, one row each; None for a single run."""
    if len(runs) == 1:
        return None
    names = [name for name, texts in settings.items() if len(texts) > 1]
    rows = [[run.name, *(report_runs.text(run.settings.get(n)) for n in names)] for run in runs]
    return Table(["Record", *(name.replace("_", " ") for name in names)], rows)


def demand_entries(names, entries, table, what):
    """Raise a `ValueError` that says which name has no entry in a table of `page_contents`."""
    missing = sorted(set(names) - set(entries))
    if missing:
        raise ValueError(f"{what} {missing[0]} has no entry in {table} of page_contents.py.")
    lost = sorted(n for n in names if entries[n].experiment not in EXPERIMENTS)
    if lost:
        raise ValueError(f"{what} {lost[0]} names an experiment that is not in EXPERIMENTS.")


def check_complete(sections, assets):
    """Raise a `ValueError` if a record is of no experiment on the page."""
    runs = [run for one in sections for run in one["runs"]]
    lost = report_runs.unclaimed(runs, assets)
    if lost:
        raise ValueError(f"{lost[0]} is of no experiment in EXPERIMENTS of page_contents.py.")


def template():
    """The page's template; values are escaped, and unknown names are errors."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")
