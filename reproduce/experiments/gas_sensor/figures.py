"""Figures of the experiments on linear regression, as functions of results."""

import matplotlib.pyplot as plt
import numpy as np

from datasets import title_of
from experiments.gas_sensor.models import DEPTHS, POWERS, label
from experiments.gas_sensor.results import speed_up
from presenting import palette
from presenting.drawing import STYLE, WIDTH, draw_diverged, finish
from presenting.tables import seeds

MARKERS = {1: "s", 2: "o", 3: "^", "adagrad": "D", "adadelta": "v", "adadelta_tf1": "P"}
DASHES = {"gd": "-", "adam": "--", "adagrad": "-.", "adadelta": "--", "adadelta_tf1": ":"}


def draw(experiment, results, path, notice=None):
    """Draw the figure of an experiment.

    Args:
        experiment: its name.
        results: list of `results.Result`, of the experiment's models.
        path: file to write, see `drawing.finish`.
        notice: a warning to put into the title.
    """
    with plt.rc_context(STYLE):
        figure, title = FIGURES[experiment](results)
        count = len(results[0].settings.seeds)
        shown = "medians" if experiment == "map" else "medians and ranges"
        data = title_of(results[0].settings.dataset)
        text = f"{data}, {title}; {shown} of {seeds(count)}"
        finish(figure, path, "\n".join(filter(None, [notice, text])), notice)


def _curves_and_rates(results, name):
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 6.2))
    draw_curves(axes[0], results)
    draw_rates(axes[1], results)
    axes[0].legend(loc="lower left")
    return figure, f"{name}: models at their best rates, and the rates tried"


def _two_losses(results):
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3))
    for axis, power in zip(axes, (2, 4), strict=True):
        group = [r for r in results if r.settings.power == power]
        draw_curves(axis, group, lambda s: f"depth {s.depth}")
        axis.set_title(f"ℓ{power} loss", fontsize=9)
        axis.legend()
    return figure, "gradient descent, each depth at its best learning rate"


def _deep(results):
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    for axis, depth in zip(axes, (4, 8), strict=True):
        group = [r for r in results if r.settings.depth == depth]
        draw_curves(axis, group, lambda s: {"near_zero": "near zero"}.get(s.start, "near identity"))
        axis.set_title(f"depth {depth}", fontsize=9)
        axis.tick_params(labelleft=True)
        axis.legend()
    return figure, "ℓ4 loss: very deep linear networks by start, at best rates"


def _map(results):
    starts = ("balanced", "identity")
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.9), sharey=True)
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
    return figure, f"speed-up over depth 1 (blue: faster), {iterations:,} iterations, best rates"


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
    axis.tick_params(labelleft=True)
    axis.grid(False)


def _starts(results):
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.4), sharex=True)
    speed, final, best, key = axes.ravel()
    depths = sorted({r.settings.depth for r in results})
    rows = {d: [r for r in results if r.settings.depth == d] for d in depths}
    scales = [r.settings.scale for r in rows[1]]
    for depth in depths:
        style = {"color": palette.DEPTHS[depth], "marker": MARKERS[depth]}
        style["label"] = f"depth {depth}"
        if depth > 1:
            ratios = [speed_up(r, base) for r, base in zip(rows[depth], rows[1], strict=True)]
            _with_range(speed, scales, ratios, style)
        _with_range(final, scales, [r.curves[:, -1] for r in rows[depth]], style)
        best.plot(scales, [r.rates[r.best] for r in rows[depth]], **style)
    names = ("speed-up over depth 1, same start", "final loss", "best learning rate")
    for axis, name in zip((speed, final, best), names, strict=True):
        axis.set(xscale="log", yscale="log", ylabel=name)
        axis.set_xlabel("end-to-end norm of the start")
        axis.tick_params(labelbottom=True)
    speed.axhline(1, color=palette.DEPTHS[1], linewidth=1)
    key.axis("off")
    key.legend(*final.get_legend_handles_labels(), loc="center", fontsize=9)
    iterations = results[0].settings.iterations
    return figure, f"ℓ4 loss, by start scale: {iterations:,} iterations of gradient descent"


