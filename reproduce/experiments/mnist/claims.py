"""What the paper claims of the tutorial's network, as rows of the ledger, and its table."""

from criteria import MNIST_CNN, WINDOW
from presenting.tables import markdown_table, seeds

WHERE = {"product": "the end-to-end matrices", "factors": "each matrix"}
ROWS = (
    ("Objective, last {} steps", "objective", "{:.4g}"),
    ("Cross-entropy, last {} steps", "cross_entropy", "{:.2g}"),
    ("L2 term, last {} steps", "l2", "{:.4g}"),
    ("Test error (%)", "test_error_percent", "{:.2f}"),
    ("Steps to the original's final objective", "steps_to_originals_objective", "{:.0f}"),
    ("Steps to the original's final cross-entropy", "steps_to_originals_cross_entropy", "{:.0f}"),
    ("Milliseconds per step", "milliseconds_per_step", "{:.0f}"),
)


def verdicts(summaries, tuned):
    """Rows of the ledger.

    Args:
        summaries: of the networks at the tutorial's rate, the original first.
        tuned: the same of the networks at their best rates.
    """
    return [
        *acceleration(summaries, "acceleration"),
        *acceleration(tuned, "tuned_acceleration"),
        test_error(summaries[:2]),
    ]


def acceleration(summaries, criterion):
    """The acceleration of each overparameterized network over the first, the original."""
    original, *others = summaries
    rates = "tuned rates" if criterion == "tuned_acceleration" else "the tutorial's rate"
    for summary in others:
        steps = summary["steps_to_originals_objective"]["values"]
        lower = original["objective"]["mean"] / summary["objective"]["mean"]
        yield MNIST_CNN[criterion].row(
            "optimization accelerated by orders of magnitude; "
            f"L2 term on {WHERE[summary['regularize']]}, {rates}",
            "steps to the original's final objective, by seed: "
            + ", ".join("never" if s is None else f"{s:,}" for s in steps)
            + f" of the original's {original['steps']:,}; final objective "
            + (f"{lower:.3g} times lower" if lower >= 1 else f"{1 / lower:.3g} times higher"),
            steps,
            original["steps"],
        )


def test_error(summaries):
    """Test errors of the original and the paper's overparameterized network."""
    names = [f"{one['model']} ({seeds(len(one['seeds']))})" for one in summaries]
    errors = [one["test_error_percent"]["mean"] for one in summaries]
    measured = ", ".join(f"{n}: {error:.2f} %" for n, error in zip(names, errors, strict=True))
    claim = "both networks classify as well as the tutorial promises"
    return MNIST_CNN["test_error"].row(claim, measured, errors)


def parameters(original, overparameterized):
    """The tutorial network's parameters."""
    more = overparameterized / original - 1
    measured = f"{original:,} and {overparameterized:,}, {100 * more:.1f} % more"
    claim = "the tutorial network gets 15 % more parameters"
    return MNIST_CNN["parameters"].row(claim, measured, more)


def table(summaries):
    """Markdown table of summaries, one column each: mean ± standard deviation over seeds."""
    rows = [
        ["Parameters", *(f"{summary['parameters']:,}" for summary in summaries)],
        ["Learning rate", *(f"{summary['learning_rate']:g}" for summary in summaries)],
    ]
    window = min(WINDOW, *(summary["steps"] for summary in summaries))
    for name, key, form in ROWS:
        cells = [_cell(summary.get(key), form) for summary in summaries]
        rows += [[name.format(window), *cells]] if any(cells) else []
    return markdown_table(["", *map(_column, summaries)], rows)


def _column(summary):
    if summary["model"] == "original":
        return "original" + (", no L2" if summary["regularize"] == "none" else "")
    where = {"product": "L2 on product", "factors": "L2 on factors", "none": "no L2"}
    return f"{summary['model']}, {where[summary['regularize']]}"


def _cell(value, form):
    if value is None:
        return ""
    if value["mean"] is None:
        known = ", ".join("never" if v is None else form.format(v) for v in value["values"])
        return f"{known} (by seed)"
    text = form.format(value["mean"])
    if value["standard_deviation"] is not None:
        text += " ± " + form.format(value["standard_deviation"])
    return text
