"""From the records of linear networks and the end-to-end rule to results and their summaries."""

import dataclasses
from pathlib import Path

import numpy as np

from experiments.end_to_end_rule.settings import DEFAULTS, Settings
from keras_overparam.sweep import iterations_to
from running.records import Record

CURVES = ("loss", "rule_loss", "difference")
NAMES = {"l2": "{data}, ℓ2 loss", "l4": "{data}, ℓ4 loss", "matrix": "random matrix, ℓ2 loss"}
DATA = {"gas_sensor": "Ethanol", "diabetes": "diabetes", "random": "random"}


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """One recorded run: its settings, and curves over width, seed and recorded iteration."""

    path: Path
    settings: Settings
    start: dict
    outcome: dict
    iterations: np.ndarray
    curves: dict

    @property
    def name(self):
        """Problem and data in words."""
        return NAMES[self.settings.problem].format(data=DATA[self.settings.dataset])

    def halved_at(self, curve):
        """Iterations at which losses are half of the first, by width and seed; infinite for never.

        Between recorded iterations the loss is interpolated, see `iterations_to`.
        """
        losses = self.curves[curve]
        flat = losses.reshape(-1, losses.shape[-1]).T
        return iterations_to(self.iterations, flat, flat[0] / 2).reshape(losses.shape[:-1])

    def largest_difference(self):
        """Largest relative difference of the kernels over all iterations, by width and seed."""
        return np.array(self.outcome["largest_difference"], "float64")


def load(folder_or_file):
    """Read a run's record.

    Raises:
        ValueError: if the run is not over or its record is damaged.
    """
    record = Record.at(folder_or_file)
    start, outcome = record.finished()
    curves = {name: np.array(outcome[name], "float64") for name in CURVES}
    settings = Settings(**start["settings"])
    return Result(record.path, settings, start, outcome, np.array(outcome["iterations"]), curves)


def load_all(folder):
    """The results of all gzipped records in a folder, in the order of an experiment."""

    def order(result):
        settings = result.settings
        return list(DEFAULTS).index(settings.problem), settings.depth

    return sorted((load(path) for path in sorted(Path(folder).glob("*.jsonl.gz"))), key=order)


def notice(results):
    """The warning that goes with the results, if they are not of the paper's data."""
    return next((r.start["data"]["notice"] for r in results if r.start["data"]["notice"]), None)


def summarize(results):
    """Summaries of the runs of an experiment, one for each problem and depth.

    Args:
        results: list of `Result`, as of `settings.settings_of`.

    Returns:
        List of dictionaries that JSON can hold.
    """
    found = {}
    for result in results:
        found.setdefault((result.settings.problem, result.settings.depth), []).append(result)
    return [_summarize(group) for group in found.values()]


def _summarize(group):
    runs = {(r.settings.start, r.settings.halvings): r for r in group}
    base = runs["balanced", 0]
    settings = base.settings
    found = {
        "problem": base.name,
        "depth": settings.depth,
        "learning_rate": settings.learning_rate,
        "iterations": settings.iterations,
        "start_norm": settings.start_norm,
        "seeds": list(settings.seeds),
        "widths": list(settings.widths),
        "status": [run.outcome["status"] for run in group],
        "balanced": {
            "largest_difference": _largest(base.largest_difference()),
            "loss_halved_at": _spread(base.halved_at("rule_loss")[0]),
            "final_loss": _spread(base.curves["rule_loss"][0, :, -1]),
        },
    }
    if ("balanced", 1) in runs:
        halved = runs["balanced", 1].largest_difference()
        widths = np.array(base.outcome["width_difference"], "float64")
        found["balanced"]["largest_difference_at_half_rate"] = _largest(halved)
        found["balanced"]["largest_width_difference"] = _largest(widths)
    if ("independent", 0) in runs:
        found["independent"] = _by_width(runs["independent", 0])
    return found


def _by_width(result):
    """Summaries of the networks from independent starts, beside the rule from their products."""
    network, rule = result.halved_at("loss"), result.halved_at("rule_loss")
    imbalance = {when: np.array(v, "float64") for when, v in result.outcome["imbalance"].items()}
    return [
        {
            "width": width,
            "loss_halved_at": _spread(network[index]),
            "rule_loss_halved_at": _spread(rule[index]),
            "network_over_rule": _spread(ratio(network[index], rule[index])),
            "largest_difference": _spread(result.largest_difference()[index]),
            "final_difference": _spread(result.curves["difference"][index, :, -1]),
            "imbalance_at_start": _spread(imbalance["start"][index]),
            "imbalance_at_end": _spread(imbalance["end"][index]),
        }
        for index, width in enumerate(result.settings.widths)
    ]


def _largest(values):
    return float(np.max(values))


def ratio(values, others):
    """Ratio of iterations; infinite unless both are finite."""
    finite = np.isfinite(values) & np.isfinite(others)
    return np.divide(values, others, out=np.full(finite.shape, np.inf), where=finite)


def _spread(values):
    """Median and range over seeds; NaN, of a run that diverged, counts as infinite."""
    values = np.nan_to_num(values, nan=np.inf, posinf=np.inf)
    return {
        "values": [float(value) for value in values],
        "median": float(np.median(values)),
        "range": [float(values.min()), float(values.max())],
    }
