"""Figures as functions of results."""

import matplotlib.pyplot as plt
import numpy as np

from datasets import title_of
from experiments.mnist.results import WINDOW, at_best_rate, rate_grid
from presenting import palette
from presenting.drawing import STYLE, WIDTH, draw_diverged, finish

COLOURS = palette.TUTORIAL
DASHES = {"original": "-", "overparameterized": "--", ("overparameterized", "factors"): "-."}
LABELS = {"product": "", "factors": ", L2 on factors", "none": ", no L2"}
PANELS = (
    ("objective", "training objective"),
    ("cross_entropy", "cross-entropy (nats)"),
    ("l2", "L2 term"),
)
POINTS = 300  # of a curve


def draw_objective(groups, path, notice=None):
    """Objective of the tutorial network and, below it, its two parts, on log scales.

    Args:
        groups: lists of results, one list (over seeds) for each model.
        path: file to write, see `finish`.
        notice: a warning to put into the title.
    """
    (first, label), *others = PANELS
    with plt.rc_context(STYLE):
        figure, axes = plt.subplot_mosaic(_below(first, others), figsize=(WIDTH, 5.4))
        for metric, label in PANELS:
            _draw_curves(axes[metric], groups, metric, label)
        axes[first].legend()
        finish(figure, path, _title(groups, notice), notice)


def draw_rates(groups, path, notice=None):
    """Final objective by learning rate, and below it the curves at each network's best rate.

    Args:
        groups: lists of results, one list for each model, over rates and seeds.
        path: file to write, see `finish`.
        notice: a warning to put into the title.
    """
    best = [at_best_rate(group) for group in groups]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplot_mosaic(_below("rates", PANELS[:2]), figsize=(WIDTH, 5.4))
        for group in groups:
            _draw_rate_grid(axes["rates"], group)
        draw_diverged(axes["rates"], [_diverged(group) for group in groups])
        axes["rates"].set(xscale="log", yscale="log")
        axes["rates"].set(xlabel="learning rate (filled: best, all seeds)")
        axes["rates"].set(ylabel=f"objective, last {WINDOW} steps")
        axes["rates"].legend(loc="lower right")
        for metric, label in PANELS[:2]:
            _draw_curves(axes[metric], best, metric, f"{label}, best rate")
        rates = sorted({result.settings.learning_rate for group in groups for result in group})
        axes["rates"].set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes["rates"].set_xticks([], minor=True)
        finish(figure, path, _title(best, notice), notice)


def _below(first, panels):
    """The mosaic of one panel as wide as two others below it."""
    return [[first, first], [metric for metric, _ in panels]]


def _draw_curves(axis, groups, metric, label):
    for group in groups:
        _draw_group(axis, group, metric)
    axis.set_xlabel("training step (64 images each)")
    axis.set_ylabel(label)
    axis.set_yscale("log", nonpositive="mask")


def _draw_rate_grid(axis, group):
    """One network's final objectives at the first seed; all seeds' at the best rate, filled."""
    style = _style(group[0].settings)
    grid = rate_grid(group)
    name = _name(group[0].settings)
    axis.plot(list(grid), list(grid.values()), marker="o", fillstyle="none", label=name, **style)
    for result in at_best_rate(group):
        rate = result.settings.learning_rate
        axis.plot(rate, result.final("objective"), marker="o", color=style["color"])


def _diverged(group):
    """A network's colour, and the rates at which it diverged."""
    grid = rate_grid(group)
    rates = [rate for rate, objective in grid.items() if not np.isfinite(objective)]
    return _style(group[0].settings)["color"], rates


def _title(groups, notice):
    seeds = max(len(group) for group in groups)
    shortest = min(len(result.curves["objective"]) for group in groups for result in group)
    data = title_of(groups[0][0].settings.dataset)
    text = f"{data}, tutorial network; mean over {min(WINDOW, shortest)} steps"
    if seeds > 1:
        text += f", median and range of {seeds} seeds"
    return "\n".join(filter(None, [notice, text]))


def _draw_group(axis, group, metric):
    settings = group[0].settings
    length = min(len(result.curves[metric]) for result in group)
    curves = np.array([result.smoothed(metric)[:length] for result in group])
    if not np.any(curves > 0):
        return  # no L2 term to show on a log scale
    first = min(WINDOW, length) - 1  # the first step that has a whole window behind it
    points = np.unique(np.linspace(first, length - 1, POINTS).round().astype(int))
    style, label = _style(settings), _name(settings)
    axis.plot(points + 1, np.median(curves, axis=0)[points], label=label, **style)
    if len(group) > 1:
        low, high = curves.min(axis=0)[points], curves.max(axis=0)[points]
        axis.fill_between(points + 1, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _name(settings):
    return settings.model_name + LABELS[settings.regularize]


def _style(settings):
    model = settings.model_name, settings.regularize
    return {
        "color": COLOURS.get(model, palette.OTHER),
        "linestyle": DASHES.get(model) or DASHES.get(settings.model_name, ":"),
        "linewidth": 1.4,
    }
