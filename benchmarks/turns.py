"""Paired timings: contenders take turns, ratios are formed within each round.

A drift of the machine's speed then falls on all contenders, and tables show the median and the
quartiles over rounds. Leave the machine alone meanwhile.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "reproduce"))

import numpy as np
from tqdm.auto import tqdm

from plumbing import records


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


def row(what, unit, values, **facts):
    """One row of a table: median and quartiles."""
    low, middle, high = (round(float(v), 4) for v in np.percentile(values, [25, 50, 75]))
    return {"what": what, "unit": unit, "median": middle, "quartiles": [low, high]} | facts


def ratio_row(what, times, numerator, denominator):
    """A row of the ratios of two jobs, round by round."""
    return row(what, "ratio", np.divide(times[numerator], times[denominator]))


def report(rows, output, **facts):
    """Print a table, and leave it as JSON with versions and device."""
    for line in rows:
        low, high = line["quartiles"]
        numbers = f"{line['median']:8.3f} {line['unit']} ({low:.3f} to {high:.3f})"
        print(f"{line['what']:64s} {numbers}")
    content = {"device": records.device_name(), "versions": records.versions()}
    Path(output).write_text(records.to_json(content | facts | {"rows": rows}) + "\n")


def growth(what, times):
    """Two rows: slope of a duration's logarithm with a size's, over all sizes and the upper half.

    Args:
        what: the row's name.
        times: dictionary from sizes to the durations of every round.
    """
    sizes = sorted(times)
    for part, chosen in (("", sizes), (", upper half", sizes[len(sizes) // 2 :])):
        if len(chosen) > 1:
            logs = np.log([times[size] for size in chosen])
            yield row(f"{what}{part}", "slope", np.polyfit(np.log(chosen), logs, 1)[0])
