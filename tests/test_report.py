"""The report has the site's pages of results, is sound, and needs nothing but itself."""

import base64
import colorsys
import itertools
import json
import re
import shutil
import subprocess
from collections import Counter

import html5lib
import numpy as np
import pytest

import report as script
from presenting import palette
from publishing import assets, pages, provenance

SITE = assets.ROOT / "docs" / "_static" / "site.css"
ASSETS, RESULTS = assets.ROOT / "assets", assets.ROOT / "docs" / "results"
PARTS = assets.rendered()[1]
ELSEWHERE = {"first_hour"}  # on the page on development, which is none of results
TEXT = pages.one_page(RESULTS, PARTS)
PAGE = html5lib.parse(TEXT, treebuilder="etree", namespaceHTMLElements=False)
PATHS = [RESULTS / pages.FIRST, *pages.listed(RESULTS / pages.FIRST)]
NU = shutil.which("vnu")


def words(element):
    return " ".join("".join(element.itertext()).split())


def test_every_page_of_results_is_there():
    titles = [words(title) for title in PAGE.iter("h2")]
    for path in PATHS[1:]:
        title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert title in titles
        links = [a.text for a in PAGE.iter("a") if a.get("href") == f"#{path.stem}"]
        assert title in links
    assert sorted(p.stem for p in RESULTS.glob("*.md")) == sorted(
        p.stem for p in PATHS if p.parent == RESULTS
    )


def test_every_claim_is_there_with_its_verdict_and_criterion():
    (section,) = [s for s in PAGE.iter("section") if s.get("aria-labelledby") == "ledger"]
    text = [words(child) for child in section if child.tag in ("h3", "p")]
    rows = json.loads((ASSETS / "claims.json").read_text(encoding="utf-8"))
    assert sum(child.tag == "h3" for child in section) == len(rows)
    counts = Counter(row["verdict"] for row in rows)
    assert f"Of {len(rows)} claims: {counts['reproduced']} reproduced, " in " ".join(text)
    for row in rows:
        (place,) = [i for i, line in enumerate(text) if line.lower() == row["claim"].lower()]
        verdict, _, measured = text[place + 1].partition(". ")
        assert verdict.lower() == row["verdict"]
        assert measured[1:] == f"{row['measured'][1:]}. {row['why']}".strip()
        assert text[place + 2] == f"Criterion. {row['criterion']}"


def test_every_figure_is_there_as_it_is_in_assets():
    figures = {figure.get("id"): figure for figure in PAGE.iter("figure")}
    paths = sorted(ASSETS.glob("*.png"))
    assert sorted(figures) == [f"figure-{path.stem}" for path in paths]
    for path in paths:
        (image,) = figures[f"figure-{path.stem}"].iter("img")
        kind, _, content = image.get("src").partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == path.read_bytes()
        assert len(image.get("alt")) > 40
        (caption,) = figures[f"figure-{path.stem}"].iter("figcaption")
        assert len(words(caption)) > 40


def plain(cell):
    """The words of a table's cell in Markdown; what is code between backticks keeps its stars."""
    outside_and_code = cell.replace("\\|", "|").split("`")
    outside_and_code[::2] = [re.sub(r"[*\\]", "", text) for text in outside_and_code[::2]]
    return " ".join("".join(outside_and_code).replace("&lt;", "<").split())


def test_every_generated_table_is_there_cell_by_cell():
    shown = {words(cell) for name in ("td", "th") for cell in PAGE.iter(name)}
    for part in (PARTS[name] for name in PARTS.keys() - ELSEWHERE):
        for line in part.splitlines():
            if line.startswith("| "):
                cells = re.split(r"(?<!\\)\|", line.strip("|"))
                assert set(map(plain, cells)) <= shown


def test_every_record_says_how_it_was_made():
    made = provenance.parts(ASSETS)
    folders = {p.parent.name for p in ASSETS.glob("*/*.jsonl.gz")}
    singles = {p.name.partition(".")[0] for p in ASSETS.glob("*.jsonl.gz")}
    assert made.keys() == {f"runs_{name}" for name in folders | singles | {"benchmarks"}}
    for name in folders:
        assert f"| Records | {len(list((ASSETS / name).iterdir()))} in " in made[f"runs_{name}"]
        assert "TensorFlow" in made[f"runs_{name}"] and "| Recorded | 20" in made[f"runs_{name}"]
    for path in ASSETS.glob("benchmark_*.json"):
        assert f"| `{path.stem.removeprefix('benchmark_')}.py` |" in made["runs_benchmarks"]


def test_a_record_that_says_nothing_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.jsonl.gz is no record; publish its run again"):
        provenance.parts(tmp_path)


def test_the_page_loads_nothing():
    assert not list(PAGE.iter("script"))
    for element in PAGE.iter():
        assert not {"srcset", "poster", "data", "background"} & set(element.keys())
        assert element.get("src", "data:").startswith("data:")
        target = element.get("href", "#")
        assert target.startswith("data:" if element.tag == "link" else ("#", "https:"))
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
    targets = {a.get("href") for a in PAGE.iter("a")} - {None}
    assert {target[1:] for target in targets if target.startswith("#")} <= ids.keys()


def test_links_between_pages_lead_to_their_sections():
    targets = {a.get("href") for a in PAGE.iter("a")}
    assert {"#ledger", "#benchmarks-the-main-job", "#index"} - targets == {"#index"}


