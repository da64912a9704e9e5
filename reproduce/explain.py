"""The idea in one figure: what depth does to gradient descent on two weights.

    python reproduce/explain.py               into runs/explain/
    python reproduce/explain.py --publish     into assets/ too

The field of arrows that gradient descent on one, two and four factors follows, with trajectories at
each depth's fastest learning rate; how typical that is of random problems; and the closed loop of
the theorem that no regularizer does what depth does. No data and no training runs are needed. About
a minute on two CPU cores.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from experiments.vector_field import field as vector_field
from experiments.vector_field import figures as vector_field_figure
from running import records
from running.commands import command
from running.options import positive

ASSETS = Path(__file__).resolve().parents[1] / "assets"
NAME = "vector_field"


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = vector_field.Settings()
    parser.add_argument("--problems", type=positive(int), default=default.problems)
    parser.add_argument("--output", default="runs/explain", help="folder (%(default)s)")
    parser.add_argument("--publish", action="store_true", help="draw into assets/ too")
    return parser.parse_args(arguments)


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


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("explain.py"):
        output = records.make_folder(options.output)
        shown = vector_field.compute(vector_field.Settings(problems=options.problems))
        print("\n".join(report(shown)))
        for folder in [output] + [ASSETS] * options.publish:
            vector_field_figure.draw(shown, folder / f"{NAME}.png")
            vector_field_figure.animate(shown, folder / f"{NAME}.gif")
        print(f"Figure: {output / NAME}.png and .svg, animated .gif")


if __name__ == "__main__":
    main()
