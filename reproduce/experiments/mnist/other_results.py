"""Comparison of networks, original and factored, each at its best learning rate and start scale."""

import numpy as np

from criteria import OTHER_NETWORKS
from experiments.mnist import results
from experiments.mnist.other_settings import TITLES
from presenting.tables import markdown_table, median_and_range

ORIGINAL, FACTORED = "none", ("dense", "all")


def by_model(found):
    """Results by network, and in each by what is factored: `{network: {factored: group}}`."""
    groups = {}
    for result in found:
        settings = result.settings
        models = groups.setdefault(settings.network, {})
        models.setdefault(settings.factored, []).append(result)
    return groups


def first_seed(group):
    """Final objectives by learning rate and start scale, at a model's most tried seed."""
    seeds = [result.settings.seed for result in group]
    seed = max(set(seeds), key=seeds.count)
    return {
        (result.settings.learning_rate, result.settings.start_scale): result.final("objective")
        for result in group
        if result.settings.seed == seed
    }


def at_best(group):
    """A model's runs at its best learning rate and start scale, seeds ascending."""
    best = results.best_rate(first_seed(group))
    chosen = [r for r in group if (r.settings.learning_rate, r.settings.start_scale) == best]
    return sorted(chosen, key=lambda result: result.settings.seed)


def grid(group, axis):
    """Final objectives by one of both values, the other at its best, ascending.

    Args:
        group: a model's runs.
        axis: 0 for the learning rate, 1 for the start scale.
    """
    found = first_seed(group)
    best = results.best_rate(found)
    return {pair[axis]: found[pair] for pair in sorted(found) if pair[1 - axis] == best[1 - axis]}


def speed_up(group, originals):
    """Steps of the original over those of another model, to the higher of both final objectives.

    Args:
        group: results of the other model.
        originals: results of the original, of the same seeds in the same order.
    """
    ratios = []
    for result, original in zip(group, originals, strict=True):
        target = max(result.final("objective"), original.final("objective"))
        steps = [one.steps_to("objective", target) for one in (original, result)]
        ratios.append(steps[0] / steps[1])
    return np.array(ratios)


def summary(found):
    """One dictionary for each network and model: how it was tuned, and how it compares."""
    rows = []
    for network, models in sorted(by_model(found).items()):
        originals = at_best(models[ORIGINAL])
        for factored in (ORIGINAL, *FACTORED):
            group = at_best(models[factored])
            final = [result.final("objective") for result in group]
            rows.append(
                {
                    "network": network,
                    "factored": factored,
                    "model": group[0].settings.model_name,
                    "depth": group[0].settings.depth,
                    "parameters": group[0].parameters,
                    "learning_rate": group[0].settings.learning_rate,
                    "start_scale": group[0].settings.start_scale,
                    "seeds": [result.settings.seed for result in group],
                    "steps": len(group[0].curves["objective"]),
                    "final_objective": final,
                    "speed_up": list(speed_up(group, originals)),
                    "test_error_percent": [r.outcome["test_error_percent"] for r in group],
                }
            )
    return rows


def verdicts(rows, tutorials):
    """Rows of the claims ledger.

    Args:
        rows: of `summary`.
        tutorials: the tutorial network's speed-up at each seed.
    """
    ratios = {}
    for row in rows:
        if row["factored"] != ORIGINAL:
            ratios.setdefault(row["network"], []).append(np.array(row["speed_up"]))
    largest = {name: max(np.median(r) for r in rs) for name, rs in ratios.items()}
    by_network = "; ".join(
        f"{TITLES[name]} {' and '.join(map(median_and_range, rs))}" for name, rs in ratios.items()
    )
    return [
        OTHER_NETWORKS["speed_up"].row(
            "other convolutional networks are accelerated too",
            f"speed-up with dense layers factored and with convolutions too: {by_network}",
            ratios.values(),
        ),
        OTHER_NETWORKS["less_prominent"].row(
            "but not nearly as much as the tutorial's",
            "largest speed-ups "
            + ", ".join(f"{TITLES[name]} {value:.2f}" for name, value in largest.items())
            + f"; the tutorial network's {median_and_range(tutorials)}",
            max(largest.values()),
            float(np.median(tutorials)),
        ),
    ]


def table(rows):
    """Markdown table of a summary."""
    head = "Network|Factored|Parameters|Best rate|Best scale|Final objective"
    head = [*head.split("|"), "Speed-up over the original", "Test error (%)"]
    return markdown_table(head, map(_cells, rows))


def _cells(row):
    original = row["factored"] == ORIGINAL
    return [
        TITLES[row["network"]],
        row["model"],
        f"{row['parameters']:,}",
        f"{row['learning_rate']:g}",
        f"{row['start_scale']:g}",
        median_and_range(row["final_objective"], ".3g"),
        "" if original else median_and_range(row["speed_up"]),
        f"{np.mean(row['test_error_percent']):.2f}",
    ]
