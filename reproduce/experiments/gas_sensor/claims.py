"""What the paper claims of linear regression, as rows of the ledger, and tables of the models."""

import dataclasses

import numpy as np

from criteria import GAS_SENSOR
from experiments.gas_sensor.models import MAP_ITERATIONS, POWERS, SCALES, WIDTHS, label, models
from experiments.gas_sensor.results import speed_up, speed_up_to_target
from experiments.gas_sensor.settings import Settings
from presenting.tables import markdown_table, median_and_range

BASE = Settings()


def rows(sweeps, scalar_cost):
    """Rows of the ledger.

    Args:
        sweeps: dictionary from `Settings` to `Result`.
        scalar_cost: row of the benchmark, time per iteration of depth 2 over depth 1.
    """
    return [
        acceleration(sweeps),
        beats(sweeps, "AdaGrad", ("adagrad",)),
        beats(sweeps, "AdaDelta", ("adadelta", "adadelta_tf1")),
        not_at_l2(sweeps),
        powers(sweeps),
        one_scalar(sweeps, scalar_cost),
        width(sweeps),
        adam(sweeps),
        deep(sweeps),
    ]


def acceleration(sweeps):
    """Depths 2 and 3 at l4, from the common start and from each model's best start."""
    common = {d: _ratios(sweeps, _at(depth=d), _at(depth=1)) for d in (2, 3)}
    best = {d: min((_at(depth=d, scale=s) for s in SCALES), key=_loss(sweeps)) for d in (1, 2, 3)}
    own = {d: _ratios(sweeps, best[d], best[1]) for d in (2, 3)}
    norms = ", ".join(f"{best[d].scale:g}" for d in best)
    measured = (
        f"speed-up at depth 2 and 3: {_both(common)} from the common start, {_both(own)} at best "
        f"starts (norms {norms} at depths 1, 2, 3)"
    )
    claim = "depth accelerates gradient descent on the l4 regression"
    return GAS_SENSOR["l4"].row(claim, measured, [common.values(), own.values()])


def beats(sweeps, name, variants):
    """Depth 2 against an adaptive optimizer at depth 1."""
    ratios = {
        variant: _ratios(sweeps, _at(depth=2), _at(optimizer=variant)) for variant in variants
    }
    measured = "gradient descent at depth 2 over it: " + "; ".join(
        f"{median_and_range(r)}{' (TensorFlow 1 constants)' if v.endswith('tf1') else ''}"
        for v, r in ratios.items()
    )
    base = sweeps[_at(depth=1)]
    ours = speed_up_to_target(sweeps[_at(depth=2)], base)
    fastest = [ours / speed_up_to_target(sweeps[_at(optimizer=v)], base) for v in variants]
    measured += "; to depth 1's final loss, each at the rate fastest there: " + ", ".join(
        f"{ratio:.2f}" for ratio in fastest
    )
    claim = f"one extra scalar accelerates more than {name}"
    return GAS_SENSOR["other_optimizers"].row(claim, measured, ratios.values())


def not_at_l2(sweeps):
    """No acceleration with l2 loss."""
    ratios = {d: _ratios(sweeps, _at(power=2, depth=d), _at(power=2, depth=1)) for d in (2, 3)}
    largest = max(np.median(r) for r in ratios.values())
    measured = f"speed-up at depth 2 and 3: {_both(ratios)}"
    return GAS_SENSOR["l2"].row("depth does not accelerate at l2", measured, largest)


def powers(sweeps):
    """The largest speed-up over depths 2 to 8, for each power."""
    found = {}
    for power in POWERS:
        base = _at(power=power, iterations=MAP_ITERATIONS)
        medians = {
            d: np.median(_ratios(sweeps, dataclasses.replace(base, depth=d), base))
            for d in range(2, 9)
        }
        best = max(medians, key=medians.get)
        found[power] = medians[best], best
    measured = "largest over depths 2 to 8: " + ", ".join(
        f"{ratio:.2f} at p = {power:g} (depth {depth})" for power, (ratio, depth) in found.items()
    )
    above = [found[power][0] for power in POWERS if power > 2]
    claim = "p > 2 can be accelerated, p = 2 cannot"
    return GAS_SENSOR["powers"].row(claim, measured, found[2][0], above)


