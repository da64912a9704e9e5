"""How the duration of an optimizer's step on one kernel grows with its width and the rule's depth.

    python benchmarks/optimizer_growth.py
    KERAS_BACKEND=jax python benchmarks/optimizer_growth.py --dtype bfloat16 --widths 1024 8192

Square kernels that move by `MOVE` of their norm at every step, as in `end_to_end_step.py`, with
gradients of full rank: `EndToEnd`, exact and with a tolerance, beside SGD, Adam, Muon and the rule
as the textbook has it (depth 2). Takes about five minutes on two CPU cores.
"""

import argparse

import keras
from end_to_end_step import TOLERANCE, TextbookSVD, job
from turns import ROOT, growth, ratio_row, report, row, take_turns

from keras_overparam import EndToEnd

MOVE = 3e-4
WIDTHS = [64, 128, 256, 512, 1024, 2048]
DEPTHS = [2, 3, 4, 6, 8]
BASE_WIDTH, BASE_DEPTH = 512, 2
TEXTBOOK_UP_TO = 1024  # beyond, a decomposition takes many seconds
EXACT, KEPT = "EndToEnd, exact", f"EndToEnd, tolerance {TOLERANCE:g}"


def rules(depth):
    """`EndToEnd` at a depth, by name; rates so small that they move nothing themselves."""
    return {EXACT: EndToEnd(1e-9, depth), KEPT: EndToEnd(1e-9, depth, tolerance=TOLERANCE)}


def optimizers(width):
    """The contenders on kernels of a width, by name."""
    others = {"SGD": keras.optimizers.SGD(1e-9), "Adam": keras.optimizers.Adam(1e-9)}
    others["Muon"] = keras.optimizers.Muon(1e-9)
    if width <= TEXTBOOK_UP_TO:
        others["textbook, SVD"] = TextbookSVD(1e-9)
    return others | rules(BASE_DEPTH)


def times_of(contenders, width, options):
    """Milliseconds of a step of each contender, by round."""
    jobs = {
        name: job(optimizer, (width, width), None, MOVE, options.steps, options.dtype)
        for name, optimizer in contenders.items()
    }
    return take_turns(jobs, options.rounds)


def by_width(options):
    """Rows over widths, and how the durations grow with it."""
    measured = {width: times_of(optimizers(width), width, options) for width in options.widths}
    for width, times in measured.items():
        where = f"{width}×{width}"
        facts = {"width": width, "depth": BASE_DEPTH}
        for name, values in times.items():
            yield row(f"{name}, {where}", "ms per step", values, **facts, contender=name)
        for name in (EXACT, KEPT):
            yield ratio_row(f"{name} / Muon, {where}", times, name, "Muon")
    for name in measured[options.widths[0]]:
        curve = {width: times[name] for width, times in measured.items() if name in times}
        yield from growth(f"{name}, with width", curve)


def by_depth(options):
    """Rows over depths of the rule, and how the durations grow with it."""
    width = options.base_width
    contenders = {(n, depth): o for depth in options.depths for n, o in rules(depth).items()}
    times = times_of(contenders, width, options)
    for (name, depth), values in times.items():
        what = f"{name}, {width}×{width}, depth {depth}"
        yield row(what, "ms per step", values, width=width, depth=depth, contender=name)
    for name in (EXACT, KEPT):
        curve = {depth: times[name, depth] for depth in options.depths}
        yield from growth(f"{name}, with depth", curve)


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="per turn")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--base-width", type=int, default=BASE_WIDTH, help="for the depths")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_optimizer_growth.json")
    options = parser.parse_args(arguments)
    facts = {"rounds": options.rounds, "steps_per_turn": options.steps, "dtype": options.dtype}
    facts |= {"backend": keras.backend.backend(), "move": MOVE}
    report([*by_width(options), *by_depth(options)], options.output, **facts)


if __name__ == "__main__":
    main()
