"""What all figures have in common: size, style, ticks, and how they are written."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display needed
import matplotlib.pyplot as plt
import numpy as np

from running.records import write_atomically

WIDTH = 6.8  # inches: halved, as in a column, the text can still be read
STYLE = {"font.size": 8, "axes.grid": True, "grid.alpha": 0.3}
# Without date and version the same records give the same files.
FORMATS = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
# Text stays text, and names within the file do not depend on chance.
SVG = {"svg.fonttype": "none", "svg.hashsalt": "keras_overparam"}
DPI = 180
TITLE_LENGTH = 15  # characters of a line, by inch
MOST_PLAIN_DECADES = 2.5


def plain_log_ticks(axis):
    """Label a log axis with plain numbers at 1, 2 and 5, where it spans a few decades at most.

    Where everything diverged there is nothing to span, and it is left with a decade.

    Args:
        axis: `xaxis` or `yaxis` of axes whose limits are final.
    """
    low, high = axis.get_view_interval()
    if not 0 < low < high < np.inf:
        axis.set_view_interval(1, 10, ignore=True)
        return
    decades = np.log10(high / low)
    if decades <= MOST_PLAIN_DECADES:
        digits = (1, 2, 5) if decades > 1 else (1, 1.5, 2, 3, 5, 7)
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        axis.set_ticks([tick for tick in ticks if low <= tick <= high])
        axis.set_major_formatter("{x:g}")
        axis.set_ticks([], minor=True)


def finish(figure, path, title, notice=None):
    """Give a figure its title, red if it holds a notice, and write it as PNG and as SVG.

    Args:
        figure: a figure; it is closed.
        path: one of the two files, the other lies beside it.
        title: text above the figure.
        notice: whether the title holds a notice.
    """
    length = int(TITLE_LENGTH * figure.get_figwidth())
    title = "\n".join(textwrap.fill(line, length) for line in title.splitlines())
    figure.suptitle(title, fontsize=9, color="firebrick" if notice else "black")
    figure.tight_layout()
    for suffix, metadata in FORMATS.items():
        with plt.rc_context(SVG):
            write_atomically(
                Path(path).with_suffix(suffix),
                lambda file, metadata=metadata: figure.savefig(file, dpi=DPI, metadata=metadata),
            )
    plt.close(figure)
