"""The claims ledger: each measurable statement, its criterion, what was measured, the verdict.

Every row is made from records. An explanation belongs to a verdict: it is left out if the records
say otherwise.
"""

import dataclasses
from types import SimpleNamespace

import numpy as np

import criteria
from criteria import VERDICTS, graded
from experiments.gas_sensor.models import MAP_ITERATIONS, POWERS, SCALES, WIDTHS, label, models
from experiments.gas_sensor.results import speed_up, speed_up_to_target, spread
from experiments.gas_sensor.runs import Settings
from presenting.tables import median_and_range

REPRODUCED, PARTLY, NOT = VERDICTS
BASE = Settings()


def rows(sources):
    """All rows of the ledger.

    Args:
        sources: namespace with `sweeps` (dictionary from `Settings` to `sweep_results.Result`),
            `consequences` (the record's outcome), `rule` and `mnist` (verdicts of these
            experiments), `parameters` (of the tutorial network, original and overparameterized)
            and `scalar_cost` (row of the benchmark, time per iteration of depth 2 over depth 1).

    Returns:
        List of dictionaries with `claim`, `criterion`, `measured`, `verdict`, `why`.
    """
    made = [
        acceleration(sources.sweeps),
        beats(sources.sweeps, "AdaGrad", ("adagrad",)),
        beats(sources.sweeps, "AdaDelta", ("adadelta", "adadelta_tf1")),
        not_at_l2(sources.sweeps),
        powers(sources.sweeps),
        one_scalar(sources.sweeps, sources.scalar_cost),
        width(sources.sweeps),
        adam(sources.sweeps),
        deep(sources.sweeps),
        memory(sources.consequences["memory"]),
        no_regularizer(sources.consequences["loops"]["integrals"]),
    ]
    made += [dict(row, why="") for row in sources.rule]
    made += [dict(row, why="") for row in sources.mnist]
    return [*made, parameters(*sources.parameters)]


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
    groups = (common, own)
    full = all(np.median(r) >= 1.5 and r.min() > 1 for group in groups for r in group.values())
    partly = any(all(np.median(r) >= 1.1 for r in group.values()) for group in groups)
    return _row(
        "l4",
        "depth accelerates gradient descent on the l4 regression",
        measured,
        full,
        partly,
        "",
    )


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
    good = [np.median(r) >= 1.1 and r.min() > 1 for r in ratios.values()]
    claim = f"one extra scalar accelerates more than {name}"
    return _row("other_optimizers", claim, measured, all(good), any(good), "")


def not_at_l2(sweeps):
    """No acceleration with l2 loss."""
    ratios = {d: _ratios(sweeps, _at(power=2, depth=d), _at(power=2, depth=1)) for d in (2, 3)}
    largest = max(np.median(r) for r in ratios.values())
    measured = f"speed-up at depth 2 and 3: {_both(ratios)}"
    return _row(
        "l2", "depth does not accelerate at l2", measured, largest <= 1.1, largest <= 1.5, ""
    )


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
    above = [found[power][0] >= 1.1 for power in POWERS if power > 2]
    none = found[2][0] < 1.1
    return _row(
        "powers",
        "p > 2 can be accelerated, p = 2 cannot",
        measured,
        none and all(above),
        none and any(above),
        "",
    )


def one_scalar(sweeps, cost):
    """One extra parameter: its speed-up in iterations, and the time it costs."""
    ratio = _ratios(sweeps, _at(depth=2), _at(depth=1))
    low, high = cost["quartiles"]
    measured = (
        f"speed-up {median_and_range(ratio)} in iterations; an iteration costs "
        f"{cost['median']:.3f} times as much time (quartiles {low:.3f}–{high:.3f})"
    )
    median = np.median(ratio)
    return _row(
        "one_scalar",
        "one extra scalar suffices, at hardly any cost",
        measured,
        median >= 1.5 and cost["median"] <= 1.05,
        median / cost["median"] > 1.1,
        "",
    )


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
    return _row(
        "width",
        "the hidden width is irrelevant for the acceleration",
        f"speed-up at widths {', '.join(map(str, WIDTHS))}: {'; '.join(texts)}",
        max(factors) <= 1.1,
        max(factors) <= 1.5,
        "Independent weights are unbalanced, the more so the narrower the layer; from balanced "
        "starts the width is irrelevant to rounding (below).",
    )


def adam(sweeps):
    """Adam on deeper networks."""
    ratios = {
        d: _ratios(sweeps, _at(optimizer="adam", depth=d), _at(optimizer="adam", depth=1))
        for d in (2, 3)
    }
    good = [np.median(r) >= 1.1 and r.min() > 1 for r in ratios.values()]
    measured = f"speed-up of Adam at depth 2 and 3: {_both(ratios)}"
    return _row("adam", "Adam still gains from depth", measured, all(good), any(good), "")


