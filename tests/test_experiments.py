"""An experiment is its room, one line, and its page: a toy shows up wherever experiments do."""

import json
import shutil

import pytest

import experiments
import publish
import report
from publishing import assets, benchmark_tables, zoo_tables
from running import runs
from running.records import Record

ROOM = """
import matplotlib.pyplot as plt

from criteria import Criterion
from experiments.room import Room
from presenting.drawing import finish
from presenting.tables import markdown_table
from running.records import Record

MANY = Criterion("At least {least=2} toys.", lambda bounds, toys: (toys >= bounds.least, False))


class Published(Room):
    folder = "toy"

    def is_its_own(self, settings):
        return "toys" in settings

    @property
    def toys(self):
        return [Record.at(path).outcome()["toys"] for path in self.paths]

    def claims(self):
        return [MANY.row("there are toys", f"{sum(self.toys)} toys", sum(self.toys))]

    def tables(self):
        return {"toy": markdown_table(["Toys"], [[str(count)] for count in self.toys])}

    def texts(self):
        return {"toy.json": f"{self.toys}\\n"}

    def draw(self):
        finish(plt.figure(), self.assets / "toy.png", "toys")
"""


PAGE = """# Toys

```{include} ../generated/toy.md
```

```{figure} ../../assets/toy.png
:alt: "a toy"

A toy.
```
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the project whose only experiment is the toy."""
    source = assets.ROOT
    room = tmp_path / "rooms" / "toy"
    room.mkdir(parents=True)
    (room / "published.py").write_text(ROOM)
    monkeypatch.setattr(experiments, "__path__", [*experiments.__path__, str(room.parent)])
    monkeypatch.setattr(experiments, "ROOMS", ("toy",))
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    (results / "index.md").write_text("# Results\n\n```{toctree}\n\nledger\ntoy\n```\n")
    shutil.copy(source / "docs" / "results" / "ledger.md", results)
    (results / "toy.md").write_text(PAGE)
    (tmp_path / "assets").mkdir()
    for path in source.glob("assets/*.json"):
        shutil.copy(path, tmp_path / "assets")
    for module in (benchmark_tables, zoo_tables):
        monkeypatch.setattr(module, "parts", lambda _: {})
    marked = (f"<!-- generated: {name} -->\n<!-- end -->\n" for name in ("verdicts", "speed"))
    (tmp_path / "README.md").write_text("".join(marked))
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    return tmp_path


def start():
    return {"settings": {"toys": 3}, "data": {}, "versions": {}, "device": "table"}


def test_a_toy_experiment_is_published_judged_and_reported(folder, monkeypatch, capsys):
    runs.run(folder / "runs" / "three", start, lambda record: {"toys": 3})
    interrupted = Record(folder / "runs" / "four")
    interrupted.path.parent.mkdir()
    interrupted.append("start", **start())
    publish.main(["--runs", str(folder / "runs")])
    assert [path.name for path in (folder / "assets" / "toy").iterdir()] == ["three.jsonl.gz"]
    assert "four/record.jsonl is left out: it is of no finished run" in capsys.readouterr().err
    (row,) = json.loads((folder / "assets" / "claims.json").read_text())
    assert row["criterion"] == "At least 2 toys."
    assert row["verdict"] == "reproduced"
    assert "Of 1 claims: 1 reproduced, " in (folder / "README.md").read_text()
    generated = folder / "docs" / "generated"
    names = sorted(path.stem for path in generated.iterdir())
    assert names == ["claims", "runs_benchmarks", "runs_toy", "toy"]
    assert "## There are toys\n\n**Reproduced.** 3 toys." in (generated / "claims.md").read_text()
    assert (generated / "toy.md").read_text() == "| Toys |\n|---|\n| 3 |\n"
    assert "| toys | 3 |" in (generated / "runs_toy.md").read_text()
    assert (folder / "assets" / "toy.json").read_text() == "[3]\n"

    report.main(["--output", str(folder / "report.html")])
    html = (folder / "report.html").read_text()
    assert "3 toys" in html and 'id="figure-toy"' in html and "At least 2 toys." in html
