"""What `FactorMonitor` remembers of each measurement, and how it is printed."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np

COLUMNS = {
    "norm": "norm",
    "effective_rank": "effective rank",
    "singular_values": "largest σ",
    "balancedness_gap": "balancedness gap",
    "rule/cosine": "cosine with rule",
}


class Quantities(dict[str, Any]):
    """Numbers of a kernel by name: floats, and the array `singular_values`.

    It is a dictionary, and prints its arrays in a few words.
    """

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {_in_short(value)}' for name, value in self.items())}}}"


class Moment(TypedDict):
    """What was measured at a step, by the layers' names, and how many updates a change spans."""

    step: int
    updates: int
    layers: dict[str, Quantities]


def _in_short(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{value:.4g}"
    return f"<{len(value)} numbers, {np.max(value):.4g} to {np.min(value):.4g}>"


def table(history: Sequence[Moment]) -> str:
    """The main quantities of all layers at all steps, as lines of text.

    Args:
        history: list of what was measured, as `FactorMonitor.history`.

    Returns:
        Text: a line for each layer at each step, under the columns' names. A column that no layer
        has is left out, and "-" stands where one has not this quantity.
    """
    measured = [
        (moment["step"], name, found)
        for moment in history
        for name, found in moment["layers"].items()
    ]
    shown = [one for one in COLUMNS if any(one in found for _, _, found in measured)]
    rows = [["step", "layer", *(COLUMNS[one] for one in shown)]]
    for step, name, found in measured:
        numbers = (f"{np.max(found[one]):.4g}" if one in found else "-" for one in shown)
        rows.append([str(step), name, *numbers])
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines; the second column, of names, begins at the left, all others end right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if index == 1 else ">" for index in range(len(widths))]
    cells = [list(zip(row, sides, widths, strict=True)) for row in rows]
    return ["  ".join(f"{text:{side}{width}}" for text, side, width in row) for row in cells]
