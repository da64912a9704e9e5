"""Keras's applications overparameterized and collapsed: seconds, outputs, and time of inference.

    python benchmarks/conversion.py

Random weights, with statistics and offsets as after a training so that every layer matters. The
collapsed model's inference is timed in turns with the original's. Takes about two minutes on two
CPU cores.
"""

import argparse
import functools
import time

import keras
import numpy as np
from turns import ROOT, ratio_row, report, row, take_turns

from keras_overparam import collapse, overparameterize
from running.options import positive


def lively(model):
    """The model with statistics and offsets that are not those of a start."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(0.1 * rng.normal(size=weight.shape))
        elif weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    return model


def timed(function, *arguments):
    """Result and seconds of a call."""
    start = time.perf_counter()
    return function(*arguments), time.perf_counter() - start


def difference(found, expected):
    """Largest difference over the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def seconds_per_call(model, images, calls):
    """Mean duration of a prediction of one batch."""
    return timed(lambda: [model.predict_on_batch(images) for _ in range(calls)])[1] / calls


def converted(name, options):
    """Rows of one model, and what was found about it."""
    keras.utils.set_random_seed(0)
    shape = (options.size, options.size, 3)
    make = getattr(keras.applications, name)
    model = lively(make(weights=None, input_shape=shape, classifier_activation=None))
    images = np.random.default_rng(1).normal(size=(options.batch, *shape)).astype("float32")
    deep, there = timed(overparameterize, model, options.depth)
    flat, back = timed(collapse, deep)
    expected = model.predict_on_batch(images)
    found = {
        "model": name,
        "parameters": [each.count_params() for each in (model, deep, flat)],
        "difference_overparameterized": difference(deep.predict_on_batch(images), expected),
        "difference_collapsed": difference(flat.predict_on_batch(images), expected),
    }
    contenders = {
        f"{name}, original": functools.partial(seconds_per_call, model, images, options.steps),
        f"{name}, collapsed": functools.partial(seconds_per_call, flat, images, options.steps),
    }
    times = take_turns(contenders, options.rounds)
    original, collapsed = times
    rows = [
        row(f"{name}, overparameterize", "s", [there]),
        row(f"{name}, collapse", "s", [back]),
        *(row(what, "ms per batch", values) for what, values in times.items()),
        ratio_row(f"{name}, inference, collapsed / original", times, collapsed, original),
    ]
    return rows, found


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["MobileNetV2", "ResNet50"])
    parser.add_argument("--size", type=positive(int), default=224, help="of the images")
    parser.add_argument("--batch", type=positive(int), default=8)
    parser.add_argument("--depth", type=positive(int), default=2)
    parser.add_argument("--rounds", type=positive(int), default=31)
    parser.add_argument("--steps", type=positive(int), default=3, help="batches per turn")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_conversion.json")
    options = parser.parse_args(arguments)
    rows, models = zip(*(converted(name, options) for name in options.models), strict=True)
    report(
        [line for lines in rows for line in lines],
        options.output,
        depth=options.depth,
        size=options.size,
        batch=options.batch,
        rounds=options.rounds,
        steps_per_turn=options.steps,
        models=models,
    )


if __name__ == "__main__":
    main()
