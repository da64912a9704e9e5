"""The documentation builds without a warning, its links lead somewhere, and it shows everything."""

import ast
import configparser
import contextlib
import functools
import html.parser
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import keras_overparam
from publishing import assets, pages

ROOT = assets.ROOT
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"generated", "_build"} & set(path.parts))
FOR_READERS = [*PAGES, *(ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING", "SECURITY"))]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))


class Document(html.parser.HTMLParser):
    """Links, anchors and classes of a page of HTML."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.classes = [], {""}, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        self.classes += (found.get("class") or "").split()
        self.links += [found[name] for name in ("href", "src") if found.get(name)]


document = functools.cache(Document)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Folder of the built site; warnings are errors, and so are errors in notebooks."""
    folder = tmp_path_factory.mktemp("site")
    environment = os.environ | {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(folder / "matplotlib")),
    }
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    run = subprocess.run(
        [*command, "-d", folder / "doctrees", DOCS, folder / "html"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-5000:]
    return folder / "html"


def test_the_readme_is_short_and_shows_a_layer_early():
    lines = README.splitlines()
    assert len(lines) <= 200
    assert "FactoredDense(512" in "\n".join(lines[:60])
    assert re.findall(r"<!-- generated: (\w+) -->", README) == ["speed", "verdicts"]
    verdicts = assets.readme_parts(assets.ledger())["verdicts"]
    assert verdicts.count("**") / 2 <= 8
    assert "docs/results/ledger.md" in README


def test_every_public_name_is_in_the_reference(site):
    ids = set().union(*(document(path).ids for path in (site / "api").glob("*.html")))
    assert {f"keras_overparam.{name}" for name in keras_overparam.__all__} <= ids
    for module in ("consequences", "diagnostics"):
        path = ROOT / "keras_overparam" / f"{module}.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                assert f"keras_overparam.{module}.{node.name}" in ids


def test_links_within_the_site_lead_somewhere(site):
    for path in site.rglob("*.html"):
        for link in document(path).links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            file = path if not target else path.parent / unquote(target.partition("?")[0])
            assert file.exists(), f"{path.relative_to(site)} links to {link}"
            if file.suffix == ".html" and file.name not in ("genindex.html", "search.html"):
                assert unquote(anchor) in document(file.resolve()).ids, f"{path} links to {link}"


def test_the_site_shows_mathematics_and_what_notebooks_print_and_draw(site):
    theory = (site / "theory.html").read_text(encoding="utf-8")
    assert theory.count("<math") > 40 and "$" not in re.sub(r"<[^>]*>", "", theory)
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        shown = document(site / "notebooks" / f"{path.stem}.html").classes
        cells = path.read_text(encoding="utf-8").count("```{code-cell}")
        assert shown.count("cell") == cells
        assert shown.count("cell_output") >= cells / 2
        assert "traceback" not in shown and "stderr" not in shown


def test_statements_of_the_theory_name_tests_that_exist():
    text = (DOCS / "theory.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`(test_\w+)`\]\((\S+?)\)", text)
    for name, target in named:
        tests = ast.parse((DOCS / target).read_text(encoding="utf-8")).body
        assert name in {node.name for node in tests if isinstance(node, ast.FunctionDef)}
    *statements, _, _ = text.split("\n## ")[1:]  # the last two state nothing
    assert len(statements) == 7
    assert all("- Computed by {" in part and "- Held by" in part for part in statements)


def test_every_generated_part_and_every_figure_is_on_a_page():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    included = re.findall(r"```\{include\} \S*generated/(\w+)\.md", text)
    assert sorted(included) == sorted(path.stem for path in (DOCS / "generated").glob("*.md"))
    drawn = re.findall(r"```\{figure\} \S*assets/(\w+)\.png", text)
    assert {path.stem for path in (ROOT / "assets").glob("*.png")} <= set(drawn)


def test_every_page_is_listed():
    listed = {
        name.removeprefix("../")
        for path in PAGES
        for directive, _, body in pages.FENCE.findall(path.read_text(encoding="utf-8"))
        if directive == "toctree"
        for name in body.split("\n")
    }
    names = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES} - {"index"}
    assert {
        name for name in names if name.split("/", 1)[-1] not in listed and name not in listed
    } == set()


def commands():
    """Every command of Python in the fenced blocks of what is written for readers."""
    for path in FOR_READERS:
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                yield from re.findall(r"^(?:\w+=\S+ )*(?:\.venv/bin/)?(python \w+/\S+\.py.*)", line)


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_name_scripts_and_options_that_exist(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mnist_cnn").mkdir(parents=True)
    _, path, *arguments = shlex.split(command, comments=True)
    source = (ROOT / path).read_text(encoding="utf-8")
    if path.startswith("reproduce/") and "def parse(arguments=None)" in source:
        with contextlib.nullcontext() if "--help" not in arguments else pytest.raises(SystemExit):
            importlib.import_module(Path(path).stem).parse(arguments)
    else:
        assert all(a in source for a in arguments if a.startswith("--"))


@pytest.mark.parametrize("path", FOR_READERS, ids=lambda path: path.name)
def test_relative_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


def test_the_linter_before_a_commit_is_the_one_of_the_tests():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (ruff,) = [r for r in setup["options.extras_require"]["test"].split() if r.startswith("ruff")]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["additional_dependencies"] for hook in hooks] == [[ruff], [ruff]]


def test_read_the_docs_builds_the_site_that_is_tested():
    settings = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert (ROOT / settings["sphinx"]["configuration"]).samefile(DOCS / "conf.py")
    assert settings["sphinx"]["fail_on_warning"]
    assert settings["python"]["install"] == [
        {"method": "pip", "path": ".", "extra_requirements": ["docs"]}
    ]
