"""From records to numbers: curves, summaries and the comparison of two models."""

import dataclasses

import numpy as np

from criteria import WINDOW
from experiments.mnist.settings import Settings
from running.records import Record

METRICS = ("objective", "cross_entropy", "l2")


@dataclasses.dataclass(frozen=True)
class Result:
    """One recorded run: its settings and the metrics of every step."""

    settings: object
    start: dict
    epochs: list
    outcome: dict
    curves: dict

    @property
    def parameters(self):
        """Number of trainable parameters."""
        return self.start["parameters"]

    def smoothed(self, metric):
        """Mean of the last `WINDOW` steps at every step (of all so far, before there are so many).

        Steps whose value was not finite are NaN, and so is everything after them.
        """
        total = np.cumsum(self.curves[metric])
        lagged = np.concatenate([np.zeros(min(WINDOW, len(total))), total[:-WINDOW]])
        return (total - lagged) / np.minimum(np.arange(1, len(total) + 1), WINDOW)

    def final(self, metric):
        """Mean of a metric over the last `WINDOW` steps."""
        return float(self.smoothed(metric)[-1])

    def milliseconds_per_step(self):
        """Median over epochs of the median duration of a step."""
        return float(np.median([line["milliseconds_per_step"] for line in self.epochs]))

    def steps_to(self, metric, target):
        """Steps after which the smoothed metric is at or below `target`, None if never."""
        window = min(WINDOW, len(self.curves[metric]))
        reached = np.flatnonzero(self.smoothed(metric)[window - 1 :] <= target)
        return int(reached[0]) + window if len(reached) else None


def load(folder_or_file, settings=Settings):
    """Read a run's record.

    Args:
        folder_or_file: the run's folder, or its record alone.
        settings: class of the run's settings.

    Raises:
        ValueError: if the run is not over or its record is damaged.
    """
    record = Record.at(folder_or_file)
    start, outcome = record.finished()
    epochs = record.of_kind("epoch")
    curves = {
        metric: np.array(
            [np.nan if v is None else v for line in epochs for v in line[metric]], "float64"
        )
        for metric in METRICS
    }
    return Result(settings(**start["settings"]), start, epochs, outcome, curves)


def mean_and_spread(values):
    """Mean and sample standard deviation over seeds; None where a value is missing."""
    if any(value is None for value in values):
        return {"values": list(values), "mean": None, "standard_deviation": None}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "values": list(values),
        "mean": float(np.mean(values)),
        "standard_deviation": deviation,
    }


def summarize(results, originals=None):
    """Summary of one model's runs, seed by seed beside the original's runs where given."""
    summary = {
        "model": results[0].settings.model_name,
        "regularize": results[0].settings.regularize,
        "learning_rate": results[0].settings.learning_rate,
        "seeds": [result.settings.seed for result in results],
        "epochs": results[0].settings.epochs,
        "steps": len(results[0].curves["objective"]),
        "parameters": results[0].parameters,
        "status": [result.outcome["status"] for result in results],
        "test_error_percent": mean_and_spread([r.outcome["test_error_percent"] for r in results]),
        "milliseconds_per_step": mean_and_spread([r.milliseconds_per_step() for r in results]),
    }
    for metric in METRICS:
        summary[metric] = mean_and_spread([result.final(metric) for result in results])
    for metric in METRICS if originals else ():
        summary[f"steps_to_originals_{metric}"] = mean_and_spread(
            [
                result.steps_to(metric, original.final(metric))
                for result, original in zip(results, originals, strict=True)
            ]
        )
    return summary


def compare(originals, overparameterized):
    """Summaries of both models, paired by seed."""
    return [summarize(originals, originals), summarize(overparameterized, originals)]


def best_rate(objectives):
    """The learning rate of the lowest final objective, of several the lowest rate.

    NaN stands for a run that diverged.
    """
    return min(objectives, key=lambda rate: (np.nan_to_num(objectives[rate], nan=np.inf), rate))


def rate_grid(group):
    """Final objectives by learning rate, ascending, of a network's runs at its first seed."""
    seed = group[0].settings.seed
    found = {
        result.settings.learning_rate: result.final("objective")
        for result in group
        if result.settings.seed == seed
    }
    return dict(sorted(found.items()))


def at_best_rate(group):
    """Those of a network's runs that have its best learning rate."""
    best = best_rate(rate_grid(group))
    return [result for result in group if result.settings.learning_rate == best]


def summarize_tuned(groups):
    """Summaries of networks at their best learning rates, beside the first network's runs."""
    best = [at_best_rate(group) for group in groups]
    return [summarize(group, best[0]) for group in best]
