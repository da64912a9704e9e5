"""The figure that explains the rule, as a function of what `vector_field.compute` found."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter

from experiments.vector_field import field as vector_field
from presenting import palette
from presenting.drawing import STYLE, WIDTH, finish
from running.records import write_atomically

MARK_EVERY = 10  # iterations
ARROWS = 13  # each way
GRID = 90  # points of the contours each way
FILM_DPI = 100
REST = 8  # pictures at the end of the film
THIN = 10  # of the loop's points, of which one is drawn
PARTS = ("in", "small arc", "out", "large arc")
SEEN = {
    1: "Gradient descent: fast down the slope,\nthen slowly along the valley.",
    2: "Short steps near zero allow a higher rate,\nwhich tells in the valley, far from zero.",
    4: "More so, and the arrows turn towards\nthe rays through zero.",
}
STAR = {"marker": "*", "markersize": 11, "color": "black", "linestyle": "none", "zorder": 6}


def draw(shown, path):
    """Fields and trajectories by depth, how typical they are, and the theorem's loop.

    Args:
        shown: a `vector_field.Shown`.
        path: file to write.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(3, 2, figsize=(WIDTH, 9.9), height_ratios=(1.15, 1.15, 1))
        axes = axes.ravel()
        box = _box(shown)
        for axis, depth in zip(axes, shown.settings.depths, strict=False):
            _draw_field(axis, shown, depth, box)
        _draw_speed_ups(axes[3], shown)
        _draw_loop(axes[4], shown)
        _draw_work(axes[5], shown)
        finish(figure, path, _title(shown.settings))


def animate(shown, path, every=2):
    """The trajectories of all depths side by side in time, as a GIF that repeats.

    Args:
        shown: a `vector_field.Shown`.
        path: file to write.
        every: iterations from one picture to the next.
    """
    depths, box = shown.settings.depths, _box(shown)
    length = len(shown.paths[depths[0]])
    pictures = [*range(0, length, every), *[length - 1] * REST]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(depths), figsize=(WIDTH, 2.7), sharey=True)
        lines = []
        for axis, depth in zip(axes, depths, strict=True):
            _draw_plane(axis, shown, box)
            for way in shown.paths[depth].swapaxes(0, 1):
                (line,) = axis.plot([], [], "o-", color=palette.DEPTHS[depth], linewidth=1.2)
                lines.append((line, way))
        axes[0].set_ylabel("weight k₂")

        def show(iteration):
            for axis, depth in zip(axes, depths, strict=True):
                text = f"depth {depth}, rate {shown.rates[depth]:.2g}: {iteration} iterations"
                axis.set_title(text, fontsize=7.5)
            for line, way in lines:
                line.set_data(*way[: iteration + 1].T)
                line.set_markevery([iteration])

        show(0)
        figure.tight_layout()
        film = FuncAnimation(figure, show, pictures)
        write_atomically(path, lambda file: film.save(file, PillowWriter(fps=8), dpi=FILM_DPI))
        plt.close(figure)


def _title(settings):
    return (
        "Random data, ℓ4 regression on two weights: gradient descent, each depth at the fastest of "
        f"{len(settings.rates)} rates,\nthat is, the first to leave {100 * settings.target:g} % of "
        f"the excess loss of zero (+) from all {settings.directions} starts (○).\n"
        f"★ minimum; a dot every {MARK_EVERY} iterations; the fainter an arrow, the shorter the "
        "step."
    )


def _box(shown):
    """Limits that hold all trajectories and the minimum, square."""
    points = np.concatenate(
        [p.reshape(-1, 2) for p in shown.paths.values()] + [shown.minimum[None]]
    )
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, 0.57 * (high - low).max()
    return np.array([middle - half, middle + half])


def _takeaway(axis, title, takeaway):
    """A panel's title, and below it in one or two short lines what it shows."""
    axis.set_title(f"{takeaway}", fontsize=7.5, loc="left", color=palette.NEUTRAL)
    lines = takeaway.count("\n") + 1
    axis.annotate(
        title,
        (0, 1),
        (0, 6.5 + 10.5 * lines),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        fontweight="bold",
    )