def one_scalar(sweeps, cost):
    """One extra parameter: its speed-up in iterations, and the time it costs."""
    ratio = _ratios(sweeps, _at(depth=2), _at(depth=1))
    low, high = cost["quartiles"]
    measured = (
        f"speed-up {median_and_range(ratio)} in iterations; an iteration costs "
        f"{cost['median']:.3f} times as much time (quartiles {low:.3f}–{high:.3f})"
    )
    claim = "one extra scalar suffices, at hardly any cost"
    return GAS_SENSOR["one_scalar"].row(claim, measured, np.median(ratio), cost["median"])


def width(sweeps):
    """Speed-ups by hidden width from independent weights."""
    texts, factors = [], []
    for depth in (2, 3):
        medians = [
            np.median(_ratios(sweeps, _at(depth=depth, start="independent", width=w), _at(depth=1)))
            for w in WIDTHS
        ]
        factors.append(max(medians) / min(medians))
        by_width = ", ".join(f"{m:.2f}" for m in medians)
        texts.append(f"{by_width} at depth {depth}")
    return GAS_SENSOR["width"].row(
        "the hidden width is irrelevant for the acceleration",
        f"speed-up at widths {', '.join(map(str, WIDTHS))}: {'; '.join(texts)}",
        max(factors),
        why="Independent weights are unbalanced, the more so the narrower the layer; from balanced "
        "starts the width is irrelevant to rounding (below).",
    )


def adam(sweeps):
    """Adam on deeper networks."""
    ratios = {
        d: _ratios(sweeps, _at(optimizer="adam", depth=d), _at(optimizer="adam", depth=1))
        for d in (2, 3)
    }
    measured = f"speed-up of Adam at depth 2 and 3: {_both(ratios)}"
    return GAS_SENSOR["adam"].row("Adam still gains from depth", measured, ratios.values())


def deep(sweeps):
    """Iterations to a tenth below the zero kernel's loss, from near zero and near the identity."""
    medians, texts = {}, []
    at_zero = min(float(np.median(sweeps[s].curves[:, 0])) for s in models("deep", BASE))
    goal = (1 - GAS_SENSOR["deep"].bounds.fall) * at_zero
    for settings in models("deep", BASE):
        result = sweeps[settings]
        median = float(np.median(result.iterations_to(goal)))
        medians[settings.depth, settings.start] = median
        start = settings.start.replace("_", " ")
        count = f"{median:,.0f}" if np.isfinite(median) else f"over {settings.iterations:,}"
        texts.append(f"{count} (depth {settings.depth}, {start})")
    pairs = [(medians[d, "near_zero"], medians[d, "identity"]) for d in (4, 8)]
    return GAS_SENSOR["deep"].row(
        "near-identity starts rescue great depth",
        "iterations to a tenth below the zero kernel's loss: " + ", ".join(texts),
        pairs,
        why="Depth 4 leaves the plateau a little before the 10,000 iterations asked for.",
    )


def model_table(sweeps, experiment):
    """Markdown table of an experiment's models: best rate, final loss, speed-up over depth 1."""
    head = "Model|Start (norm)|Best rate|Final loss, median (range)|Speed-up over depth 1"
    rows = [_model_row(sweeps, settings, experiment) for settings in models(experiment, BASE)]
    return markdown_table([*head.split("|"), "At the rate that is fastest there"], rows)


def _model_row(sweeps, settings, experiment):
    result = sweeps[settings]
    base = dataclasses.replace(settings, depth=1, optimizer="gd", width=1, start="balanced")
    if settings.optimizer == "adam":
        base = dataclasses.replace(base, optimizer="adam")
    ratio = fastest = ""
    if settings != base:
        ratio = median_and_range(speed_up(result, sweeps[base]))
        fastest = f"{speed_up_to_target(result, sweeps[base]):.2f}"
    width = f", width {settings.width}" if experiment == "width" and settings.depth > 1 else ""
    return [
        f"ℓ{settings.power:g}, {label(settings)}{width}",
        f"{settings.scale:g}",
        f"{result.rates[result.best]:.2g}",
        median_and_range(result.curves[:, -1], ".4g"),
        ratio,
        fastest,
    ]


def _at(**changes):
    return dataclasses.replace(BASE, **changes)


def _ratios(sweeps, settings, base):
    return speed_up(sweeps[settings], sweeps[base])


def _loss(sweeps):
    def final_loss(settings):
        result = sweeps[settings]
        return result.final[result.best]

    return final_loss


def _both(ratios):
    return " and ".join(median_and_range(r) for r in ratios.values())
