"""Figures as functions of results."""

import textwrap

import matplotlib

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt
import numpy as np

from plumbing.records import write_atomically
from plumbing.results import WINDOW

# Okabe & Ito: told apart by colour-blind readers; the same model has the same colour everywhere.
COLOURS = {
    ("original", "product"): "#0072B2",
    ("overparameterized", "product"): "#D55E00",
    ("overparameterized", "factors"): "#009E73",
    ("original", "none"): "#56B4E9",
    ("overparameterized", "none"): "#E69F00",
}
DASHES = {"original": "-", "overparameterized": "--"}
LABELS = {"product": "", "factors": ", L2 on factors", "none": ", no L2"}
PANELS = (
    ("objective", "training objective"),
    ("cross_entropy", "cross-entropy (nats)"),
    ("l2", "L2 term"),
)


def draw_objective(groups, path, notice=None):
    """Objective of the tutorial network and, beside it, its two parts, on log scales.

    Args:
        groups: lists of results, one list (over seeds) for each model.
        path: file to write, PNG or SVG.
        notice: a warning to put into the title.
    """
    with plt.rc_context({"font.size": 8, "axes.grid": True, "grid.alpha": 0.3}):
        figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.4), width_ratios=(1.5, 1, 1))
        for axis, (metric, label) in zip(axes, PANELS, strict=True):
            for group in groups:
                _draw_group(axis, group, metric)
            axis.set_xlabel("training step (64 images each)")
            axis.set_ylabel(label)
            axis.set_yscale("log", nonpositive="mask")
        axes[0].legend()
        figure.suptitle(
            _title(groups, notice), fontsize=9, color="firebrick" if notice else "black"
        )
        figure.tight_layout()
        _save(figure, path)


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
    colour = COLOURS.get((settings.model_name, settings.regularize), "#CC79A7")
    style = {"color": colour, "linestyle": DASHES.get(settings.model_name, ":"), "linewidth": 1.4}
    label = settings.model_name + LABELS[settings.regularize]
    axis.plot(points + 1, np.median(curves, axis=0)[points], label=label, **style)
    if len(group) > 1:
        low, high = curves.min(axis=0)[points], curves.max(axis=0)[points]
        axis.fill_between(points + 1, low, high, color=colour, alpha=0.2, linewidth=0)


def _save(figure, path):
    # Without the date and the version the same records give the same file.
    metadata = {"Software": None} if str(path).endswith(".png") else {"Date": None}
    write_atomically(path, lambda file: figure.savefig(file, dpi=160, metadata=metadata))
    plt.close(figure)
