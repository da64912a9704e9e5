"""The figure of what a training step costs, as a function of the benchmark's report."""

import matplotlib.pyplot as plt

from presenting import palette
from presenting.drawing import STYLE, WIDTH, finish

AXES = ("batch", "width", "depth")
KERAS, TORCH = {"linestyle": "-", "marker": "o"}, {"linestyle": "--", "marker": "x"}
# A plain layer, a factored one, and plain ones stacked: the same colours on either library.
STYLES = {
    "Dense": {"color": palette.DEPTHS[1]} | KERAS,
    "FactoredDense": {"color": palette.DEPTHS[2]} | KERAS,
    # Wide: the factored layer's line runs on it.
    "stacked Dense": {"color": palette.NEUTRAL, "linewidth": 4, "alpha": 0.5, "zorder": 1} | KERAS,
    "torch Linear": {"color": palette.DEPTHS[1]} | TORCH,
    "OverparamLinear": {"color": palette.NEUTRAL} | TORCH,
}
FACTORED = "FactoredDense"


def draw(report, path, notice=None):
    """Milliseconds per step by batch, width and depth, medians and quartiles of rounds.

    Args:
        report: dictionary that `benchmarks/training_step.py` leaves as JSON.
        path: file to write, see `drawing.finish`.
        notice: a warning to put into the title.
    """
    rows = [row for row in report["rows"] if row["unit"] == "ms per step" and "depth" in row]
    (peak,) = [row["median"] for row in report["rows"] if row.get("limit") == "arithmetic"]
    base = report["base"]
    with plt.rc_context(STYLE | {"lines.markersize": 4, "lines.linewidth": 1.4}):
        figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.4), sharey=True)
        *panels, key = axes.ravel()
        for panel, axis in zip(panels, AXES, strict=True):
            others = {name: value for name, value in base.items() if name != axis}
            shown = [row for row in rows if others.items() <= row.items()]
            _draw_panel(panel, sorted(shown, key=lambda row: row[axis]), axis, peak)
            text = ", ".join(f"{name} {value}" for name, value in others.items())
            panel.set_title(text, fontsize=8)
        key.axis("off")
        key.legend(*panels[0].get_legend_handles_labels(), loc="center", fontsize=9)
        machine = f"{report['device']}, {report['dtype']}"
        text = f"One training step of a square layer on random data; {machine}"
        finish(figure, path, "\n".join(filter(None, [notice, text])), notice)


def _draw_panel(panel, rows, axis, peak):
    """One line for each contender, and one for the arithmetic of the factored layer at the peak."""
    for name, style in STYLES.items():
        own = [row for row in rows if row["contender"] == name]
        if not own:
            continue  # no PyTorch
        values = [row[axis] for row in own]
        panel.plot(values, [row["median"] for row in own], label=name, **style)
        low, high = zip(*(row["quartiles"] for row in own), strict=True)
        panel.fill_between(values, low, high, color=style["color"], alpha=0.2, linewidth=0)
    factored = [row for row in rows if row["contender"] == FACTORED]
    values = [row[axis] for row in factored]
    least = [1e-6 * row["operations"] / peak for row in factored]
    panel.plot(
        values, least, ":", color=palette.DEPTHS[2], label="FactoredDense's arithmetic at the peak"
    )
    panel.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms")
    panel.set_xticks(values, [f"{value:g}" for value in values])
    panel.set_xticks([], minor=True)
    panel.tick_params(labelleft=True)
