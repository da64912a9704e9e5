"""What the paper concludes from the rule, as rows of the ledger."""

import numpy as np

from criteria import CONSEQUENCES


def rows(found):
    """Rows of the ledger from the outcome on record."""
    return [memory(found["memory"]), no_regularizer(found["loops"]["integrals"])]


def memory(found):
    """The trajectory from its own past gradients."""
    error, half = np.array(found["error"]), np.array(found["error_at_half_the_rate"])
    measured = (
        f"error {_percent(np.median(error))} after {found['steps']:,} iterations, "
        f"{np.median(half / error):.3f} of that at half the rate"
    )
    claim = "depth 2 is an adaptive rate with a memory of past gradients (ρ, μ)"
    return CONSEQUENCES["memory"].row(claim, measured, error.max(), (half / error).max())


def no_regularizer(integrals):
    """Line integrals around the closed loop."""
    found = {one["depth"]: one for one in integrals}
    off = {d: abs(found[d]["integral"] / found[d]["closed_form"] - 1) for d in (3, 4)}
    control = abs(found[1]["integral"] / found[3]["integral"])
    measured = (
        f"integral {found[3]['integral']:.3g} at depth 3, {_percent(off[3])} from the closed form "
        f"({_percent(off[4])} at depth 4); {control:.1g} of it at depth 1"
    )
    claim = "no regularizer can do the same"
    return CONSEQUENCES["no_regularizer"].row(claim, measured, max(off.values()), control)


def _percent(share):
    return f"{100 * share:.2g} %"