def _draw_plane(axis, shown, box):
    """What is the same at all depths: contours of the loss, zero and the minimum."""
    _draw_contours(axis, shown, box)
    axis.plot(0, 0, "+", color="black", markersize=7, zorder=6)
    axis.plot(*shown.minimum, **STAR)
    axis.set_xticks(np.arange(-2, 2.1, 0.5))
    axis.set_yticks(np.arange(-2, 2.1, 0.5))
    axis.set(xlim=box[:, 0], ylim=box[:, 1], aspect="equal", xlabel="weight k₁")
    axis.grid(False)


def _draw_field(axis, shown, depth, box):
    _draw_plane(axis, shown, box)
    axis.set_ylabel("weight k₂")
    _draw_arrows(axis, shown, depth, box)
    colour = palette.DEPTHS[depth]
    for path in shown.paths[depth].swapaxes(0, 1):
        axis.plot(*path.T, color=colour, linewidth=1.1, zorder=4)
        axis.plot(*path[MARK_EVERY::MARK_EVERY].T, "o", color=colour, markersize=3, zorder=5)
        axis.plot(*path[0], "o", color=colour, markerfacecolor="white", markersize=5, zorder=6)
    needed = shown.needed[depth]
    count = f"{needed:.0f} iterations" if np.isfinite(needed) else "goal not reached"
    title = f"Depth {depth}: {count} at rate {shown.rates[depth]:.2g}"
    _takeaway(axis, title, SEEN.get(depth, SEEN[4]))


