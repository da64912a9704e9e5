"""Verdicts on linear networks and the end-to-end rule, and the tables that show them."""

import numpy as np

import criteria
from criteria import graded
from experiments.end_to_end_rule.results import notice, ratio, summarize


def summary(results):
    """Notice, verdicts and summaries of an experiment."""
    summaries = summarize(results)
    return {
        "notice": notice(results),
        "verdicts": verdicts(summaries),
        "summaries": summaries,
    }


def verdicts(summaries):
    """Claims with their criteria, what was measured, and the verdicts."""
    deep = [row for row in summaries if row["depth"] > 1]
    shallow = [row for row in summaries if row["depth"] == 1]
    return [
        _row(
            "balanced", "gradient descent on a balanced deep network is the rule", *_balanced(deep)
        ),
        _row("balanced_widths", "from a balanced start the width is irrelevant", *_widths(deep)),
        _row(
            "independent",
            "the rule emulates a network started from independent small weights",
            *_independent(deep),
        ),
        _row(
            "independent_widths",
            "the width has a negligible effect; independent small weights",
            *_independent_widths(deep),
        ),
        _row("depth_one", "at depth 1 the rule is gradient descent", *_depth_one(shallow)),
    ]


def _row(criterion, claim, measured, verdict):
    text = criteria.END_TO_END_RULE[criterion]
    return {"claim": claim, "criterion": text, "measured": measured, "verdict": verdict}


def _balanced(summaries):
    largest = np.array([s["balanced"]["largest_difference"] for s in summaries])
    halved = np.array([s["balanced"]["largest_difference_at_half_rate"] for s in summaries])
    ratios = halved / largest
    measured = (
        f"kernels differ by at most {_percents(largest)}; at half the rate, "
        f"{ratios.min():.3f} to {ratios.max():.3f} of that"
    )
    good = np.all(largest <= 0.01) and np.all(ratios <= 0.55)
    return measured, graded(good, np.all(largest <= 0.1) and np.all(ratios <= 0.75))


def _widths(summaries):
    largest = max(s["balanced"]["largest_width_difference"] for s in summaries)
    return f"kernels differ by at most {largest:.1g}", graded(largest <= 1e-6, False)


def _independent(summaries):
    ratios = np.array(
        [w["network_over_rule"]["median"] for s in summaries for w in s["independent"]]
    )
    return _times("the network takes", "the rule's", ratios)


def _independent_widths(summaries):
    medians = [[w["loss_halved_at"]["median"] for w in s["independent"]] for s in summaries]
    ratios = ratio(*np.array([(last, first) for first, *_, last in medians]).T)
    return _times("the widest network takes", "the narrowest's", ratios)


def _times(who, whose, ratios):
    """What was measured, and the verdict, on ratios of iterations to half the loss."""
    if np.isinf(ratios).any():
        measured = "in some cases the loss was never halved"
    else:
        low, high = f"{ratios.min():.2f}", f"{ratios.max():.2f}"
        measured = f"{who} {low} to {high} times {whose} iterations to halve the loss, by case"
    factors = np.maximum(ratios, 1 / ratios)
    return measured, graded(np.all(factors <= 1.1), np.all(factors <= 2))


def _depth_one(summaries):
    largest = max(s["balanced"]["largest_difference"] for s in summaries)
    return f"kernels differ by at most {largest:.1g}", graded(largest <= 1e-12, False)


def _percents(values):
    return f"{100 * values.min():.3f} % to {100 * values.max():.3f} %, by problem and depth"


def table(summaries):
    """Markdown table of the runs, one row for each problem and depth above 1."""
    lines = [
        "| Problem | Depth | Balanced start: difference of the kernels | At half the rate "
        "| Independent start: iterations to half the loss, network over rule |",
        "|---|---|---|---|---|",
    ]
    for row in (row for row in summaries if row["depth"] > 1):
        balanced = row["balanced"]
        ratios = "; ".join(
            f"width {width['width']}: {_median_and_range(width['network_over_rule'])}"
            for width in row["independent"]
        )
        lines.append(
            f"| {row['problem']} | {row['depth']} "
            f"| {100 * balanced['largest_difference']:.3f} % "
            f"| {100 * balanced['largest_difference_at_half_rate']:.3f} % | {ratios} |"
        )
    return "\n".join(lines)


def _median_and_range(spread):
    median, low, high = (
        "never" if np.isinf(value) else f"{value:.2f}"
        for value in (spread["median"], *spread["range"])
    )
    return f"{median} ({low}–{high})"


def verdict_table(rows):
    """Markdown table of verdicts."""
    lines = ["| Claim | Measured | Verdict |", "|---|---|---|"]
    lines += [f"| {row['claim']} | {row['measured']} | **{row['verdict']}** |" for row in rows]
    return "\n".join(lines)
