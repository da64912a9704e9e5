"""The site's pages on results as one page of HTML that needs nothing but itself.

Of MyST's Markdown the pages use fences for `{include}` (a generated part), `{figure}` and
`{toctree}`; everything else in them is plain Markdown.
"""

import base64
import io
import os
import re
import string
from html import escape
from pathlib import Path

import PIL.Image
from markdown_it import MarkdownIt

FIRST = "index.md"  # its toctree names the others
FOLDED = 25  # tables of more rows than that are folded
FENCE = re.compile(r"^```\{(\w+)\} *(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = Path(__file__).parent


def one_page(folder, made):
    """The pages of a folder as one page of HTML; the same files give the same text.

    Args:
        folder: the folder of pages, which begin with `index.md`.
        made: generated parts by name, as Markdown.

    Raises:
        ValueError: if a page includes a part that is not generated, or a figure is damaged.
    """
    folder = Path(folder)
    paths = [folder / FIRST, *listed(folder / FIRST)]
    texts = {path: with_parts(path, made) for path in paths}
    title = re.search(r"^# (.+)$", texts[paths[0]], re.MULTILINE)[1]
    sections = [section(path, text, texts) for path, text in texts.items()]
    template = string.Template((HERE / "page.html").read_text(encoding="utf-8"))
    style = (HERE / "page.css").read_text(encoding="utf-8")
    return template.substitute(title=escape(title), style=style, pages="\n".join(sections))


def listed(path):
    """Paths of the pages in a page's `{toctree}`, in its order."""
    for name, _, body in FENCE.findall(path.read_text(encoding="utf-8")):
        if name == "toctree":
            names = [line for line in body.splitlines() if line and not line.startswith(":")]
            return [_normal(path.parent / f"{name}.md") for name in names]
    return []


def with_parts(path, made):
    """Text of a page with its generated parts in place of their `{include}` fences."""

    def part(match):
        directive, argument, _ = match.groups()
        if directive != "include":
            return match[0]
        name = Path(argument).stem
        if name not in made:
            raise ValueError(f"{path} includes {argument}, but no part {name!r} is generated.")
        return made[name]

    return FENCE.sub(part, path.read_text(encoding="utf-8"))


def section(path, text, titles):
    """A page as a section of HTML.

    Args:
        path: of the page; relative links and figures are looked for from there.
        text: the page's Markdown, generated parts included.
        titles: texts by path of all pages that are shown, for contents and links between them.
    """
    html = rendered(text, {"path": path, "titles": titles})
    return f'<section aria-labelledby="{path.stem}">\n{html}</section>'


def rendered(text, env):
    """HTML of Markdown by the rules below; `env` is what these know of the page."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in RULES.items():
        parser.add_render_rule(name, rule)
    return parser.render(text, env)


def _heading(renderer, tokens, index, options, env):
    token, words = tokens[index], _words(tokens[index + 1])
    is_title = token.tag == "h1"
    slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
    token.attrs["id"] = env["path"].stem if is_title else f"{env['path'].stem}-{slug}"
    if env["path"].name != FIRST or not is_title:  # the first page's title is that of all
        token.tag = tokens[index + 2].tag = f"h{int(token.tag[1]) + 1}"
        return renderer.renderToken(tokens, index, options, env)
    token.hidden = tokens[index + 2].hidden = tokens[index + 1].hidden = True
    tokens[index + 1].children = []
    return ""


def _link(renderer, tokens, index, options, env):
    """Links between the pages stay on the one page; those to other files lead nowhere."""
    token = tokens[index]
    target, _, anchor = token.attrs["href"].partition("#")
    path = _normal(env["path"].parent / target) if target else env["path"]
    if path in env["titles"]:
        token.attrs["href"] = f"#{path.stem}-{anchor}" if anchor else f"#{path.stem}"
    elif not target.startswith("https:"):
        del token.attrs["href"]
    return renderer.renderToken(tokens, index, options, env)


def _fence(renderer, tokens, index, options, env):
    """A figure, the contents, or code."""
    token = tokens[index]
    directive, _, argument = token.info.partition(" ")
    if directive == "{figure}":
        return figure(argument, token.content, env)
    if directive == "{toctree}":
        return contents(env["titles"])
    lines = token.content.rstrip("\n").split("\n")
    return "<pre>" + "".join(f"<code>{escape(line)}\n</code>" for line in lines) + "</pre>\n"


def figure(argument, body, env):
    """A figure with its file inside, text for those who cannot see it, and caption."""
    path = _normal(env["path"].parent / argument)
    options, _, caption = body.partition("\n\n")
    alt = re.search(r'^:alt: "?(.*?)"?$', options, re.MULTILINE)[1]
    content = path.read_bytes()
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            width, height = image.size
            image.verify()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, of files that are no images
        raise ValueError(f"{path} is damaged ({error}); draw it again.") from error
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return (
        f'<figure id="figure-{path.stem}">\n'
        f'<img src="{uri}" width="{width}" height="{height}" alt="{escape(alt)}">\n'
        f"<figcaption>{rendered(caption, env)}</figcaption>\n</figure>\n"
    )


def contents(titles):
    """Links to all pages but the first."""
    lines = []
    for path, text in list(titles.items())[1:]:
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        lines.append(f'<li><a href="#{path.stem}">{escape(title)}</a></li>')
    return '<nav aria-label="Contents">\n<ol>\n' + "\n".join(lines) + "\n</ol>\n</nav>\n"


def _table(renderer, tokens, index, options, env):
    """Tables scroll by themselves; long ones are folded."""
    end = next(i for i, t in enumerate(tokens) if i > index and t.type == "table_close")
    rows = sum(token.type == "tr_open" for token in tokens[index:end]) - 1
    folded = rows > FOLDED
    tokens[end].meta["folded"] = folded
    opening = f"<details>\n<summary>{rows} rows</summary>\n" if folded else ""
    return f'{opening}<div class="scroll" role="group" aria-label="table" tabindex="0">\n<table>\n'


def _table_end(renderer, tokens, index, options, env):
    return "</table>\n</div>\n" + ("</details>\n" if tokens[index].meta["folded"] else "")


def _header_cell(renderer, tokens, index, options, env):
    """Headers have a scope; an empty corner is none."""
    token = tokens[index]
    if tokens[index + 1].content:
        token.attrs["scope"] = "col"
    else:
        token.tag = tokens[index + 2].tag = "td"
    return renderer.renderToken(tokens, index, options, env)


def _normal(path):
    return Path(os.path.normpath(path))


def _words(inline):
    """The text of an inline token, without its marks."""
    return "".join(child.content for child in inline.children)


RULES = {
    "heading_open": _heading,
    "link_open": _link,
    "fence": _fence,
    "table_open": _table,
    "table_close": _table_end,
    "th_open": _header_cell,
}
