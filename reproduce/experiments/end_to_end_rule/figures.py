"""The figure of linear networks and the end-to-end rule, as a function of results."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from datasets import title_of
from presenting import palette
from presenting.drawing import STYLE, WIDTH, finish

DASHES = ("-", (0, (2.5, 1.2)))  # of the narrowest and the widest network
STARTS = ("balanced", "independent")
THICK = {"linewidth": 4, "alpha": 0.45}
THIN = {"linewidth": 1.0, "zorder": 3}


def draw(results, path, notice=None):
    """Loss by iteration on log scales: a row for each problem, a column for each kind of start.

    Args:
        results: list of `results.Result`.
        path: file to write, see `drawing.finish`.
        notice: a warning to put into the title.
    """
    results = [result for result in results if result.settings.halvings == 0]
    problems = list(dict.fromkeys(result.settings.problem for result in results))
    size = (WIDTH, 2.3 * len(problems) + 0.7)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(problems), 2, figsize=size, sharey="row", squeeze=False)
        for row, problem in zip(axes, problems, strict=True):
            group = [result for result in results if result.settings.problem == problem]
            row[0].set_ylabel("training loss")
            for axis, start in zip(row, STARTS, strict=True):
                _draw_panel(axis, group, start)
                axis.set_title(f"{group[0].name}, {start} start", fontsize=8)
                axis.tick_params(labelleft=True)
                axis.set_xlabel(f"iteration (rate {group[0].settings.learning_rate:g})")
        _legends(axes, results)
        finish(figure, path, _title(results, notice), notice)


def _draw_panel(axis, group, start):
    for result in group:
        if result.settings.depth == 1 or result.settings.start == start:
            _draw_result(axis, result)
    axis.set(xscale="log", yscale="log")
    axis.margins(x=0)
    low, high = axis.get_ylim()
    axis.set_ylim(low, 1.15 * high)


def _draw_result(axis, result):
    """The narrowest and the widest network, thick, and thin on top of them their rules."""
    colour, dark = _colours(result.settings.depth)
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
        axis.plot(iterations, median, linestyle=dashes, color=dark, **THIN)


def _colours(depth):
    return palette.DEPTHS.get(depth, palette.OTHER), palette.RULES.get(depth, palette.OTHER_RULE)


def _legends(axes, results):
    """Colours of the depths in the first panel, thickness and dashes in the last one."""
    depths = sorted({result.settings.depth for result in results})
    colours = [Line2D([], [], color=_colours(depth)[0], **THICK) for depth in depths]
    names = [f"depth {depth}" for depth in depths]
    axes[0, 0].legend(colours, names, loc="lower left", handlelength=2.5)
    lines = [Line2D([], [], color="grey", linestyle=dashes, **THICK) for dashes in DASHES]
    lines += [Line2D([], [], color="black", linestyle=dashes, **THIN) for dashes in DASHES]
    names = ["narrowest network", "widest", "rule for narrowest", "rule for widest"]
    axes[-1, -1].legend(lines, names, loc="lower left", handlelength=2.5)


def _title(results, notice):
    seeds = max(len(result.settings.seeds) for result in results)
    data = " and ".join(dict.fromkeys(title_of(result.settings.dataset) for result in results))
    text = f"{data}: linear networks (thick) and the end-to-end update rule (thin)"
    if seeds > 1:
        text += f"; median and range of {seeds} seeds"
    return "\n".join(filter(None, [notice, text]))