def test_table_headers_have_a_scope_and_tables_scroll_by_themselves():
    parents = {child: parent for parent in PAGE.iter() for child in parent}
    for table in PAGE.iter("table"):
        assert "scroll" in parents[table].get("class")
        assert {th.get("scope") for th in table.find("thead").iter("th")} <= {"col"}
    assert any(e.tag == "details" for e in PAGE.iter())


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast(scheme):
    (style,) = PAGE.iter("style")
    blocks = re.findall(r":root \{([^}]*--page[^}]*)\}", style.text)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[scheme]))
    for text, below in itertools.product(("text", "quiet", "link"), ("page", "panel")):
        low, high = sorted(luminance(colours[name]) for name in (text, below))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, below)


STYLES = [path.read_text(encoding="utf-8") for path in (pages.HERE / "page.css", SITE)]
COLOURS = {
    colour
    for table in (palette.DEPTHS, palette.RULES, palette.OPTIMIZERS, palette.NETWORKS)
    for colour in table.values()
} | {*palette.TUTORIAL.values(), palette.NEUTRAL, palette.OTHER, palette.OTHER_RULE, "#000000"}


def in_the_dark(colour, part):
    """A colour under `invert(part) hue-rotate(180deg)`, as the standard of filters defines them."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    inverted = part + channels * (1 - 2 * part)
    turned = 2 * inverted @ [0.213, 0.715, 0.072] - inverted  # the grey of it stays
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in turned.clip(0, 1))


@pytest.mark.parametrize("style", STYLES, ids=["report", "site"])
def test_in_the_dark_figures_do_not_glare_and_keep_contrast_and_hues(style):
    dark = re.search(r"@media screen and \(prefers-color-scheme: dark\) \{\n(.*?)\n\}", style, re.S)
    selector, part = re.search(
        r"(.*) \{ filter: invert\(([\d.]+)\) hue-rotate\(180deg\); \}", dark[1]
    ).groups()
    assert "img" in selector and "figure" in selector
    ground = in_the_dark("#ffffff", float(part))
    assert luminance(ground) < 0.02
    for colour in COLOURS:
        seen = in_the_dark(colour, float(part))
        assert (luminance(seen) + 0.05) / (luminance(ground) + 0.05) >= 3, colour
        (hue, _, chroma), (now, _, _) = (
            colorsys.rgb_to_hls(*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)))
            for c in (colour, seen)
        )
        assert chroma < 0.02 or abs((now - hue + 0.5) % 1 - 0.5) < 0.05, colour


@pytest.mark.parametrize("style", STYLES, ids=["report", "site"])
def test_figures_are_as_wide_as_a_telephone_at_most(style):
    rules = re.findall(r"(?:^|[{},;])\s*([^{}@;]*\bfigure\b[^{}]*)\{([^}]*)\}", style)
    assert rules
    for _, body in rules:
        assert not re.search(r"min-width|overflow|max-width: none|\bwidth: \d+(rem|px)", body)


@pytest.fixture
def folder(tmp_path):
    """A folder of two pages with a figure, a generated part and links."""
    (tmp_path / "index.md").write_text("# All & <b>more</b>\n\n```{toctree}\n\none\n```\n")
    (tmp_path / "one.md").write_text(
        "# One\n\n[up](index.md) [here](#a-b) [away](../x.py) <i>\n\n## A, b\n\n"
        "```{include} ../generated/part.md\n```\n\n"
        '```{figure} dot.png\n:alt: "a <dot>"\n\n*dot*\n```\n'
    )
    shutil.copy(ASSETS / "gas_sensor_width.png", tmp_path / "dot.png")
    return tmp_path


def test_markdown_becomes_escaped_sections(folder):
    text = pages.one_page(folder, {"part": "| a | |\n|---|---|\n| `f<g>` | 1 |"})
    assert "<h1>All &amp; &lt;b&gt;more&lt;/b&gt;</h1>" in text
    assert '<h3 id="one-a-b">A, b</h3>' in text
    assert '<a href="#index">up</a> <a href="#one-a-b">here</a> <a>away</a> &lt;i&gt;' in text
    assert '<th scope="col">a</th>' in text and "<code>f&lt;g&gt;</code>" in text
    assert 'alt="a &lt;dot&gt;"' in text and "<figcaption><p><em>dot</em></p>" in text


def test_what_is_not_generated_or_damaged_is_named(folder):
    with pytest.raises(ValueError, match=r"one.md includes .*part.md, but no part 'part' is"):
        pages.one_page(folder, {})
    figure = folder / "dot.png"
    for content in (b"no image", figure.read_bytes()[:-3000]):
        figure.write_bytes(content)
        with pytest.raises(ValueError, match=r"dot.png is damaged \(.*\); draw it again"):
            pages.one_page(folder, {"part": ""})


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
    monkeypatch.setattr(assets, "rendered", lambda: ({}, PARTS))
    with pytest.raises(SystemExit, match=r"report.py: error: .*No such file.*index.md"):
        script.main(["--output", str(tmp_path / "page.html")])
    monkeypatch.setattr(assets, "rendered", lambda: ({tmp_path / "new.md": "x"}, PARTS))
    with pytest.raises(SystemExit, match=r"new.md is not what the records in .* say: restore"):
        script.main(["--output", str(tmp_path / "page.html")])