def _draw_contours(axis, shown, box):
    x, y = (np.linspace(*box[:, i], GRID) for i in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    losses = vector_field.loss_and_gradient(shown.problem, grid)[0].reshape(len(y), len(x))
    least = vector_field.loss_and_gradient(shown.problem, shown.minimum[None])[0][0]
    excess = losses - least
    levels = np.geomspace(1e-3, 1, 13) * excess.max()
    axis.contour(x, y, excess, levels=levels, colors="#9DB4C8", linewidths=0.6, zorder=1)


def _draw_arrows(axis, shown, depth, box):
    """Unit arrows, the darker the longer the step at the panel's rate."""
    sides = (np.linspace(*box[:, i], ARROWS + 2)[1:-1] for i in (0, 1))
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    arrows = vector_field.field(shown.problem, grid, depth)
    size = np.linalg.norm(arrows, axis=-1, keepdims=True)
    arrows = arrows / np.where(size > 0, size, 1)
    step = np.log10(np.maximum(shown.rates[depth] * size[:, 0], 1e-9))
    axis.quiver(
        *grid.T,
        *arrows.T,
        np.clip((step + 3) / 3, 0, 1),
        cmap="Greys",
        clim=(-0.35, 1.2),
        scale=ARROWS * 1.5,
        width=0.004,
        pivot="mid",
        zorder=2,
    )


def _draw_speed_ups(axis, shown):
    norms = shown.settings.norms
    for index, depth in enumerate(shown.settings.depths):
        if depth == 1:
            continue
        colour, found = palette.DEPTHS[depth], shown.speed_ups[index]
        low, median, high = np.percentile(found, [25, 50, 75], axis=-1)
        axis.plot(norms, median, "o-", color=colour, label=f"depth {depth}")
        axis.fill_between(norms, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.plot(norms, found[:, 0], "x", color=colour, markersize=5)
    axis.axhline(1, color=palette.DEPTHS[1], linewidth=1.2)
    axis.set(xscale="log", yscale="log", xlabel="norm of the start")
    axis.set_ylabel("speed-up over depth 1")
    axis.set_xticks(norms, [f"{norm:g}" for norm in norms])
    ticks = (0.25, 0.5, 1, 2, 4)
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(0.22, 5.5)
    axis.legend(loc="upper right")
    count = shown.settings.problems
    _takeaway(
        axis,
        "Is that typical?",
        "Depth 2 gains near zero; far out depth loses.\n"
        f"{count} problems: median, quartiles; ×: this one.",
    )


def _draw_loop(axis, shown):
    """The path, and at points on it the component of the deepest field along it."""
    points, depth = shown.loop.points, shown.settings.loop_depths[-1]
    tangential = shown.loop.tangential[-1]
    outer = shown.settings.radii[1]
    axis.plot(*points[:, ::THIN].reshape(-1, 2).T, color=palette.NEUTRAL, linewidth=0.8, zorder=1)
    for part, along in zip(points, tangential, strict=True):
        count = max(
            3, round(14 * np.linalg.norm(np.diff(part, axis=0), axis=1).sum() / outer / np.pi)
        )
        at = np.linspace(0, len(part) - 1, count + 2)[1:-1].round().astype(int)
        direction = np.gradient(part, axis=0)[at]
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        arrows = direction * (along[at] / abs(tangential).max())[:, None]
        colours = np.where(along[at] > 0, palette.DEPTHS[depth], "black")
        axis.quiver(
            *part[at].T, *arrows.T, color=colours, scale=4.5, width=0.009, minlength=0, zorder=3
        )
    axis.plot(0, 0, "+", color="black")
    limit = 1.25 * outer
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axis.set(xlabel="weight k₁", ylabel="weight k₂")
    axis.set_xticks([-outer, 0, outer])
    axis.set_yticks([-outer, 0, outer])
    _takeaway(
        axis,
        f"A closed loop beside zero, depth {depth}",
        "The field along it: what the straight parts gain\n(orange), the arcs give back in part.",
    )


def _draw_work(axis, shown):
    """Work along the loop as a fraction of that on the straight parts, closed form at the end."""
    loop, place = shown.loop, np.linspace(0, 1, shown.settings.loop_points)
    for index, depth in enumerate(shown.settings.loop_depths):
        work = loop.work[index]
        straight = work[0, -1] - work[0, 0] + work[2, -1] - work[2, 0]
        for part in range(4):
            label = f"depth {depth}" if part == 0 else None
            style = {"color": palette.DEPTHS[depth], "linewidth": 1.4, "label": label}
            style["linestyle"] = "-" if depth != 2 else (0, (4, 1.5))
            axis.plot(part + place[::THIN], work[part, ::THIN] / straight, **style)
        place_of = {"color": palette.DEPTHS[depth], "clip_on": False, "zorder": 6}
        axis.plot(4, loop.closed_form[index] / straight, "D", markerfacecolor="none", **place_of)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xlim(0, 4)
    axis.set_xticks(range(5), [""] * 5)
    axis.set_xticks(np.arange(4) + 0.5, PARTS, minor=True)
    axis.tick_params(axis="x", which="minor", length=0)
    axis.set(xlabel="place on the loop", ylabel="work so far\n(work on straight parts = 1)")
    axis.legend(loc="upper left", fontsize=7)
    _takeaway(
        axis,
        "Work around that loop",
        "Of a gradient field it is 0. At depths 3, 4 it is not:\n"
        "no regularizer does the same. ◇: closed form.",
    )


def draw_all(shown, folder):
    """The figure and the animation in a folder."""
    draw(shown, folder / "vector_field.png")
    animate(shown, folder / "vector_field.gif")


def report(shown):
    """The figure's numbers, as lines of text."""
    for depth in shown.settings.depths:
        needed = shown.needed[depth]
        count = f"{needed:.0f} iterations" if np.isfinite(needed) else "goal not reached"
        yield f"depth {depth}: {count} at rate {shown.rates[depth]:.3g}"
    for index, depth in enumerate(shown.settings.depths[1:], start=1):
        medians = np.median(shown.speed_ups[index], axis=-1)
        by_norm = zip(shown.settings.norms, medians, strict=True)
        text = ", ".join(f"{median:.2f} from norm {norm:g}" for norm, median in by_norm)
        yield f"depth {depth}, median speed-up: {text}"
    for index, depth in enumerate(shown.settings.loop_depths):
        integral, closed = shown.loop.integral[index], shown.loop.closed_form[index]
        yield f"depth {depth}, loop: {integral:.4g}, closed form {closed:.4g}"
