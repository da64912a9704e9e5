"""The figure of what the probe expected and what came, as a function of its records."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.probe.problems import PROBLEMS
from experiments.probe.results import full_speed_ups, label, within
from presenting import palette
from presenting.drawing import STYLE, WIDTH, finish

TITLE = (
    "Speed-up over depth 1 by data set and loss, each depth at its best rate and start. Bars: "
    "expected by the probe, four cases in five; circles: the full run, filled where that is inside"
)
LEAST = 1e-2  # slower ones are drawn there


def draw(found, path):
    """Expected speed-ups beside those of the full run: a row for each problem, a panel a depth.

    Args:
        found: outcomes by problem, of which there is at least one.
        path: file to write, see `drawing.finish`.
    """
    names = sorted(found, key=lambda name: (PROBLEMS[name].tuned_on, name.split(", ")[::-1]))
    depths = [int(depth) for depth in found[names[0]]["advice"]["expected"]]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(depths),
            figsize=(WIDTH, 1.4 + 0.2 * len(names)),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for depth, axis in zip(depths, axes[0], strict=True):
            _draw_depth(axis, depth, [found[name] for name in names])
        axes[0, 0].set_yticks(range(len(names)), map(label, names))
        axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
        finish(figure, path, TITLE)


def _draw_depth(axis, depth, outcomes):
    rows = range(len(outcomes))
    expected = np.array([outcome["advice"]["expected"][str(depth)] for outcome in outcomes])
    value, low, high = np.maximum(expected, LEAST).T
    colour = palette.DEPTHS.get(depth, palette.OTHER)
    axis.axvline(1, color=palette.NEUTRAL, linewidth=1)
    axis.hlines(rows, low, high, color=colour, linewidth=4, alpha=0.35)
    axis.plot(value, rows, "|", color=colour, markersize=8)
    for row, outcome in enumerate(outcomes):
        fill = "full" if within(outcome)[depth] else "none"
        full = max(full_speed_ups(outcome)[depth], LEAST)
        axis.plot(
            full, row, "o", color=palette.RULES.get(depth, "black"), fillstyle=fill, markersize=5
        )
    axis.set(xscale="log", xlabel="speed-up over depth 1")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_title(f"depth {depth}", fontsize=8)
    axis.grid(axis="y", alpha=0.15)
