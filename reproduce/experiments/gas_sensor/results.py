"""From the records of sweeps to each model's tuned result, and the speed-up of one over another."""

import dataclasses
from pathlib import Path

import numpy as np

from experiments.gas_sensor.runs import usable_median
from experiments.gas_sensor.settings import PER_DECADE, Settings
from keras_overparam.sweep import iterations_to
from running.records import Record


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """One model's recorded run over rates and seeds.

    Attributes:
        settings: the run's `Settings`.
        start: the record's first line.
        rates: `(R,)`, ascending.
        iterations: `(T,)`.
        losses: `(R, S, T)`; infinite from a divergence on.
        inside: whether the rate of the best final loss is inside the grid.
    """

    path: Path
    settings: Settings
    start: dict
    rates: np.ndarray
    iterations: np.ndarray
    losses: np.ndarray
    inside: bool

    @property
    def final(self):
        """Final loss by rate, median over seeds; infinite where a seed diverged."""
        return np.array([usable_median(losses) for losses in self.losses[..., -1]])

    @property
    def best(self):
        """Index of the best rate by the final loss, the highest of equals."""
        return int(np.flatnonzero(self.final == self.final.min())[-1])

    @property
    def curves(self):
        """Losses `(S, T)` at the best rate."""
        return self.losses[self.best]

    def iterations_to(self, targets, index=None):
        """Iterations to a loss at a rate (the best), by seed; infinite for never.

        Args:
            targets: a number, or one for each seed.
            index: of the rate.
        """
        losses = self.losses[self.best if index is None else index]
        return iterations_to(self.iterations, losses.T, np.asarray(targets))

    def fastest_to(self, target):
        """Least median iterations to a loss over all rates, and the index of that rate."""
        medians = [
            float(np.median(self.iterations_to(target, index))) if np.isfinite(final) else np.inf
            for index, final in enumerate(self.final)
        ]
        best = int(np.argmin(medians))
        return medians[best], best


def load(folder_or_file):
    """Read a run's record.

    Raises:
        ValueError: if the run is not over or its record is damaged.
    """
    record = Record.at(folder_or_file)
    (start, outcome), parts = record.finished(), record.of_kind("rates")
    exponents = np.concatenate([part["exponents"] for part in parts])
    losses = np.concatenate([np.array(part["losses"], "float64") for part in parts])
    order = np.argsort(exponents)
    return Result(
        record.path,
        Settings(**start["settings"]),
        start,
        10.0 ** (exponents[order] / PER_DECADE),
        np.array(parts[0]["iterations"]),
        np.where(np.isnan(losses), np.inf, losses)[order],
        outcome["best_is_inside"],
    )


def speed_up(result, base):
    """How many times as fast as another model a model is, by seed, each at its best rate.

    For T iterations: T over those after which it reaches the other's final loss; if it never does,
    those after which the other reaches its final loss, over T. Zero if it diverged.

    Args:
        result: a `Result`.
        base: the `Result` to compare with, of the same seeds and iterations.

    Returns:
        Array, one number for each seed.
    """
    last = float(base.iterations[-1])
    forward = result.iterations_to(base.curves[:, -1])
    final = result.curves[:, -1]
    backward = base.iterations_to(np.where(np.isfinite(final), final, -1.0))
    slower = np.where(np.isfinite(backward), backward / last, 0.0)
    return np.where(np.isfinite(forward), last / np.maximum(forward, 1), slower)


def speed_up_to_target(result, base):
    """Ratio of iterations to the base's median final loss, each model at the rate best for that.

    A model that reaches it at no rate has 0.
    """
    target = base.final[base.best]
    ours, theirs = result.fastest_to(target)[0], base.fastest_to(target)[0]
    return theirs / ours if np.isfinite(ours) else 0.0


def summarize(result):
    """What the summary says of a run."""
    settings, final = result.settings, result.curves[:, -1]
    return {
        **dataclasses.asdict(settings),
        "learning_rate": result.rates[result.best],
        "rates": [result.rates[0], result.rates[-1], len(result.rates)],
        "best_is_inside": result.inside,
        "final_loss": spread(final),
    }


def spread(values):
    """Median and range of numbers, and the numbers."""
    values = np.asarray(values, "float64")
    return {
        "median": float(np.median(values)),
        "range": [float(values.min()), float(values.max())],
        "values": values.tolist(),
    }
