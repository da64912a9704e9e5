"""Generated Markdown as data: tables of cells, and the paragraphs between them."""

import dataclasses
import re

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from markupsafe import Markup

MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
NUMBER = re.compile(r"[-−+]?\d[\d.,]*(e[-+]?\d+)?( ?%)?( \([^)]*\)| [±–] \S+)?")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose cells are HTML.

    Attributes:
        head: cells of the header.
        rows: lists of cells; the first is the row's header.
    """

    head: list
    rows: list

    @property
    def numeric(self):
        """For each column, whether most of what it holds are numbers."""
        columns = [[cell for cell in column if cell] for column in zip(*self.rows, strict=True)]
        return [
            2 * sum(NUMBER.fullmatch(cell) is not None for cell in column) > len(column)
            for column in columns
        ]


@dataclasses.dataclass(frozen=True)
class Text:
    """Any other block, as HTML."""

    html: Markup


def blocks(markdown):
    """The blocks of Markdown text, in order: each a `Table` or a `Text`."""
    return [_block(node) for node in SyntaxTreeNode(MARKDOWN.parse(markdown)).children]


def _block(node):
    if node.type == "table":
        head, *bodies = node.children
        rows = [_cells(row) for body in bodies for row in body.children]
        return Table(_cells(head.children[0]), rows)
    return Text(Markup(MARKDOWN.renderer.render(node.to_tokens(), MARKDOWN.options, {})))


def _cells(row):
    return [Markup("".join(_inline(child) for child in cell.children)) for cell in row.children]


def _inline(node):
    return MARKDOWN.renderer.render(node.to_tokens(), MARKDOWN.options, {})
