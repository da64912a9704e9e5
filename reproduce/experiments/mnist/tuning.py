"""Best values of a hyperparameter on a grid that grows until the best one is inside."""

import dataclasses

import numpy as np

from experiments.mnist.results import best_rate

FACTOR = 2.0
MOST_VALUES = 12
TUTORIALS = 0.01  # learning rate


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


def tuned(settings, options, run):
    """All runs of one network: the grid of rates at the first seed, the best rate at the others.

    Args:
        settings: of the network.
        options: of the command line, with `seeds`.
        run: function of settings that returns the run's result.
    """
    seeds, found = options.seeds, []

    def result(rate, seed):
        found.append(run(dataclasses.replace(settings, learning_rate=rate, seed=seed)))
        return found[-1]

    best = best_rate(tune(lambda rate: result(rate, seeds[0]).final("objective"), TUTORIALS))
    for seed in seeds[1:]:
        result(best, seed)
    return found


def tuned_with_scale(settings, options, run):
    """All runs of one network: as `tuned`, and the start's scale is tuned too."""
    seeds, found = options.seeds, {}

    def result(rate, scale, seed):
        changes = {"learning_rate": rate, "start_scale": scale, "seed": seed}
        key = tuple(changes.values())
        if key not in found:
            found[key] = run(dataclasses.replace(settings, **changes))
        return found[key]

    best = tune_with_scale(
        lambda rate, scale: result(rate, scale, seeds[0]).final("objective"),
        settings.learning_rate,
    )
    for seed in seeds[1:]:
        result(*best, seed)
    return list(found.values())
