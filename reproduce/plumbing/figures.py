"""Figures as functions of results."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt
import numpy as np

from plumbing import palette
from plumbing.records import write_atomically
from plumbing.results import WINDOW, at_best_rate, rate_grid

COLOURS = palette.TUTORIAL
DASHES = {"original": "-", "overparameterized": "--"}
LABELS = {"product": "", "factors": ", L2 on factors", "none": ", no L2"}
PANELS = (
    ("objective", "training objective"),
    ("cross_entropy", "cross-entropy (nats)"),
    ("l2", "L2 term"),
)
WIDTH = 6.8  # inches: halved, as in a column, the text can still be read
STYLE = {"font.size": 8, "axes.grid": True, "grid.alpha": 0.3}
# Text stays text, and the same figure gives the same file.
SVG = {"svg.fonttype": "none", "svg.hashsalt": "keras_overparam"}
DPI = 180
POINTS = 300  # of a curve


def draw_objective(groups, path, notice=None):
    """Objective of the tutorial network and, beside it, its two parts, on log scales.

    Args:
        groups: lists of results, one list (over seeds) for each model.
        path: file to write, PNG or SVG.
        notice: a warning to put into the title.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4), width_ratios=(1.5, 1, 1))
        for axis, (metric, label) in zip(axes, PANELS, strict=True):
            _draw_curves(axis, groups, metric, label)
        axes[0].legend()
        finish(figure, path, _title(groups, notice), notice)


def draw_rates(groups, path, notice=None):
    """Final objective by learning rate, then the curves at each network's best rate.

    Args:
        groups: lists of results, one list for each model, over rates and seeds.
        path: file to write, PNG or SVG.
        notice: a warning to put into the title.
    """
    best = [at_best_rate(group) for group in groups]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4))
        for index, group in enumerate(groups):
            _draw_rate_grid(axes[0], group, 0.97 - 0.06 * index)
        axes[0].set(xscale="log", yscale="log")
        axes[0].set(xlabel="learning rate", ylabel=f"objective, last {WINDOW} steps")
        for axis, (metric, label) in zip(axes[1:], PANELS[:2], strict=True):
            _draw_curves(axis, best, metric, f"{label}, best rate")
        axes[2].legend()
        finish(figure, path, _title(best, notice), notice)


def _draw_curves(axis, groups, metric, label):
    for group in groups:
        _draw_group(axis, group, metric)
    axis.set_xlabel("training step (64 images each)")
    axis.set_ylabel(label)
    axis.set_yscale("log", nonpositive="mask")


def _draw_rate_grid(axis, group, height):
    """One network's final objectives at the first seed; all seeds' at the best rate, filled.

    Rates at which it diverged are crosses at the given height of the axis.
    """
    style = _style(group[0].settings)
    grid = rate_grid(group)
    axis.plot(list(grid), list(grid.values()), marker="o", fillstyle="none", **style)
    diverged = [rate for rate, objective in grid.items() if not np.isfinite(objective)]
    if diverged:
        place = {"transform": axis.get_xaxis_transform(), "color": style["color"]}
        axis.plot(diverged, [height] * len(diverged), "x", **place)
    for result in at_best_rate(group):
        rate = result.settings.learning_rate
        axis.plot(rate, result.final("objective"), marker="o", color=style["color"])


def finish(figure, path, title, notice=None):
    """Give a figure its title, red if it holds a notice, and write it as PNG and as SVG.

    Args:
        figure: a figure; it is closed.
        path: one of the two files, the other lies beside it.
        title: text above the figure.
        notice: whether the title holds a notice.
    """
    figure.suptitle(title, fontsize=9, color="firebrick" if notice else "black")
    figure.tight_layout()
    # Without the date and the version the same records give the same files.
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with plt.rc_context(SVG):
            write_atomically(
                Path(path).with_suffix(suffix),
                lambda file, metadata=metadata: figure.savefig(file, dpi=DPI, metadata=metadata),
            )
    plt.close(figure)


def _title(groups, notice):
    seeds = max(len(group) for group in groups)
    text = f"MNIST tutorial network; mean over {WINDOW} steps"
    if seeds > 1:
        text += f", median and range of {seeds} seeds"
    return "\n".join([*textwrap.wrap(notice or "", 110), text])


def _draw_group(axis, group, metric):
    settings = group[0].settings
    length = min(len(result.curves[metric]) for result in group)
    curves = np.array([result.smoothed(metric)[:length] for result in group])
    if not np.any(curves > 0):
        return  # no L2 term to show on a log scale
    points = np.unique(np.geomspace(1, length, 400).astype(int)) if length < 400 else None
    points = np.arange(length) if points is None else points - 1
    points = points[:: max(1, len(points) // 2000)]
    style = _style(settings)
    label = settings.model_name + LABELS[settings.regularize]
    axis.plot(points + 1, np.median(curves, axis=0)[points], label=label, **style)
    if len(group) > 1:
        low, high = curves.min(axis=0)[points], curves.max(axis=0)[points]
        axis.fill_between(points + 1, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _style(settings):
    return {
        "color": COLOURS.get((settings.model_name, settings.regularize), "#CC79A7"),
        "linestyle": DASHES.get(settings.model_name, ":"),
        "linewidth": 1.4,
    }
