"""The figure on networks other than the tutorial's, as a function of results."""

import matplotlib.pyplot as plt
import numpy as np

from datasets import title_of
from experiments.mnist.figures import POINTS
from experiments.mnist.other_results import FACTORED, ORIGINAL, at_best, by_model, grid
from experiments.mnist.other_settings import MODEL_NAMES, TITLES
from experiments.mnist.results import WINDOW
from presenting.drawing import STYLE, WIDTH, draw_diverged, finish
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
            _label(curves, f"{TITLES[network]}: loss (nats)", "training step (64 images each)")
            _label(rates, f"loss, last {WINDOW} steps", "learning rate")
            _draw_rates(rates, {name: grid(group, axis=0) for name, group in models.items()})
        axes[0, 0].legend()
        finish(figure, path, _title(networks, notice), notice)


def _title(networks, notice):
    seeds = len(at_best(networks[0][1][ORIGINAL]))
    data = title_of(networks[0][1][ORIGINAL][0].settings.dataset)
    text = (
        f"{data}: cross-entropy, mean over {WINDOW} steps, at each model's best rate and start "
        f"scale: median and range of {seeds} seeds. Right: one seed, at the best scale; filled: "
        "the best."
    )
    return "\n".join(filter(None, [notice, text]))


def _label(axis, loss, what):
    axis.set(xscale="log", yscale="log", xlabel=what, ylabel=loss)


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


def _draw_rates(axis, grids):
    """Final losses by learning rate, the best one filled; above them, where that diverged."""
    for factored, finals in grids.items():
        rates, losses = np.array([*finals]), np.array([*finals.values()])
        finite, style = np.isfinite(losses), _style(factored)
        best = losses == losses.min(where=finite, initial=np.inf)
        axis.plot(rates, losses, marker="o", fillstyle="none", **style)
        axis.plot(rates[best], losses[best], "o", color=style["color"])
    draw_diverged(
        axis,
        [
            (NETWORKS[factored], [rate for rate, loss in finals.items() if not np.isfinite(loss)])
            for factored, finals in grids.items()
        ],
    )
    tried = sorted({rate for finals in grids.values() for rate in finals})
    axis.set_xticks(tried, [f"{rate:g}" for rate in tried])
    axis.set_xticks([], minor=True)
