"""The figure of linear networks and the end-to-end rule, as a function of results."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from plumbing.figures import STYLE, finish

# Okabe & Ito, as in the other figures.
COLOURS = {1: "#0072B2", 2: "#D55E00", 3: "#009E73"}
OTHER_COLOUR = "#CC79A7"
DASHES = ("-", (0, (2.5, 1.2)))  # of the narrowest and the widest network
STARTS = ("balanced", "independent")
THICK = {"linewidth": 4, "alpha": 0.45}


def draw(results, path, notice=None):
    """Loss by iteration on log scales: a column for each problem, a row for each kind of start.

    Args:
        results: list of `rule_results.Result`.
        path: file to write, PNG or SVG.
        notice: a warning to put into the title.
    """
    results = [result for result in results if result.settings.halvings == 0]
    problems = list(dict.fromkeys(result.settings.problem for result in results))
    size = (3.1 * len(problems) + 0.4, 5.6)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(problems), figsize=size, sharex="col", squeeze=False)
        for column, problem in enumerate(problems):
            group = [result for result in results if result.settings.problem == problem]
            axes[0, column].set_title(group[0].name, fontsize=9)
            for axis, start in zip(axes[:, column], STARTS, strict=True):
                _draw_panel(axis, group, start)
            axes[1, column].set_xlabel(f"iteration (rate {group[0].settings.learning_rate:g})")
        for axis, start in zip(axes[:, 0], STARTS, strict=True):
            axis.set_ylabel(f"training loss, {start} start")
        _legends(axes[:, 0], results)
        finish(figure, path, _title(results, notice), notice)


def _draw_panel(axis, group, start):
    for result in group:
        if result.settings.depth == 1 or result.settings.start == start:
            _draw_result(axis, result)
    axis.set(xscale="log", yscale="log")
    axis.margins(x=0)


def _draw_result(axis, result):
    """The narrowest and the widest network, thick, and thin on top of them their rules."""
    colour = _colour(result.settings.depth)
    iterations = result.iterations[1:]
    for index, dashes in zip(sorted({0, len(result.settings.widths) - 1}), DASHES, strict=False):
        losses = result.curves["loss"][index, :, 1:]
        median = np.median(losses, axis=0)
        band = {"color": colour, "alpha": 0.12, "linewidth": 0}
        axis.fill_between(iterations, losses.min(axis=0), losses.max(axis=0), **band)
        axis.plot(iterations, median, linestyle=dashes, color=colour, **THICK)
    if result.settings.depth == 1:
        return
    for losses, dashes in zip(result.curves["rule_loss"][[0, -1]], DASHES, strict=True):
        median = np.median(losses[:, 1:], axis=0)
        axis.plot(iterations, median, linestyle=dashes, color="black", linewidth=0.9)


def _colour(depth):
    return COLOURS.get(depth, OTHER_COLOUR)


def _legends(axes, results):
    """Colours of the depths in the upper panel, thickness and dashes in the lower one."""
    depths = sorted({result.settings.depth for result in results})
    colours = [Line2D([], [], color=_colour(depth), **THICK) for depth in depths]
    names = [f"depth {depth}" if depth > 1 else "one layer" for depth in depths]
    axes[0].legend(colours, names, loc="lower left")
    thin = {"color": "black", "linewidth": 0.9}
    lines = [Line2D([], [], color="grey", linestyle=dashes, **THICK) for dashes in DASHES]
    lines += [Line2D([], [], linestyle=dashes, **thin) for dashes in DASHES]
    names = ["narrowest", "widest", "rule, for the narrowest", "rule, for the widest"]
    axes[1].legend(lines, names, loc="lower left")


def _title(results, notice):
    seeds = max(len(result.settings.seeds) for result in results)
    text = "Deep linear networks (thick) and the end-to-end update rule (thin, black)"
    if seeds > 1:
        text += f"; median and range of {seeds} seeds"
    return "\n".join([*textwrap.wrap(notice or "", 110), text])
