"""The figure on networks other than the tutorial's, as a function of results."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np

from plumbing.figures import STYLE, finish
from plumbing.network_results import FACTORED, ORIGINAL, at_best, by_model, grid
from plumbing.networks import MODEL_NAMES, TITLES
from plumbing.palette import DEPTHS
from plumbing.results import WINDOW

LINES = {
    ORIGINAL: {"color": DEPTHS[1], "linestyle": "-"},
    "dense": {"color": DEPTHS[2], "linestyle": "--"},
    "all": {"color": "#AA4499", "linestyle": ":"},
}


def draw_networks(found, path, notice=None):
    """Training loss at the best rate and scale, and final loss by rate, a column for each network.

    Args:
        found: results of all runs.
        path: file to write.
        notice: a warning to put into the title.
    """
    networks = sorted(by_model(found).items())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(networks), figsize=(3.2 * len(networks), 5.6), squeeze=False
        )
        for column, (network, models) in enumerate(networks):
            top, bottom = axes[:, column]
            top.set_title(TITLES[network], fontsize=9)
            for factored in (ORIGINAL, *FACTORED):
                _draw_curves(top, factored, at_best(models[factored]))
                _draw_grid(bottom, factored, models[factored])
            top.set(xscale="log", yscale="log")
            top.set_xlabel("training step (64 images each)")
            bottom.set(xscale="log", yscale="log", xlabel="learning rate")
        axes[0, 0].set_ylabel("cross-entropy (nats)")
        axes[1, 0].set_ylabel(f"cross-entropy (nats), last {WINDOW} steps")
        axes[0, 0].legend()
        seeds = len(at_best(networks[0][1][ORIGINAL]))
        title = (
            f"Mean over {WINDOW} steps, median and range of {seeds} seeds, at each model's best "
            "rate and start scale; below, one seed, at the best scale"
        )
        text = [*textwrap.wrap(notice or "", 110), *textwrap.wrap(title, 110)]
        finish(figure, path, "\n".join(text), notice)


def _draw_curves(axis, factored, group):
    curves = np.array([result.smoothed("objective") for result in group])
    steps = np.unique(np.geomspace(10, curves.shape[1], 300).astype(int))
    low, middle, high = np.quantile(curves[:, steps - 1], (0, 0.5, 1), axis=0)
    line = LINES[factored]
    axis.plot(steps, middle, label=MODEL_NAMES[factored], linewidth=1.4, **line)
    axis.fill_between(steps, low, high, color=line["color"], alpha=0.2, linewidth=0)


def _draw_grid(axis, factored, group):
    found = {rate: final for rate, final in grid(group, axis=0).items() if np.isfinite(final)}
    axis.plot(list(found), list(found.values()), marker="o", fillstyle="none", **LINES[factored])
    best = min(found, key=found.get)
    axis.plot(best, found[best], marker="o", color=LINES[factored]["color"])
