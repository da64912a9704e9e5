"""Paired timings: contenders take turns, ratios are formed within each round.

A drift of the machine's speed then falls on all contenders, and tables show the median and the
quartiles over rounds. Leave the machine alone meanwhile.
"""

import gc
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "reproduce"))

import numpy as np
from tqdm.auto import tqdm

from running import records

SHARES = ("share_of_peak", "share_of_bandwidth")  # of the machine's, facts of some rows


def take_turns(jobs, rounds):
    """Milliseconds of every job in every round.

    Args:
        jobs: dictionary from names to functions that return the seconds of one turn.
        rounds: number of turns of each.
    """
    times = {name: [] for name in jobs}
    for _ in tqdm(range(rounds), unit="round"):
        for name, job in jobs.items():
            times[name].append(round(1e3 * job(), 3))
    return times


def steady(step, turn=0.05, least=3):
    """A job for `take_turns`: mean seconds of a step over a turn of many.

    The first step of a turn, which finds caches cold, is left out, and no garbage is collected
    meanwhile.

    Args:
        step: function that takes a step and returns a scalar of it. Devices do their work in order,
            so that fetching the last step's scalar waits for all that was asked of them before.
        turn: seconds that a turn takes at least.
        least: number of steps of a turn at least.
    """

    def mean(steps):
        float(step())
        gc.disable()
        started = time.perf_counter()
        for _ in range(steps):
            scalar = step()
        float(scalar)
        seconds = (time.perf_counter() - started) / steps
        gc.enable()
        return seconds

    mean(1)  # compiles
    steps = max(least, math.ceil(turn / mean(1)))
    return lambda: mean(steps)


def cpu_of_children():
    """Seconds of CPU time that this process's ended children have taken."""
    import resource  # which Windows does not have

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(what, unit, values, **facts):
    """One row of a table: median and quartiles, and facts for programs that read it."""
    low, middle, high = (round(float(v), 4) for v in np.percentile(values, [25, 50, 75]))
    return {"what": what, "unit": unit, "median": middle, "quartiles": [low, high]} | facts


def ratio_row(what, times, numerator, denominator, **facts):
    """A row of the ratios of two jobs, round by round."""
    return row(what, "ratio", np.divide(times[numerator], times[denominator]), **facts)


def report(rows, output, **facts):
    """Print a table, and leave it as JSON with versions and device."""
    for line in rows:
        low, high = line["quartiles"]
        numbers = f"{line['median']:8.3f} {line['unit']} ({low:.3f} to {high:.3f})"
        shares = [f", {line[s]:.0%} {s.replace('_', ' ')}" for s in SHARES if s in line]
        print(f"{line['what']:64s} {numbers}{''.join(shares)}")
    from running import machine  # which imports Keras; PyTorch's process has none

    content = {"device": machine.device_name(), "versions": records.versions()}
    records.write_json(output, content | facts | {"rows": rows})


def exponents(sizes, measured):
    """Slopes of straight lines through logarithms, one for each column of what was measured."""
    return np.polyfit(np.log(sizes), np.log(measured), 1)[0]


def growth(what, times):
    """Rows of the exponents with which times grow with a size: over all sizes, the upper half.

    Args:
        what: the row's name.
        times: dictionary from sizes to the durations of every round.
    """
    sizes = sorted(times)
    for part, chosen in (("", sizes), (", upper half", sizes[len(sizes) // 2 :])):
        if len(chosen) > 1:
            slopes = exponents(chosen, [times[size] for size in chosen])
            yield row(f"growth of {what}{part}", "exponent", slopes)
