"""From the records in assets/ to all that is made from them: figures, summaries, tables, pages."""

import contextlib
import importlib
import re
import sys
from pathlib import Path

import experiments
from publishing import benchmark_tables, ledger_tables, provenance, zoo_tables
from running.chatter import import_keras
from running.commands import end_interrupted
from running.records import (
    USUAL_BACKEND,
    OutputError,
    Record,
    make_folder,
    read_json,
    to_indented_json,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]
LEDGER = "claims.json"  # in assets/


@contextlib.contextmanager
def command(name):
    """A command line that ends in one sentence if it cannot read assets/, or not write."""
    try:
        yield
    except (OSError, ValueError, OutputError) as error:
        sys.exit(f"{name}: error: {error}")
    except (AttributeError, LookupError, TypeError) as error:  # of a file that lacks something
        sys.exit(
            f"{name}: error: A file in {ROOT / 'assets'} is damaged ({error!r}); restore the files "
            "there with git."
        )
    except KeyboardInterrupt:
        end_interrupted()


def room(name):
    """What is published of an experiment, by its room's name."""
    import_keras()
    from running import machine

    machine.prepare()
    return importlib.import_module(f"experiments.{name}.published").Published(ROOT / "assets")


def rooms():
    """What is published of all experiments."""
    return [room(name) for name in experiments.ROOMS]


def ledger(found=None):
    """The claims ledger: all experiments' rows.

    Args:
        found: the experiments, if they are read already.
    """
    rows = [row for one in found or rooms() for row in one.claims()]
    return [row | {"why": row.get("why", "")} for row in rows]


def judge_again(name):
    """Put an experiment's rows into the ledger's file, in the place of those of the same claims."""
    path = ROOT / "assets" / LEDGER
    rows = {row["claim"]: row for row in (read_json(path) if path.exists() else [])}
    rows |= {row["claim"]: row for row in ledger([room(name)])}
    write({path: to_indented_json(list(rows.values()))})


def parts(found, rows):
    """The generated parts of the site, by name; `docs/generated/` has a file for each.

    Args:
        found: the experiments.
        rows: of the ledger.
    """
    folder = ROOT / "assets"
    tables = {name: text for one in found for name, text in one.tables().items()}
    return {
        "claims": ledger_tables.ledger(rows),
        **tables,
        **benchmark_tables.parts(folder),
        **zoo_tables.parts(folder / "zoo.json"),
        **provenance.parts(folder),
    }


def readme_parts(rows):
    """The generated parts of the README, by name.

    Args:
        rows: of the ledger.
    """
    speed = benchmark_tables.speed_line(ROOT / "assets")
    return {"verdicts": ledger_tables.headlines(rows), "speed": speed}


def fill(text, name, content, page="README.md"):
    """Put content between the markers of a generated part of a page."""
    pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{page} must hold the generated part {name!r} once, found {count}.")
    return filled


def filled(page, made):
    """The text of a page with its generated parts.

    Args:
        page: path of the page.
        made: dictionary from the names of all its parts to their contents.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in made.items():
        text = fill(text, name, content, page.name)
    return text


def rendered():
    """What the files should be: texts by path; and the generated parts of the site."""
    found = rooms()
    rows = ledger(found)
    made = parts(found, rows)
    texts = {name: text for one in found for name, text in one.texts().items()}
    texts[LEDGER] = to_indented_json(rows)
    generated = ROOT / "docs" / "generated"
    return {
        **{ROOT / "assets" / name: text for name, text in texts.items()},
        **{generated / f"{name}.md": f"{text}\n" for name, text in made.items()},
        ROOT / "README.md": filled(ROOT / "README.md", readme_parts(rows)),
    }, made


def write(texts):
    """Write texts to files."""
    for path, text in texts.items():
        make_folder(path.parent)
        write_text(path, text)


def publish():
    """Make all files anew that are made from the records in assets/."""
    from publishing import benchmark_figure  # and Matplotlib

    write(rendered()[0])
    for one in rooms():
        one.draw()
    report = ROOT / "assets" / "benchmark_training_step.json"
    benchmark_figure.draw(read_json(report), report.with_suffix(".png"))


def redraw(name):
    """Make the figures and summaries of one experiment anew from its records in assets/."""
    one = room(name)
    write({ROOT / "assets" / file: text for file, text in one.texts().items()})
    one.draw()


def take_over(paths):
    """Copy the records of finished runs of published settings into assets/, whatever they are of.

    Args:
        paths: of the records.
    """
    left = set(paths)
    for one in rooms():
        places = {path: one.place(path) for path in paths}
        places = {path: place for path, place in places.items() if place}
        if places:
            one.take_over(places)
            left -= places.keys()
    for path in sorted(left):
        record, why = Record.at(path), "of settings that are not published"
        if record.outcome() is None:
            why = "of no finished run, or damaged"
        elif elsewhere := record.backends() - {USUAL_BACKEND}:
            why = f"of the backend {', '.join(sorted(elsewhere))}"
        print(f"{path} is left out: it is {why}.", file=sys.stderr)


def publish_runs(name, paths):
    """Copy a command's records into assets/, and redraw the experiment and the ledger from there.

    Args:
        name: of the experiment's room.
        paths: of the records.

    Raises:
        OutputError: if they are of other data than the paper's, or of another backend than
            TensorFlow; then nothing is copied.
    """
    one = room(name)
    places = {path: one.place(path) for path in paths}
    if not all(places.values()):
        raise OutputError(
            f"--publish wants {one.wants}, and TensorFlow as the backend; these are other runs."
        )
    one.take_over(places)
    redraw(name)
    judge_again(name)