def _widths(results):
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    base = next(r for r in results if r.settings.depth == 1)
    for depth in (2, 3):
        group = [r for r in results if r.settings.depth == depth]
        widths = [r.settings.width for r in group]
        style = {"color": palette.DEPTHS[depth], "marker": MARKERS[depth]}
        style["label"] = f"depth {depth}"
        _with_range(axes[0], widths, [speed_up(r, base) for r in group], style)
        _with_range(axes[1], widths, [r.curves[:, -1] for r in group], style)
    axes[0].axhline(1, color=palette.DEPTHS[1], linewidth=1, label="depth 1")
    for axis, name in zip(axes, ("speed-up over depth 1", "final loss"), strict=True):
        axis.set(xscale="log", xlabel="hidden width", ylabel=name)
        axis.set_xticks(widths, [f"{width:g}" for width in widths])
        axis.minorticks_off()
    axes[0].set_ylim(bottom=0)
    axes[0].legend(loc="lower right")
    return figure, "ℓ4 loss, by hidden width, independent Gaussian weights"


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
    _limit(axis, 0.6 * low, 1.6 * start)
    axis.set_xlim(1, results[0].iterations[-1])


def _limit(axis, low, high):
    """Limits of losses, if they did not diverge."""
    if 0 < low < high < np.inf:
        axis.set_ylim(low, high)


def draw_rates(axis, results):
    """Final loss by learning rate: median over seeds; above it, where that diverged."""
    highest = max(float(np.median(r.curves[:, 0])) for r in results)
    for result in results:
        style = _style(result.settings)
        finite = np.isfinite(result.final)
        name = {"label": label(result.settings)}
        axis.plot(result.rates[finite], result.final[finite], **style, **name)
        ends = result.losses[finite, :, -1]
        band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
        axis.fill_between(result.rates[finite], ends.min(axis=1), ends.max(axis=1), **band)
        marker = {"marker": _marker(result.settings), "color": style["color"]}
        axis.plot(result.rates[result.best], result.final[result.best], **marker)
    diverged = [(_style(r.settings)["color"], r.rates[~np.isfinite(r.final)]) for r in results]
    draw_diverged(axis, diverged)
    axis.set(xscale="log", yscale="log", ylabel="final loss")
    axis.set_xlabel("learning rate (marker: best)")
    _limit(axis, 0.85 * min(r.final.min() for r in results), 3 * highest)
    shown = np.concatenate(
        [r.rates[~np.isfinite(r.final) | (r.final < 3 * highest)] for r in results]
    )
    axis.set_xlim(0.7 * shown.min(), 1.5 * shown.max())


def _with_range(axis, x, values, style):
    """Medians with bars over their ranges."""
    medians = np.array([np.median(v) for v in values])
    low = medians - [np.min(v) for v in values]
    high = np.array([np.max(v) for v in values]) - medians
    keep = np.isfinite(medians) & (medians > 0)
    bars = np.abs(np.where(np.isfinite([low, high]), [low, high], 0))[:, keep]
    axis.errorbar(np.array(x)[keep], medians[keep], yerr=bars, capsize=2, **style)


def _marker(settings):
    return MARKERS.get(settings.optimizer) or MARKERS.get(settings.depth, "o")


def _style(settings):
    colour = palette.OPTIMIZERS.get(settings.optimizer)
    colour = colour or palette.DEPTHS.get(settings.depth, palette.OTHER)
    dashes = DASHES.get(settings.optimizer, "-")
    if settings.start == "near_zero":
        dashes = ":"
    return {"color": colour, "linestyle": dashes, "linewidth": 1.5}


FIGURES = {
    "l4": lambda results: _curves_and_rates(results, "ℓ4 loss"),
    "l2": _two_losses,
    "adam": lambda results: _curves_and_rates(results, "ℓ4 loss, Adam"),
    "deep": _deep,
    "map": _map,
    "start": _starts,
    "width": _widths,
}
