"""The experiments on linear regression: which models each of them trains."""

import dataclasses

from experiments.gas_sensor.settings import Settings

DEEP_ITERATIONS = 50_000  # where networks may stall for tens of thousands
MAP_ITERATIONS = 10_000
POWERS = (2, 3, 4, 6, 8)
DEPTHS = tuple(range(1, 9))
SCALES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0)
WIDTHS = (1, 10, 100)
NEAR_ZERO = 0.1  # standard deviation of every weight
OTHERS = ("adagrad", "adadelta", "adadelta_tf1")
WHAT = {
    "l4": "gradient descent at depths 1 to 3, AdaGrad and AdaDelta; l4 loss",
    "l2": "the same depths with l2 loss",
    "adam": "Adam at depths 1 to 3; l4 loss",
    "deep": "depths 4 and 8, from near zero and from near the identity",
    "map": "speed-up by depth 1 to 8, for powers 2 to 8",
    "start": "speed-up by the scale of the start",
    "width": "speed-up by hidden width, from independent weights",
}


def models(experiment, base):
    """Settings of the models that an experiment trains.

    Args:
        experiment: a key of `WHAT`.
        base: `Settings` that all of them share, at depth 1.

    Returns:
        List of distinct `Settings`.
    """

    def vary(**changes):
        return dataclasses.replace(base, **changes)

    descent = [vary(depth=depth) for depth in (1, 2, 3)]
    found = {
        "l4": lambda: descent + [vary(optimizer=name) for name in OTHERS],
        "l2": lambda: [vary(power=2, depth=depth) for depth in (1, 2, 3)] + descent,
        "adam": lambda: [vary(optimizer="adam", depth=depth) for depth in (1, 2, 3)],
        "deep": lambda: [
            vary(depth=depth, start=start, scale=scale, iterations=_longer(base))
            for depth in (4, 8)
            for start, scale in (("near_zero", NEAR_ZERO), ("identity", base.scale))
        ],
        "map": lambda: [
            vary(power=power, depth=depth, start=start, iterations=_shorter(base))
            for start in ("balanced", "identity")
            for power in POWERS
            for depth in DEPTHS
        ],
        "start": lambda: [
            vary(depth=depth, scale=scale) for scale in SCALES for depth in (1, 2, 3)
        ],
        "width": lambda: (
            [descent[0]]
            + [vary(depth=d, width=width, start="independent") for d in (2, 3) for width in WIDTHS]
        ),
    }[experiment]()
    return list(dict.fromkeys(found))


def _longer(base):
    return base.iterations * DEEP_ITERATIONS // Settings.iterations


def _shorter(base):
    return base.iterations * MAP_ITERATIONS // Settings.iterations


def label(settings):
    """A model in words."""
    names = {
        "gd": "gradient descent",
        "adagrad": "AdaGrad",
        "adadelta": "AdaDelta",
        "adadelta_tf1": "AdaDelta (TensorFlow 1's ε)",
        "adam": "Adam",
    }
    return f"{names[settings.optimizer]}, depth {settings.depth}"
