"""How often the probe's advice held: from its records to verdicts, a rate and a table."""

import numpy as np
from scipy.stats import binomtest

from criteria import PROBE, REPRODUCED
from experiments.probe.problems import PROBLEMS
from presenting.tables import markdown_table
from running import records


def load_all(folder):
    """Outcomes by problem, in the order of `PROBLEMS`, of all records in a folder."""
    found = {}
    for path in folder.glob("*.jsonl.gz"):
        record = records.Record.at(path)
        found[record.of_kind("start")[0]["settings"]["problem"]] = record.outcome()
    return {name: found[name] for name in PROBLEMS if name in found}


def label(name):
    """A problem's name, and whether the probe was tuned on it."""
    return name + " (tuned on)" * PROBLEMS[name].tuned_on


def full_speed_ups(outcome):
    """Speed-up in the full run by depth, geometric means over starts."""
    return {1: 1.0} | {
        int(depth): float(np.exp(np.mean(np.log(values))))
        for depth, values in outcome["full"]["speed_ups"].items()
    }


def holds(depth, outcome):
    """Whether a depth is as good a choice as any, by the criterion."""
    speed_ups = full_speed_ups(outcome)
    return PROBE["holds"].verdict(speed_ups[depth], max(speed_ups.values())) == REPRODUCED


def within(outcome):
    """For each depth, whether the full run's speed-up lies within the expected interval."""
    speed_ups = full_speed_ups(outcome)
    expected = outcome["advice"]["expected"]
    return {
        int(n): PROBE["interval"].verdict(speed_ups[int(n)], *bounds) == REPRODUCED
        for n, (_, *bounds) in expected.items()
    }


def rate(successes):
    """A rate of successes with its exact 95 % interval, in words."""
    count = sum(successes)
    low, high = binomtest(count, len(successes)).proportion_ci()
    return f"{count} of {len(successes)}, {count / len(successes):.0%} ({low:.0%}–{high:.0%})"


def summary(found):
    """Rates over the problems that the probe was not tuned on, by what was done.

    Beside the probe's advice, what one would do without: the same depth for every problem.
    """
    held_out = [outcome for name, outcome in found.items() if not PROBLEMS[name].tuned_on]
    rates = {"the probe's advice": rate([holds(o["advice"]["depth"], o) for o in held_out])}
    depths = sorted({depth for outcome in held_out for depth in full_speed_ups(outcome)})
    for depth in depths:
        rates[f"depth {depth} always"] = rate([holds(depth, outcome) for outcome in held_out])
    rates["within the expected interval"] = rate(
        [inside for outcome in held_out for inside in within(outcome).values()]
    )
    return rates


def table(found):
    """Markdown tables: the rates, then every problem, those tuned on last."""
    head = ["On problems that the probe was not tuned on", "Held (95 % interval)"]
    rates = markdown_table(head, [list(pair) for pair in summary(found).items()])
    order = sorted(found, key=lambda name: PROBLEMS[name].tuned_on)
    return f"{rates}\n\n{_problem_table(found, order)}"


def _problem_table(found, order):
    rows = []
    for name in order:
        outcome, speed_ups = found[name], full_speed_ups(found[name])
        advice, inside = outcome["advice"], within(found[name])
        cells = [
            f"{value:.2f} ({low:.2f}–{high:.2f}) → {speed_ups[int(depth)]:.2f}"
            + ("" if inside[int(depth)] else " **out**")
            for depth, (value, low, high) in advice["expected"].items()
        ]
        reasons = [f"{advice['reasons'][key]:.2g}" for key in ("plateau", "alignment")]
        rows.append(
            [
                label(name),
                *cells,
                f"{advice['depth']}",
                "yes" if holds(advice["depth"], outcome) else "**no**",
                *reasons,
                ", ".join(
                    f"{np.median(norms):.2g}" for norms in outcome["full"]["starts"].values()
                ),
                "" if advice["inside"] and outcome["full"]["inside"] else "at the edge",
            ]
        )
    depths = [
        f"Depth {depth}: expected → full run" for depth in found[order[0]]["advice"]["expected"]
    ]
    return markdown_table(
        ["Problem", *depths, "Advice", "Held", "Plateau", "Alignment", "Best starts", "Grids"], rows
    )
