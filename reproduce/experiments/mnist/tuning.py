"""Best values of a hyperparameter on a grid that grows until the best one is inside."""

import numpy as np

from experiments.mnist.results import best_rate

FACTOR = 2.0
MOST_VALUES = 12


def tune(final, start, factor=FACTOR):
    """Final objectives by learning rate, on a grid grown until the best is not at its edge.

    The grid grows at the edge where the best is, upwards first.

    Args:
        final: function of a rate, the final objective there; NaN for a run that diverged.
        start: the first rate.
        factor: between neighbouring rates.
    """
    found = {start: final(start)}
    while len(found) < MOST_VALUES:
        best = best_rate(found)
        if best == max(found):
            found[best * factor] = final(best * factor)
        elif best == min(found):
            found[best / factor] = final(best / factor)
        else:
            break
    return found


def tune_with_scale(final, rate, scale=1.0):
    """The best learning rate and start scale: the rate, the scale at it, the rate again.

    Args:
        final: function of a rate and a scale, the final objective there.
        rate: the first rate.
        scale: the first scale.

    Returns:
        The pair; each is inside its grid at the other's value, unless all runs there diverged.
    """
    rate = best_rate(tune(lambda value: final(value, scale), rate))
    tried = tune(lambda value: final(rate, value), scale)
    if np.isnan(list(tried.values())).all():  # then no scale is better than another
        return rate, scale
    best = best_rate(tried)
    return (rate, scale) if best == scale else tune_with_scale(final, rate, best)
