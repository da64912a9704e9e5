"""Figures of the experiments on linear regression, as functions of results."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from plumbing.figures import STYLE, finish
from plumbing.sweep_experiments import DEPTHS, POWERS, label
from plumbing.sweep_results import speed_up

# Okabe & Ito; a depth has the colour that it has in the other figures.
DEPTH_COLOURS = {1: "#0072B2", 2: "#D55E00", 3: "#009E73", 4: "#E69F00", 8: "#CC79A7"}
OTHER_COLOURS = {"adagrad": "#56B4E9", "adadelta": "#CC79A7", "adadelta_tf1": "#CC79A7"}
DASHES = {"gd": "-", "adam": "--", "adagrad": "-.", "adadelta": "--", "adadelta_tf1": ":"}


def draw(experiment, results, path, notice=None):
    """Draw the figure of an experiment.

    Args:
        experiment: its name.
        results: list of `sweep_results.Result`, of the experiment's models.
        path: file to write, PNG or SVG.
        notice: a warning to put into the title.
    """
    with plt.rc_context(STYLE):
        figure, title = FIGURES[experiment](results)
        seeds = len(results[0].settings.seeds)
        shown = "medians" if experiment == "map" else "medians and ranges"
        text = f"{title}; {shown} of {seeds} seeds"
        finish(figure, path, "\n".join([*textwrap.wrap(notice or "", 110), text]), notice)


def _curves_and_rates(results, name):
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6))
    draw_curves(axes[0], results)
    draw_rates(axes[1], results)
    axes[0].legend(fontsize=7)
    return figure, f"{name}: each model at its best learning rate, and the rates tried"


def _two_losses(results):
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6))
    for axis, power in zip(axes, (2, 4), strict=True):
        draw_curves(axis, [r for r in results if r.settings.power == power])
        axis.set_title(f"ℓ{power} loss", fontsize=9)
        axis.legend(fontsize=7)
    return figure, "Gradient descent, each depth at its best learning rate"


def _deep(results):
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
    for axis, depth in zip(axes, (4, 8), strict=True):
        group = [r for r in results if r.settings.depth == depth]
        draw_curves(axis, group, lambda s: {"near_zero": "near zero"}.get(s.start, "near identity"))
        axis.set_title(f"depth {depth}", fontsize=9)
        axis.legend(fontsize=7)
    return figure, "Very deep linear networks, ℓ4 loss, by start, each at its best learning rate"


def _map(results):
    starts = ("balanced", "identity")
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
    found = {(r.settings.start, r.settings.power, r.settings.depth): r for r in results}
    for axis, start in zip(axes, starts, strict=True):
        grid = np.ones((len(POWERS), len(DEPTHS)))
        for row, power in enumerate(POWERS):
            base = found["balanced", power, 1]
            for column, depth in enumerate(DEPTHS[1:], start=1):
                grid[row, column] = np.median(speed_up(found[start, power, depth], base))
        _heat(axis, grid)
        axis.set_title(f"{start} start, norm {results[0].settings.scale:g}", fontsize=9)
    axes[0].set_ylabel("power p of the loss")
    iterations = results[0].settings.iterations
    return figure, f"Speed-up over depth 1 in {iterations:,} iterations, best rates"


def _heat(axis, grid):
    axis.imshow(np.log2(np.maximum(grid, 1e-3)), cmap="RdBu", vmin=-3, vmax=3, aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        text = f"{value:.2g}" if value < 10 else f"{value:.0f}"
        dark = abs(np.log2(max(value, 1e-3))) > 2
        colour = "white" if dark else "black"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    axis.set_xticks(range(len(DEPTHS)), DEPTHS)
    axis.set_yticks(range(len(POWERS)), POWERS)
    axis.set_xlabel("depth")
    axis.grid(False)


def _starts(results):
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4))
    depths = sorted({r.settings.depth for r in results})
    rows = {d: [r for r in results if r.settings.depth == d] for d in depths}
    scales = [r.settings.scale for r in rows[1]]
    for depth in depths:
        style = {"color": DEPTH_COLOURS[depth], "marker": "o", "label": f"depth {depth}"}
        if depth > 1:
            ratios = [speed_up(r, base) for r, base in zip(rows[depth], rows[1], strict=True)]
            _with_range(axes[0], scales, ratios, style)
        _with_range(axes[1], scales, [r.curves[:, -1] for r in rows[depth]], style)
        axes[2].plot(scales, [r.rates[r.best] for r in rows[depth]], **style)
    names = ("speed-up over depth 1, same start", "final loss", "best learning rate")
    for axis, name in zip(axes, names, strict=True):
        axis.set(xscale="log", yscale="log", xlabel="end-to-end norm of the start", ylabel=name)
    axes[0].axhline(1, color="black", linewidth=0.8)
    axes[0].set_yscale("linear")
    _plain_ticks(axes[1])
    axes[1].legend()
    iterations = results[0].settings.iterations
    return figure, f"Start scale, ℓ4 loss, {iterations:,} iterations of gradient descent"


def _widths(results):
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4))
    base = next(r for r in results if r.settings.depth == 1)
    for depth in (2, 3):
        group = [r for r in results if r.settings.depth == depth]
        widths = [r.settings.width for r in group]
        style = {"color": DEPTH_COLOURS[depth], "marker": "o", "label": f"depth {depth}"}
        _with_range(axes[0], widths, [speed_up(r, base) for r in group], style)
        _with_range(axes[1], widths, [r.curves[:, -1] for r in group], style)
    for axis, name in zip(axes, ("speed-up over depth 1", "final loss"), strict=True):
        axis.set(xscale="log", xlabel="hidden width", ylabel=name)
    axes[0].legend()
    return figure, "Hidden width, ℓ4 loss, independent Gaussian weights"


def _plain_ticks(axis):
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.tick_params(axis="y", which="minor", labelsize=6)


def draw_curves(axis, results, name=label):
    """Loss by iteration at each model's best rate: median and range over seeds."""
    for result in results:
        style = _style(result.settings)
        curves, iterations = result.curves[:, 1:], result.iterations[1:]
        rate = f"rate {result.rates[result.best]:.2g}"
        axis.plot(
            iterations,
            np.median(curves, axis=0),
            label=f"{name(result.settings)} ({rate})",
            **style,
        )
        band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
        axis.fill_between(iterations, curves.min(axis=0), curves.max(axis=0), **band)
    axis.set(xscale="log", yscale="log", xlabel="iteration (full batch)", ylabel="training loss")
    start = max(float(np.median(r.curves[:, 0])) for r in results)
    low = min(r.curves.min() for r in results)
    axis.set_ylim(0.85 * low, 3 * start)
    axis.set_xlim(1, results[0].iterations[-1])


