"""From records to numbers: curves, summaries and the comparison of two models."""

import dataclasses

import numpy as np

from experiments.mnist.network import Settings
from running.records import Record

WINDOW = 100  # steps that a "final" or smoothed value is the mean of
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
    lines = {"start": [], "epoch": [], "outcome": []}
    for line in record.lines():
        lines.setdefault(line["kind"], []).append(line)
    if not lines["start"] or not lines["outcome"]:
        raise ValueError(
            f"{record.path} holds no finished run; run its command again to resume it."
        )
    curves = {
        metric: np.array(
            [np.nan if v is None else v for line in lines["epoch"] for v in line[metric]], "float64"
        )
        for metric in METRICS
    }
    start = lines["start"][0]
    return Result(
        settings(**start["settings"]), start, lines["epoch"], lines["outcome"][-1], curves
    )


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


def verdict(summary, original_steps):
    """The verdict by `criteria.MNIST_CNN["acceleration"]`: reproduced, partly or not reproduced."""
    steps = summary["steps_to_originals_objective"]["values"]
    if any(value is None or value >= original_steps for value in steps):
        return "not reproduced"
    return "reproduced" if all(10 * value <= original_steps for value in steps) else "partly"


ROWS = (
    ("Objective, last 100 steps", "objective", "{:.4g}"),
    ("Cross-entropy, last 100 steps", "cross_entropy", "{:.2g}"),
    ("L2 term, last 100 steps", "l2", "{:.4g}"),
    ("Test error (%)", "test_error_percent", "{:.2f}"),
    ("Steps to the original's final objective", "steps_to_originals_objective", "{:.0f}"),
    ("Steps to the original's final cross-entropy", "steps_to_originals_cross_entropy", "{:.0f}"),
    ("Milliseconds per step", "milliseconds_per_step", "{:.0f}"),
)


def table(summaries):
    """Markdown table of summaries, one column each: mean ± standard deviation over seeds."""
    names = [_column(summary) for summary in summaries]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    counts = [f"{summary['parameters']:,}" for summary in summaries]
    lines.append("| Parameters | " + " | ".join(counts) + " |")
    rates = [f"{summary['learning_rate']:g}" for summary in summaries]
    lines.append("| Learning rate | " + " | ".join(rates) + " |")
    for label, key, form in ROWS:
        cells = [_cell(summary.get(key), form) for summary in summaries]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _column(summary):
    if summary["model"] == "original":
        return "original" + (", no L2" if summary["regularize"] == "none" else "")
    where = {"product": "L2 on product", "factors": "L2 on factors", "none": "no L2"}
    return f"{summary['model']}, {where[summary['regularize']]}"


def _cell(value, form):
    if value is None:
        return ""
    if value["mean"] is None:
        known = ", ".join("never" if v is None else form.format(v) for v in value["values"])
        return f"{known} (by seed)"
    text = form.format(value["mean"])
    if value["standard_deviation"] is not None:
        text += " ± " + form.format(value["standard_deviation"])
    return text
