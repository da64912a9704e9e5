"""Probe a problem, and run it in full at every depth."""

import dataclasses
import re

import keras
import numpy as np
from tqdm.auto import tqdm

from experiments.probe.problems import POWERS, SHARE
from keras_overparam import probe
from keras_overparam.probing import STARTS, Tuned
from keras_overparam.sweep.problems import CROSS_ENTROPY
from running import machine, records, runs

DEPTHS = (2, 3)
LOSSES = {"cross-entropy": CROSS_ENTROPY, **POWERS}
DIRECTIONS = 3  # of the full run's start
FULL_SEED = 1000  # of the first


def full_run(kind, features, targets, horizon, progress):
    """Speed-ups of the depths over depth 1 by direction of the start, at full length."""
    speed_ups = {depth: [] for depth in DEPTHS}
    tuned = []
    for seed in range(FULL_SEED, FULL_SEED + DIRECTIONS):
        tuned.append(Tuned(kind, features, targets, STARTS, horizon, np.random.default_rng(seed)))
        for depth in (1, *DEPTHS):
            tuned[-1].tune(depth)
            progress(1 / (DIRECTIONS * (1 + len(DEPTHS))))
        for depth in DEPTHS:
            speed_ups[depth].append(tuned[-1].speed_up(depth))
    return {
        "speed_ups": speed_ups,
        "lowest": {n: [float(one.curves[n][-1].min()) for one in tuned] for n in (1, *DEPTHS)},
        "rates": {n: [one.rates[n] for one in tuned] for n in (1, *DEPTHS)},
        "starts": {n: [one.norms[n] for one in tuned] for n in (1, *DEPTHS)},
        "inside": all(one.inside for one in tuned),
    }


def run(problem, options, output):
    """Probe one problem and run it in full, unless that is on record; the record."""
    horizon = options.horizon or problem.horizon
    slug = re.sub(r"[^a-z0-9]+", "-", problem.name.lower())
    # Which rate and start are best can hang on a rounding error: at high rates descent is chaotic.
    name = f"{slug}{records.elsewhere(keras.backend.backend())}-{horizon}"
    data = []  # read when there is something to do

    def start():
        data.extend(problem.load(options.data_dir, options.archives))
        return {
            "settings": {
                "problem": problem.name,
                "horizon": horizon,
                "iterations": horizon // SHARE,
            },
            "data": {"shape": list(data[0].shape)},
            "versions": records.versions(),
            "device": machine.device_name(),
        }

    def work(record):
        bar_format = "{desc}: {percentage:3.0f}% {elapsed}"
        with tqdm(total=2.0, desc=problem.name, bar_format=bar_format) as bar:
            return measure(problem, *data, horizon, bar.update)

    return runs.run(output / name, start, work, again=options.again)


def measure(problem, features, targets, horizon, progress):
    """The probe's advice, and the full run."""
    kind = LOSSES[problem.loss]
    advice = probe(
        kind,
        (features, targets),
        depths=DEPTHS,
        iterations=horizon // SHARE,
        horizon=horizon,
        progress=progress,
    )
    words = dataclasses.asdict(advice) | {"reasons": advice.reasons._asdict()}
    return {"advice": words, "full": full_run(kind, features, targets, horizon, progress)}