def draw_rates(axis, results):
    """Final loss by learning rate: median over seeds, crosses where that diverged."""
    highest = max(float(np.median(r.curves[:, 0])) for r in results)
    for index, result in enumerate(results):
        style = _style(result.settings)
        finite = np.isfinite(result.final)
        axis.plot(result.rates[finite], result.final[finite], **style)
        axis.plot(result.rates[result.best], result.final[result.best], "o", color=style["color"])
        if not finite.all():
            place = {"transform": axis.get_xaxis_transform(), "color": style["color"]}
            crosses = result.rates[~finite]
            axis.plot(crosses, np.full(len(crosses), 0.97 - 0.04 * index), "x", ms=3, **place)
    axis.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="final loss")
    axis.set_ylim(0.85 * min(r.final.min() for r in results), 3 * highest)


def _with_range(axis, x, values, style):
    """Medians with bars over their ranges."""
    medians = np.array([np.median(v) for v in values])
    low = medians - [np.min(v) for v in values]
    high = np.array([np.max(v) for v in values]) - medians
    keep = np.isfinite(medians) & (medians > 0)
    bars = np.abs(np.where(np.isfinite([low, high]), [low, high], 0))[:, keep]
    axis.errorbar(np.array(x)[keep], medians[keep], yerr=bars, capsize=2, **style)


def _style(settings):
    colour = OTHER_COLOURS.get(settings.optimizer) or DEPTH_COLOURS.get(settings.depth, "grey")
    dashes = DASHES.get(settings.optimizer, "-")
    if settings.start == "near_zero":
        dashes = ":"
    return {"color": colour, "linestyle": dashes, "linewidth": 1.5}


FIGURES = {
    "l4": lambda results: _curves_and_rates(results, "ℓ4 regression"),
    "l2": _two_losses,
    "adam": lambda results: _curves_and_rates(results, "Adam, ℓ4 regression"),
    "deep": _deep,
    "map": _map,
    "start": _starts,
    "width": _widths,
}
