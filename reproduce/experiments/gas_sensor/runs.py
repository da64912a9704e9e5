"""Runs that train one model of linear regression at a whole grid of learning rates and seeds."""

import dataclasses
import functools
import sys

import keras
import numpy as np
from tqdm.auto import tqdm

from experiments.gas_sensor.settings import PER_DECADE
from experiments.starts import STARTS
from keras_overparam import identity_factors, sweep_linear_networks
from keras_overparam.factorization import hidden_widths
from keras_overparam.sweep.checkpoint import CheckpointError
from running import machine, records, runs
from running.strategies import Distribution

MORE_RATES = 8  # whenever the best rate is at the edge
EXTENSIONS = 8  # at most, after which the edge is reported
OPTIMIZERS = {
    "gd": keras.optimizers.SGD,
    "adagrad": keras.optimizers.Adagrad,  # TensorFlow 1's constants, but for an epsilon of 1e-7
    "adadelta": keras.optimizers.Adadelta,
    "adadelta_tf1": lambda: keras.optimizers.Adadelta(epsilon=1e-8),
    "adam": keras.optimizers.Adam,
}


def starting_factors(settings, inputs):
    """Factors for each seed along a leading axis, float64."""
    shape, depth, width = (inputs, 1), settings.depth, settings.width
    if settings.start in STARTS:
        return STARTS[settings.start](shape, depth, width, settings.scale, settings.seeds)
    if settings.start == "identity":
        (kernels,) = STARTS["balanced"](shape, 1, width, settings.scale, settings.seeds)
        return identity_factors(kernels, depth, width)
    sizes = hidden_widths(*shape, depth, width)
    norm = settings.scale**depth * np.sqrt(np.prod(np.array(sizes, float)))
    return STARTS["independent"](shape, depth, width, norm, settings.seeds)


def run(settings, data, folder, again=False, distribution=None):
    """Run `settings` in `folder`, unless its finished run is on record; the `Record`.

    The first grid of learning rates is extended while the best of them is at its edge. Every part
    of the grid is one line of the record; within a part, a checkpoint is kept. With several workers
    each has no more than the checkpoint of its share.
    """
    distribution = distribution or Distribution()
    distribution.check_same_run(settings, data)

    def resume(record):
        begun = bool(record.lines())
        if begun:
            record.append("resume", **_circumstances(distribution))
        return begun

    def work(record):
        while more := _agreed(_next_part(settings, record), distribution):
            part, checkpoint = train_part(settings, data, record.path.parent, more, distribution)
            if distribution.is_chief:
                record.append("rates", **part)
            checkpoint.unlink(missing_ok=True)
        if not distribution.is_chief:
            return None  # the record is the chief's
        return {"status": "finished", "best_is_inside": _edge(record.of_kind("rates")) == 0}

    return runs.run(
        folder,
        lambda: _description(settings, data, distribution),
        work,
        resume=resume,
        again=again,
        passing=["sweep*.npz*"],
        distribution=distribution,
    )


def _description(settings, data, distribution):
    return {
        "run": settings.run_name,
        "settings": dataclasses.asdict(settings),
        "precision": settings.precision,
        "data": records.description(data),
        **_circumstances(distribution),
    }


def _circumstances(distribution):
    """What may be otherwise when a run goes on."""
    return {
        "versions": records.versions(),
        "device": machine.device_name(),
        "distribution": distribution.describe(),
    }


def _agreed(exponents, distribution):
    """The chief's exponents, on every worker."""
    first, count = distribution.from_chief(np.array([min(exponents, default=0), len(exponents)]))
    return range(int(first), int(first + count))


def train_part(settings, data, folder, exponents, distribution):
    """Train at some learning rates, all seeds; what the record says of it, and the checkpoint."""
    rates = 10.0 ** (np.array(exponents) / PER_DECADE)
    seeds = len(settings.seeds)
    starts = starting_factors(settings, data.features.shape[1])
    factors = [np.tile(factor, (len(rates), 1, 1)) for factor in starts]
    count, workers = len(rates) * seeds, distribution.workers
    share = np.array_split(np.arange(count), workers)[distribution.worker]
    of_share = f"-{distribution.worker + 1}of{workers}" if workers > 1 else ""
    checkpoint = folder / f"sweep{min(exponents):+d}{of_share}.npz"
    with tqdm(total=settings.iterations, unit="iteration", leave=False) as bar:
        sweep = functools.partial(
            sweep_linear_networks,
            data.features,
            data.target,
            [factor[share] for factor in factors],
            OPTIMIZERS[settings.optimizer](),
            np.repeat(rates, seeds)[share],
            settings.recorded_iterations.tolist(),
            power=settings.power,
            dtype=settings.precision,
            checkpoint=checkpoint,
            progress=bar.update,
            devices=distribution.devices,
        )
        try:
            result = sweep()
        except CheckpointError as error:
            bar.write(f"{error} It is removed, and its part done again.", file=sys.stderr)
            checkpoint.unlink()
            result = sweep()
    losses, steps = (
        _joined(array, share, count, distribution) for array in (result.losses.T, result.steps)
    )
    shape = (len(rates), seeds)
    losses = losses.reshape(*shape, -1)
    part = {
        "exponents": list(exponents),
        "iterations": result.iterations.tolist(),
        "steps": steps.reshape(shape).tolist(),
        "losses": [[records.rounded(one.tolist(), 5) for one in row] for row in losses],
    }
    return part, checkpoint


def _joined(part, share, count, distribution):
    """An array of all configurations from the workers' shares of it."""
    whole = np.zeros((count, *part.shape[1:]), part.dtype)
    whole[share] = part
    return distribution.total(whole)


def _next_part(settings, record):
    """Exponents of the rates to train at next, none if the best is inside of those done."""
    parts = record.of_kind("rates")
    if record.outcome() is not None:
        return []
    if not parts:
        return settings.first_rates()
    side = _edge(parts)
    if side == 0 or len(parts) > EXTENSIONS:
        return []
    done = [exponent for part in parts for exponent in part["exponents"]]
    low, high = min(done) - MORE_RATES, max(done) + 1
    return list(range(low, low + MORE_RATES) if side < 0 else range(high, high + MORE_RATES))


def usable_median(final_losses):
    """Median of final losses; infinite if a seed diverged (infinite or None): no usable rate."""
    final = np.array(final_losses, "float64")
    return float(np.median(final)) if np.isfinite(final).all() else np.inf


def _edge(parts):
    """Whether the best rate is the lowest (−1) or the highest (+1) of the grid, or inside (0)."""
    medians = {}
    for part in parts:
        for exponent, row in zip(part["exponents"], part["losses"], strict=True):
            medians[exponent] = usable_median([losses[-1] for losses in row])
    # Where nothing moves all rates are alike: the highest counts, so that higher ones are tried.
    best = min(medians, key=lambda exponent: (medians[exponent], -exponent))
    if not np.isfinite(medians[best]) or best == min(medians):
        return -1
    return int(best == max(medians))