def deep(sweeps):
    """Iterations to a tenth below the zero kernel's loss, from near zero and near the identity."""
    medians, texts = {}, []
    at_zero = min(float(np.median(sweeps[s].curves[:, 0])) for s in models("deep", BASE))
    for settings in models("deep", BASE):
        result = sweeps[settings]
        median = float(np.median(result.iterations_to(0.9 * at_zero)))
        medians[settings.depth, settings.start] = median
        start = settings.start.replace("_", " ")
        count = f"{median:,.0f}" if np.isfinite(median) else f"over {settings.iterations:,}"
        texts.append(f"{count} (depth {settings.depth}, {start})")
    pairs = [(medians[d, "near_zero"], medians[d, "identity"]) for d in (4, 8)]
    return _row(
        "deep",
        "near-identity starts rescue great depth",
        "iterations to a tenth below the zero kernel's loss: " + ", ".join(texts),
        all(zero >= 10_000 and near <= 1_000 for zero, near in pairs),
        all(zero >= 10 * near for zero, near in pairs),
        "Depth 4 leaves the plateau a little before the 10,000 iterations asked for.",
    )


def memory(found):
    """The trajectory from its own past gradients."""
    error, half = np.array(found["error"]), np.array(found["error_at_half_the_rate"])
    measured = (
        f"error {_percent(np.median(error))} after {found['steps']:,} iterations, "
        f"{np.median(half / error):.3f} of that at half the rate"
    )
    return _row(
        "memory",
        "depth 2 is an adaptive rate with a memory of past gradients (ρ, μ)",
        measured,
        error.max() <= 0.01 and (half / error).max() <= 0.55,
        error.max() <= 0.1,
        "",
    )


def no_regularizer(integrals):
    """Line integrals around the closed loop."""
    found = {one["depth"]: one for one in integrals}
    off = {d: abs(found[d]["integral"] / found[d]["closed_form"] - 1) for d in (3, 4)}
    control = abs(found[1]["integral"] / found[3]["integral"])
    measured = (
        f"integral {found[3]['integral']:.3g} at depth 3, {_percent(off[3])} from the closed form "
        f"({_percent(off[4])} at depth 4); {control:.1g} of it at depth 1"
    )
    good = max(off.values()) <= 0.01 and control <= 1e-6
    return _row("no_regularizer", "no regularizer can do the same", measured, good, False, "")


def parameters(original, overparameterized):
    """The tutorial network's parameters."""
    more = overparameterized / original - 1
    return {
        "claim": "the tutorial network gets 15 % more parameters",
        "criterion": "Between 14 % and 16 % more.",
        "measured": f"{original:,} and {overparameterized:,}, {100 * more:.1f} % more",
        "verdict": graded(0.14 <= more <= 0.16, False),
        "why": "",
    }


def table(ledger):
    """Markdown table of the ledger."""
    lines = ["| Claim | Measured | Verdict |", "|---|---|---|"]
    for row in ledger:
        why = f" {row['why']}" if row["why"] else ""
        lines.append(f"| {row['claim']} | {row['measured']}.{why} | **{row['verdict']}** |")
    return "\n".join(lines)


def model_table(sweeps, experiment):
    """Markdown table of an experiment's models: best rate, final loss, speed-up over depth 1."""
    lines = [
        "| Model | Start (norm) | Best rate | Final loss, median (range) | Speed-up over depth 1 "
        "| At the rate that is fastest there |",
        "|---|---|---|---|---|---|",
    ]
    for settings in models(experiment, BASE):
        result = sweeps[settings]
        base = dataclasses.replace(settings, depth=1, optimizer="gd", width=1, start="balanced")
        if settings.optimizer == "adam":
            base = dataclasses.replace(base, optimizer="adam")
        final = spread(result.curves[:, -1])
        ratio = fastest = ""
        if settings != base:
            ratio = median_and_range(speed_up(result, sweeps[base]))
            fastest = f"{speed_up_to_target(result, sweeps[base]):.2f}"
        low, high = final["range"]
        width = f", width {settings.width}" if experiment == "width" and settings.depth > 1 else ""
        lines.append(
            f"| ℓ{settings.power:g}, {label(settings)}{width} | {settings.scale:g} "
            f"| {result.rates[result.best]:.2g} "
            f"| {final['median']:.4g} ({low:.4g}–{high:.4g}) | {ratio} | {fastest} |"
        )
    return "\n".join(lines)


def _at(**changes):
    return dataclasses.replace(BASE, **changes)


def _ratios(sweeps, settings, base):
    return speed_up(sweeps[settings], sweeps[base])


def _loss(sweeps):
    def final_loss(settings):
        result = sweeps[settings]
        return result.final[result.best]

    return final_loss


def _row(criterion, claim, measured, reproduced, partly, why):
    verdict = graded(reproduced, partly)
    text = criteria.GAS_SENSOR[criterion]
    return {
        "claim": claim,
        "criterion": text,
        "measured": measured,
        "verdict": verdict,
        "why": "" if verdict == REPRODUCED else why,
    }


def _both(ratios):
    return " and ".join(median_and_range(r) for r in ratios.values())


def _percent(share):
    return f"{100 * share:.2g} %"


def sources(sweeps, consequences, rule, mnist, parameters_of, scalar_cost):
    """The namespace that `rows` takes."""
    return SimpleNamespace(
        sweeps={result.settings: result for result in sweeps},
        consequences=consequences,
        rule=rule,
        mnist=mnist,
        parameters=parameters_of,
        scalar_cost=scalar_cost,
    )
