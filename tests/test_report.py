"""The report shows what is in assets/, and is a sound page that needs nothing but itself."""

import base64
import dataclasses
import importlib
import io
import itertools
import json
import re
import shlex
import shutil
import subprocess
from collections import Counter

import html5lib
import matplotlib.image
import pytest

import report as script
from publishing import assets
from publishing import page as report
from publishing import page_runs as report_runs
from publishing.markdown import blocks

ASSETS = assets.ROOT / "assets"
PARTS = assets.rendered()[1]
TEXT = report.page(ASSETS, PARTS)
PAGE = html5lib.parse(TEXT, treebuilder="etree", namespaceHTMLElements=False)
LEDGER = json.loads((ASSETS / "claims.json").read_text(encoding="utf-8"))
NU = shutil.which("vnu")


def words(element):
    return " ".join("".join(element.itertext()).split())


def with_class(name, below=PAGE):
    return [e for e in below.iter() if name in e.get("class", "").split()]


def test_every_row_of_the_ledger_is_there_with_its_verdict():
    (table,) = with_class("ledger")
    shown = [[words(cell) for cell in row] for row in table.find("tbody")]
    assert len(shown) == len(LEDGER)
    for cells, row in zip(shown, LEDGER, strict=True):
        measured = f"{row['measured']} {row['why']}".strip()
        assert cells == [row["claim"], row["verdict"], measured, row["criterion"]]


def test_verdicts_are_counted_at_the_top():
    counts = Counter(row["verdict"] for row in LEDGER)
    (shown,) = with_class("counts")
    assert [words(item) for item in shown] == [f"{counts[v]} {v}" for v in report.VERDICTS]


def test_every_figure_is_there_as_it_is_in_assets():
    figures = {figure.get("id"): figure for figure in PAGE.iter("figure")}
    paths = sorted(ASSETS.glob("*.png"))
    assert sorted(figures) == [f"figure-{path.stem}" for path in paths]
    for path in paths:
        (image,) = figures[f"figure-{path.stem}"].iter("img")
        kind, _, content = image.get("src").partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == path.read_bytes()
        height, width, _ = matplotlib.image.imread(
            io.BytesIO(base64.b64decode(content)), "png"
        ).shape
        assert (image.get("width"), image.get("height")) == (str(width), str(height))


def test_every_figure_has_a_caption_a_text_and_a_command():
    for figure in PAGE.iter("figure"):
        (image,), (caption,) = figure.iter("img"), figure.iter("figcaption")
        assert len(image.get("alt")) > 40
        assert len(words(caption)) > 80
        assert "python reproduce/" in words(caption)


def test_every_generated_table_is_there_cell_by_cell():
    shown = [words(cell) for name in ("td", "th") for cell in PAGE.iter(name)]
    for part in PARTS.values():
        for line in part.splitlines():
            if line.startswith("| "):
                cells = [re.sub(r"[*`]", "", cell).strip() for cell in line.strip("|").split("|")]
                if "Claim" not in cells and cells[-1] not in report.VERDICTS:  # the ledger's
                    assert set(cells) <= set(shown)


def test_every_experiment_says_how_it_was_run():
    for key, experiment in report.EXPERIMENTS.items():
        (section,) = [s for s in PAGE.iter("section") if s.get("aria-labelledby") == key]
        text = words(section)
        for run in report_runs.runs_of(experiment, ASSETS):
            assert run.facts["versions"]["tensorflow"] in text
            assert run.facts.get("device", report_runs.UNKNOWN) in text
            assert all(str(report_runs.text(value)) in text for value in run.settings.values())


def test_commands_name_scripts_and_options_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mnist_cnn").mkdir(parents=True)
    commands = {words(code) for pre in PAGE.iter("pre") for code in pre}
    assert commands
    for command in commands:
        python, path, *arguments = shlex.split(command)
        assert python == "python" and (assets.ROOT / path).is_file(), command
        source = (assets.ROOT / path).read_text(encoding="utf-8")
        if "def parse(arguments=None)" in source:
            importlib.import_module(path.split("/")[1].removesuffix(".py")).parse(arguments)
        else:
            assert all(a in source for a in arguments if a.startswith("--")), command


def test_the_page_loads_nothing():
    assert not list(PAGE.iter("script"))
    for element in PAGE.iter():
        assert not {"srcset", "poster", "data", "background"} & set(element.keys())
        assert element.get("src", "data:").startswith("data:")
        assert element.get("href", "#").startswith("data:" if element.tag == "link" else "#")
    (style,) = PAGE.iter("style")
    assert not re.search(r"url\(|@import|image-set", style.text)


def test_the_page_is_well_formed():
    html5lib.HTMLParser(strict=True).parse(TEXT)


