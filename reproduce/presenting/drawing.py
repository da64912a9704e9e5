"""What all figures have in common: size, style, ticks, and how they are written."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator

from running.records import write_atomically

WIDTH = 6.8  # inches: halved, as in a column, the text can still be read
STYLE = {"font.size": 8, "axes.grid": True, "grid.alpha": 0.3}
# Without date and version the same records give the same files.
FORMATS = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
# Text stays text, and names within the file do not depend on chance.
SVG = {"svg.fonttype": "none", "svg.hashsalt": "keras_overparam"}
DPI = 180
TITLE_LENGTH = 15  # characters of a line, by inch
MOST_PLAIN_DECADES = 3
DIGITS = (1, 2, 5), (1, 1.5, 2, 3, 5, 7)  # of ticks, the fewer the better
LEAST_TICKS = 3
ROW = 0.045  # height of a row of crosses, of the panel's


def label_log_axis(axis):
    """Label a log axis with plain numbers, three or more, where it spans a few decades at most.

    Ticks that were set are left alone. Where everything diverged there is nothing to span, and the
    axis is left with a decade.

    Args:
        axis: `xaxis` or `yaxis` of axes whose limits are final.
    """
    if axis.get_scale() != "log" or isinstance(axis.get_major_locator(), FixedLocator):
        return
    low, high = axis.get_view_interval()
    if not 0 < low < high < np.inf:
        axis.set_view_interval(1, 10, ignore=True)
    elif np.log10(high / low) <= MOST_PLAIN_DECADES:
        axis.set_ticks(_plain_ticks(low, high))
        axis.set_major_formatter("{x:g}")
        axis.set_ticks([], minor=True)


def _plain_ticks(low, high):
    """The fewest round numbers of which at least three lie between two limits."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    choices = [[digit * 10.0**power for power in powers for digit in some] for some in DIGITS]
    choices.append(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high))
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in choices]
    return next((ticks for ticks in inside if len(ticks) >= LEAST_TICKS), inside[-1])


def draw_diverged(axis, models):
    """Crosses at the rates at which models diverged, in a strip of their own above a panel.

    There they are not taken for values.

    Args:
        axis: of the panel, by learning rate.
        models: for each model its colour, and the rates.
    """
    rows = [(colour, rates) for colour, rates in models if len(rates)]
    if not rows:
        return
    strip = axis.inset_axes([0, 1, 1, ROW * (len(rows) + 0.5)], sharex=axis)
    strip.set(facecolor="#EEEEEE", ylim=(-0.75, len(rows) - 0.25))
    for row, (colour, rates) in enumerate(reversed(rows)):
        strip.plot(rates, np.full(len(rates), row), "x", color=colour, markersize=4)
    strip.set_yticks([(len(rows) - 1) / 2], ["diverged"])
    strip.tick_params(which="both", length=0, labelbottom=False)
    strip.grid(visible=False, axis="y")


def _evenly(text, length):
    """Lines of a text, as few as its length asks for, and of about one length."""
    count = len(textwrap.wrap(text, length))
    ways = (textwrap.wrap(text, shorter) for shorter in range(len(text) // count, length + 1))
    return next(lines for lines in ways if len(lines) == count)


def finish(figure, path, title, notice=None):
    """Give a figure its title, red if it holds a notice, label its axes, and write PNG and SVG.

    Args:
        figure: a figure whose axes have their final limits; it is closed.
        path: one of the two files, the other lies beside it.
        title: text above the figure.
        notice: whether the title holds a notice.
    """
    length = int(TITLE_LENGTH * figure.get_figwidth())
    title = "\n".join(line for long in title.splitlines() for line in _evenly(long, length))
    figure.suptitle(title, fontsize=9, color="firebrick" if notice else "black")
    for axes in figure.axes:
        label_log_axis(axes.xaxis)
        label_log_axis(axes.yaxis)
    figure.tight_layout()
    for suffix, metadata in FORMATS.items():
        with plt.rc_context(SVG):
            write_atomically(
                Path(path).with_suffix(suffix),
                lambda file, metadata=metadata: figure.savefig(file, dpi=DPI, metadata=metadata),
            )
    plt.close(figure)
