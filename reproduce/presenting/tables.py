"""Numbers in words, and tables in Markdown."""

import numpy as np


def median_and_range(values):
    """Median and range in words."""
    return f"{np.median(values):.2f} ({np.min(values):.2f}–{np.max(values):.2f})"


def markdown_table(head, rows, *below):
    """Markdown text of a table, and lines below it."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], *below])
