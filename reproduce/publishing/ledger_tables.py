"""The ledger of claims in Markdown: every claim with its criterion, and the few of the README."""

from criteria import VERDICTS
from presenting.tables import verdict_table

# The README's: the paper's main claims, whichever way they went.
HEADLINES = (
    "depth accelerates gradient descent on the l4 regression",
    "one extra scalar accelerates more than AdaGrad",
    "depth does not accelerate at l2",
    "no regularizer can do the same",
    "from a balanced start the width is irrelevant",
    "the rule emulates a network started from independent small weights",
    "optimization accelerated by orders of magnitude; L2 term on the end-to-end matrices, the "
    "tutorial's rate",
    "other convolutional networks are accelerated too",
)


def ledger(rows):
    """Markdown of every claim: a heading, the verdict, what was measured, and the criterion.

    Args:
        rows: the rows of `assets/claims.json`.
    """
    return "\n\n".join([_counts(rows), *(_claim(row) for row in rows)])


def headlines(rows):
    """Markdown table of the main claims, with how many there are of each verdict below it."""
    main = sorted(
        (row for row in rows if row["claim"] in HEADLINES),
        key=lambda row: HEADLINES.index(row["claim"]),
    )
    return f"{verdict_table(main)}\n\n{_counts(rows)}"


def _claim(row):
    why = f" {row['why']}" if row["why"] else ""
    return (
        f"## {_capitalized(row['claim'])}\n\n**{_capitalized(row['verdict'])}.** "
        f"{_capitalized(row['measured'])}.{why}\n\n*Criterion.* {row['criterion']}"
    )


def _counts(rows):
    """How many claims there are of each verdict, in a sentence."""
    verdicts = [row["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    return f"Of {len(rows)} claims: {counts}."


def _capitalized(text):
    """Text with its first letter as a sentence has it, but for symbols such as `p > 2`."""
    first = text.split()[0]
    return text if len(first) == 1 and text[1:3] == " >" else text[0].upper() + text[1:]
