"""The figure on networks other than the tutorial's, as a function of results."""

import matplotlib.pyplot as plt
import numpy as np

from experiments.mnist.figures import POINTS
from experiments.mnist.other_results import FACTORED, ORIGINAL, at_best, by_model, grid
from experiments.mnist.other_settings import MODEL_NAMES, TITLES
from experiments.mnist.results import WINDOW
from presenting.drawing import STYLE, WIDTH, finish, plain_log_ticks
from presenting.palette import NETWORKS

DASHES = dict(zip(NETWORKS, ("-", "--", ":"), strict=True))


def draw_networks(found, path, notice=None):
    """Training loss at the best rate and scale, and final loss by rate, a row for each network.

    Args:
        found: results of all runs.
        path: file to write, see `finish`.
        notice: a warning to put into the title.
    """
    networks = sorted(by_model(found).items())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(networks), 2, figsize=(WIDTH, 0.9 + 2.4 * len(networks)), squeeze=False
        )
        for (network, models), (curves, rates) in zip(networks, axes, strict=True):
            for factored in (ORIGINAL, *FACTORED):
                _draw_curves(curves, factored, at_best(models[factored]))
                _draw_grid(rates, factored, models[factored])
            _label(curves, f"{TITLES[network]}: loss (nats)", "training step (64 images each)")
            _label(rates, f"loss, last {WINDOW} steps", "learning rate")
        axes[0, 0].legend()
        finish(figure, path, _title(networks, notice), notice)


def _title(networks, notice):
    seeds = len(at_best(networks[0][1][ORIGINAL]))
    text = (
        f"Cross-entropy, mean over {WINDOW} steps, at each model's best rate and start scale: "
        f"median and range of {seeds} seeds. Right: one seed, at the best scale; filled: the best."
    )
    return "\n".join(filter(None, [notice, text]))


def _label(axis, loss, what):
    axis.set(xscale="log", yscale="log", xlabel=what, ylabel=loss)
    plain_log_ticks(axis.xaxis)
    plain_log_ticks(axis.yaxis)


def _style(factored):
    return {"color": NETWORKS[factored], "linestyle": DASHES[factored], "linewidth": 1.4}


def _draw_curves(axis, factored, group):
    """From the first step on that has a whole window behind it."""
    curves = np.array([result.smoothed("objective") for result in group])
    first = min(WINDOW, curves.shape[1])
    steps = np.unique(np.geomspace(first, curves.shape[1], POINTS).astype(int))
    low, middle, high = np.quantile(curves[:, steps - 1], (0, 0.5, 1), axis=0)
    axis.plot(steps, middle, label=MODEL_NAMES[factored], **_style(factored))
    axis.fill_between(steps, low, high, color=NETWORKS[factored], alpha=0.2, linewidth=0)


def _draw_grid(axis, factored, group):
    found = {rate: final for rate, final in grid(group, axis=0).items() if np.isfinite(final)}
    style = _style(factored)
    axis.plot(list(found), list(found.values()), marker="o", fillstyle="none", **style)
    best = min(found, key=found.get)
    axis.plot(best, found[best], marker="o", color=style["color"])
