"""Numbers in words, and tables in Markdown."""

import numpy as np


def median_and_range(values, form=".2f"):
    """Median and range in words; infinite values are those that never were."""
    numbers = (np.median(values), np.min(values), np.max(values))
    median, low, high = ("never" if np.isinf(n) else format(n, form) for n in numbers)
    return f"{median} ({low}–{high})"


def seeds(count):
    """So many seeds, in words."""
    return f"{count} seed{'s' * (count != 1)}"


def markdown_table(head, rows, *below):
    """Markdown text of a table, and lines below it."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:], *below])


def verdict_table(rows):
    """Markdown table of rows of the claims ledger, with explanations where there are any."""
    return markdown_table(
        ["Claim", "Measured", "Verdict"],
        [[row["claim"], _with_reason(row), f"**{row['verdict']}**"] for row in rows],
    )


def _with_reason(row):
    """What was measured; in the ledger, where rows have reasons, as a sentence and the reason."""
    return f"{row['measured']}. {row['why']}".rstrip() if "why" in row else row["measured"]