@pytest.mark.skipif(not NU, reason="needs the Nu Html Checker: npm install --global vnu-jar")
def test_the_nu_checker_finds_nothing(tmp_path):
    (tmp_path / "report.html").write_text(TEXT, encoding="utf-8")
    run = subprocess.run([NU, tmp_path / "report.html"], capture_output=True, text=True)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_headings_landmarks_and_targets():
    levels = [int(e.tag[1]) for e in PAGE.iter() if re.fullmatch("h[1-6]", str(e.tag))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert PAGE.get("lang") == "en"
    assert all(len(list(PAGE.iter(name))) == 1 for name in ("header", "nav", "main", "footer"))
    ids = Counter(e.get("id") for e in PAGE.iter() if e.get("id"))
    assert set(ids.values()) == {1}
    assert {a.get("href")[1:] for a in PAGE.iter("a")} <= ids.keys()
    assert set(report.EXPERIMENTS) <= {a.get("href")[1:] for a in PAGE.iter("a")}


def test_table_headers_have_a_scope_and_tables_scroll_by_themselves():
    parents = {child: parent for parent in PAGE.iter() for child in parent}
    for table in PAGE.iter("table"):
        assert words(table.find("caption"))
        assert "scroll" in parents[table].get("class")
        assert {th.get("scope") for th in table.find("thead").iter("th")} == {"col"}
        assert {th.get("scope") for th in table.find("tbody").iter("th")} == {"row"}


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(scheme):
    (style,) = PAGE.iter("style")
    blocks = re.findall(r":root \{([^}]*--page[^}]*)\}", style.text)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[scheme]))
    pairs = [(text, below) for text in ("text", "quiet", "link") for below in ("page", "panel")]
    pairs += [(f"{verdict}-text", verdict) for verdict in report.VERDICTS.values()]
    for pair in pairs:
        low, high = sorted(luminance(colours[name]) for name in pair)
        assert (high + 0.05) / (low + 0.05) >= 4.5, pair


def test_what_has_no_entry_is_an_error(monkeypatch):
    def without(entries, name):
        return {key: entry for key, entry in entries.items() if key != name}

    with pytest.raises(ValueError, match="the generated table new has no entry in TABLES"):
        report.page(ASSETS, PARTS | {"new": ""})
    with pytest.raises(ValueError, match="sweep has 0 tables, but 1 titles in TABLES"):
        report.page(ASSETS, PARTS | {"sweep": "text"})
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="mnist_cnn has no entry"):
        patch.setattr(report, "FIGURES", without(report.FIGURES, "mnist_cnn"))
        report.page(ASSETS, PARTS)
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="of no experiment in"):
        moved = dataclasses.replace(report.FIGURES["vector_field"], experiment="mnist_cnn")
        patch.setitem(report.FIGURES, "vector_field", moved)
        patch.setattr(report, "EXPERIMENTS", without(report.EXPERIMENTS, "consequences"))
        report.page(ASSETS, PARTS)


def test_an_entry_of_an_unknown_experiment_is_an_error(monkeypatch):
    lost = dataclasses.replace(report.FIGURES["mnist_cnn"], experiment="mnist")
    monkeypatch.setitem(report.FIGURES, "mnist_cnn", lost)
    with pytest.raises(ValueError, match="the figure mnist_cnn names an experiment that is not"):
        report.load_figures(ASSETS)


def test_damaged_files_are_errors(tmp_path):
    (tmp_path / "claims.json").write_text('[{"verdict": "perhaps"}]')
    with pytest.raises(ValueError, match="unknown verdict: 'perhaps'"):
        report.load_ledger(tmp_path / "claims.json")
    (tmp_path / "mnist_cnn.png").write_text("no image")
    with pytest.raises(ValueError, match=r"mnist_cnn.png is not a PNG file; draw it again"):
        report.load_png(tmp_path / "mnist_cnn.png")
    with pytest.raises(ValueError, match="lacks the figure"):
        report.load_figures(tmp_path)
    with pytest.raises(ValueError, match='holds no records for "The MNIST'):
        report_runs.runs_of(report.EXPERIMENTS["mnist_cnn"], tmp_path)
    (tmp_path / "empty.jsonl.gz").write_bytes((ASSETS / "consequences.jsonl.gz").read_bytes()[:0])
    with pytest.raises(ValueError, match=r"empty.jsonl.gz is no record; publish its run again"):
        report_runs.load(tmp_path / "empty.jsonl.gz")


def test_markdown_becomes_escaped_data():
    markdown = "| a | |\n|---|---|\n| `f<g>` | 1.5 ± 0.2 |\n| *x* | 3 (2–4) |\n\nRead & see"
    table, text = blocks(markdown)
    assert table.head == ["a", ""]
    assert table.rows == [["<code>f&lt;g&gt;</code>", "1.5 ± 0.2"], ["<em>x</em>", "3 (2–4)"]]
    assert table.numeric == [False, True]
    assert text.html == "<p>Read &amp; see</p>\n"


def test_values_and_texts_are_escaped():
    row = dict.fromkeys(("claim", "criterion", "measured", "why"), "<script>") | {
        "verdict": "partly"
    }
    text = report.template().render(
        ledger=[row], verdicts=report.VERDICTS, counts={}, sections=[], folded=1
    )
    assert "<script>" not in text and text.count("&lt;script&gt;") == 4


def test_the_command_writes_the_page_and_the_same_each_time(tmp_path, capsys):
    path = tmp_path / "new" / "page.html"
    script.main(["--output", str(path)])
    assert path.read_bytes() == TEXT.encode()
    assert str(assets.ROOT) not in TEXT
    assert capsys.readouterr().out == f"Report: {path}\n"
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"report.py: error: The output folder .* cannot be"):
        script.main(["--output", str(tmp_path / "file" / "page.html")])
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"report.py: error: .*No such file.*assets"):
        script.main(["--output", str(tmp_path / "page.html")])
