"""What the paper claims of the end-to-end rule, as rows of the ledger, and a table of the runs."""

import numpy as np

from criteria import END_TO_END_RULE
from experiments.end_to_end_rule.results import notice, ratio, summarize
from presenting.tables import markdown_table, median_and_range


def summary(results):
    """Notice, verdicts and summaries of an experiment."""
    summaries = summarize(results)
    return {
        "notice": notice(results),
        "verdicts": verdicts(summaries),
        "summaries": summaries,
    }


def verdicts(summaries):
    """Rows of the ledger."""
    deep = [row for row in summaries if row["depth"] > 1]
    shallow = [row for row in summaries if row["depth"] == 1]
    return [
        _balanced(deep),
        _widths(deep),
        _independent(deep),
        _independent_widths(deep),
        _depth_one(shallow),
    ]


def _balanced(summaries):
    largest = np.array([s["balanced"]["largest_difference"] for s in summaries])
    halved = np.array([s["balanced"]["largest_difference_at_half_rate"] for s in summaries])
    ratios = halved / largest
    measured = (
        f"kernels differ by at most {_percents(largest)}; at half the rate, "
        f"{ratios.min():.3f} to {ratios.max():.3f} of that"
    )
    claim = "gradient descent on a balanced deep network is the rule"
    return END_TO_END_RULE["balanced"].row(claim, measured, largest.max(), ratios.max())


def _widths(summaries):
    largest = max(s["balanced"]["largest_width_difference"] for s in summaries)
    claim = "from a balanced start the width is irrelevant"
    measured = f"kernels differ by at most {largest:.1g}"
    return END_TO_END_RULE["balanced_widths"].row(claim, measured, largest)


def _independent(summaries):
    ratios = np.array(
        [w["network_over_rule"]["median"] for s in summaries for w in s["independent"]]
    )
    claim = "the rule emulates a network started from independent small weights"
    measured = _times("the network takes", "the rule's", ratios)
    return END_TO_END_RULE["independent"].row(claim, measured, ratios)


def _independent_widths(summaries):
    medians = [[w["loss_halved_at"]["median"] for w in s["independent"]] for s in summaries]
    ratios = ratio(*np.array([(last, first) for first, *_, last in medians]).T)
    claim = "the width has a negligible effect; independent small weights"
    measured = _times("the widest network takes", "the narrowest's", ratios)
    return END_TO_END_RULE["independent_widths"].row(claim, measured, ratios)


def _depth_one(summaries):
    largest = max(s["balanced"]["largest_difference"] for s in summaries)
    claim = "at depth 1 the rule is gradient descent"
    measured = f"kernels differ by at most {largest:.1g}"
    return END_TO_END_RULE["depth_one"].row(claim, measured, largest)


def _times(who, whose, ratios):
    """Ratios of iterations to half the loss, in words."""
    if np.isinf(ratios).any():
        return "in some cases the loss was never halved"
    low, high = f"{ratios.min():.2f}", f"{ratios.max():.2f}"
    return f"{who} {low} to {high} times {whose} iterations to halve the loss, by case"


def _percents(values):
    return f"{100 * values.min():.3f} % to {100 * values.max():.3f} %, by problem and depth"


def table(summaries):
    """Markdown table of the runs, one row for each problem and depth above 1."""
    head = [
        "Problem",
        "Depth",
        "Balanced start: difference of the kernels",
        "At half the rate",
        "Independent start: iterations to half the loss, network over rule",
    ]
    return markdown_table(head, [_row(one) for one in summaries if one["depth"] > 1])


def _row(summary):
    names = ("largest_difference", "largest_difference_at_half_rate")
    ratios = "; ".join(
        f"width {width['width']}: {median_and_range(width['network_over_rule']['values'])}"
        for width in summary["independent"]
    )
    differences = (f"{100 * summary['balanced'][name]:.3f} %" for name in names)
    return [summary["problem"], str(summary["depth"]), *differences, ratios]
