"""What counts as reproduced, written down before the runs: each criterion's words and bounds, once.

The bounds in a criterion's sentence are those that its verdict follows from.
"""

import re
from types import SimpleNamespace

import numpy as np

REPRODUCED, PARTLY, NOT = VERDICTS = ("reproduced", "partly", "not reproduced")
BOUND = re.compile(r"\{(\w+)=([^}]*)\}")
WORDS = {"a tenth": 0.1, "half": 0.5, "two": 2, "three": 3, "ten": 10}


class Criterion:
    """A sentence with bounds in it, and the verdict that follows from them.

    Args:
        sentence: with each bound in braces, `{name=words}`; the words are a key of `WORDS`, or a
            number, which may be in percent.
        grade: function of the bounds, as attributes, and of what was measured: whether that is
            reproduced, and whether it is in part.
    """

    def __init__(self, sentence, grade):
        self.text = BOUND.sub(r"\2", sentence)
        bounds = {name: _number(words) for name, words in BOUND.findall(sentence)}
        self.bounds, self.grade = SimpleNamespace(**bounds), grade

    def verdict(self, *measured):
        """One of `VERDICTS` for what was measured."""
        reproduced, partly = self.grade(self.bounds, *measured)
        return REPRODUCED if reproduced else PARTLY if partly else NOT

    def row(self, claim, words, *measured, why=None):
        """A row of the claims ledger.

        Args:
            claim: what is claimed.
            words: what was measured, in words.
            *measured: what was measured, in numbers.
            why: why it is not reproduced; left out where it is.
        """
        verdict = self.verdict(*measured)
        row = {"claim": claim, "criterion": self.text, "measured": words, "verdict": verdict}
        return row if why is None or verdict == REPRODUCED else row | {"why": why}


def _number(words):
    number, percent, _ = words.partition(" %")
    value = WORDS.get(number) or float(number.replace(",", ""))
    return value / 100 if percent else value


def faster(ratios, least):
    """Whether a model is at least so many times as fast, median over seeds, and faster at each."""
    return np.median(ratios) >= least and np.min(ratios) > 1


def _accelerated(bounds, steps, originals):
    """Grade the steps of each seed, None for never, to what took the original so many."""
    reached = all(step is not None and step < originals for step in steps)
    return reached and all(step <= bounds.share * originals for step in steps), reached


MNIST_CNN = {
    "acceleration": Criterion(
        "Orders of magnitude: the overparameterized network reaches the original's final "
        "objective in at most {share=a tenth} of the original's steps, at every seed. Partly: in "
        "fewer steps than the original took, at every seed. The final objective is the mean over "
        "the last {window=100} steps; it is reached at the first step at which the mean over 100 "
        "steps is as low.",
        _accelerated,
    ),
    "tuned_acceleration": Criterion(
        "As above over {epochs=three} epochs, with the learning rate tuned for each network: "
        "rates a factor of two apart from the tutorial's on, the best by the final objective at "
        "the first seed and inside the grid, which is extended until it is; then all seeds at "
        "each network's best.",
        lambda _, *measured: _accelerated(MNIST_CNN["acceleration"].bounds, *measured),
    ),
    "test_error": Criterion(
        "At most {percent=1.0} % after {epochs=10} epochs, mean over seeds, for both networks.",
        lambda bounds, errors: (max(errors) <= bounds.percent, False),
    ),
    "parameters": Criterion(
        "Between {least=14 %} and {most=16 %} more.",
        lambda bounds, more: (bounds.least <= more <= bounds.most, False),
    ),
}
WINDOW = int(MNIST_CNN["acceleration"].bounds.window)  # steps that values are the mean of
EPOCHS = int(MNIST_CNN["test_error"].bounds.epochs)
TUNING_EPOCHS = MNIST_CNN["tuned_acceleration"].bounds.epochs

# Each network, original and factored, at its best learning rate and scale of the start: by factors
# of two, by the final training loss at the first seed, the best of both inside their grids, which
# are extended until it is; the rate at the usual scale, then the scale, then the rate again. The
# final loss is the mean over the last 100 steps. The speed-up over the original is the steps after
# which the original's mean over 100 steps is down to a target, over those of the factored network,
# the target being the higher of the two final losses, seed by seed. Numbers are medians over 3
# seeds.
OTHER_NETWORKS = {
    "speed_up": Criterion(
        "For every network one of the factorings (dense layers only; convolutions too) is at "
        "least {least=1.1} times as fast as the original, and faster at every seed. Partly: for "
        "some network.",
        lambda bounds, networks: [
            over(
                any(faster(ratios, bounds.least) for ratios in factorings)
                for factorings in networks
            )
            for over in (all, any)
        ],
    ),
    "less_prominent": Criterion(
        "For every network the larger speed-up of the two factorings is at most {share=half} of "
        "the tutorial network's, which is measured the same way (L2 term on the end-to-end "
        "matrices, tuned rates). Partly: at most the tutorial network's.",
        lambda bounds, largest, whole: (largest <= bounds.share * whole, largest <= whole),
    ),
}


def _within(bounds, ratios):
    """Grade ratios that should be one."""
    factor = np.max(np.maximum(ratios, 1 / ratios))
    return factor <= 1 + bounds.within, factor <= bounds.factor


def _at_most(bounds, difference):
    return difference <= bounds.difference, False


# A difference is ‖K_network − K_rule‖ / ‖K_rule‖, the largest over all iterations and seeds. A loss
# is halved where it has fallen to half of what it was at the start.
END_TO_END_RULE = {
    "balanced": Criterion(
        "Balanced starts: the difference is at most {difference=1 %} at the stated rate, and "
        "half the rate for twice the iterations at least halves it (to at most {halved=0.55} of "
        "it), for every problem, depth and width. Partly: at most {partly=10 %}, and at most "
        "{partly_halved=0.75} of it at half the rate.",
        lambda bounds, difference, halved: (
            difference <= bounds.difference and halved <= bounds.halved,
            difference <= bounds.partly and halved <= bounds.partly_halved,
        ),
    ),
    "balanced_widths": Criterion(
        "Balanced starts: the kernels of networks of different widths differ by at most "
        "{difference=1e-6}, relative to the narrowest network's.",
        _at_most,
    ),
    "independent": Criterion(
        "Independent starts: network and rule halve the loss at iterations within {within=10 %} "
        "of each other, for every problem, depth and width, at the median over seeds. Partly: "
        "within a factor of {factor=two}.",
        _within,
    ),
    "independent_widths": Criterion(
        "Independent starts of the same expected end-to-end norm: the widest and the narrowest "
        "network halve the loss at iterations within {within=10 %} of each other, for every "
        "problem and depth, comparing medians over seeds. Partly: within a factor of "
        "{factor=two}.",
        _within,
    ),
    "depth_one": Criterion(
        "The difference is at most {difference=1e-12} at depth 1, for every problem.",
        _at_most,
    ),
}


def _all_or_some_faster(bounds, models):
    """Grade lists of ratios, one for each model: all faster, or some."""
    each = [faster(ratios, bounds.least) for ratios in models]
    return all(each), any(each)


# Rates are an eighth of a decade apart, at least 31 of them, extended until the best is inside. The
# best is that of the lowest final loss, median over seeds, where no seed diverges (after the first
# runs: there, two seeds of five could diverge at the best rate, for starts of norm 0.3 and more).
# The speed-up of one model over another, each at its best rate, for T iterations, seed by seed: T
# over the iterations after which it reaches the other's final loss; if it never does, those after
# which the other reaches its final loss, over T. Numbers are medians over at least 5 seeds.
# The common start is a balanced one of end-to-end norm 0.1, of the same kernel for all depths; a
# model's best start is that of its lowest final loss, of norms 0.001 to 3.
GAS_SENSOR = {
    "l4": Criterion(
        "At l4, gradient descent at depth 2 (and at depth 3) is at least {least=1.5} times as "
        "fast as at depth 1, and faster at every seed, both from the common start and with each "
        "model at its best start. Partly: at least {partly=1.1} times in one of the two.",
        lambda bounds, starts: (
            all(faster(ratios, bounds.least) for depths in starts for ratios in depths),
            any(all(np.median(r) >= bounds.partly for r in depths) for depths in starts),
        ),
    ),
    "other_optimizers": Criterion(
        "At l4, gradient descent at depth 2 is faster at every seed than the other optimizer at "
        "depth 1, and at least {least=1.1} times as fast in the median, for each variant of its "
        "constants. Partly: for one variant.",
        _all_or_some_faster,
    ),
    "l2": Criterion(
        "At l2, gradient descent at depths 2 and 3 is at most {most=1.1} times as fast as at "
        "depth 1, from the common start. Partly: at most {partly=1.5} times.",
        lambda bounds, ratio: (ratio <= bounds.most, ratio <= bounds.partly),
    ),
    "powers": Criterion(
        "For p = 3, 4, 6 and 8 some depth from 2 to 8 is at least {least=1.1} times as fast as "
        "depth 1; for p = 2 none is. Partly: for p = 2 none is, and for some p > 2 one is.",
        lambda bounds, at_two, above: [
            at_two < bounds.least and over(ratio >= bounds.least for ratio in above)
            for over in (all, any)
        ],
    ),
    "adam": Criterion(
        "At l4, Adam at depth 2 and at depth 3 is at least {least=1.1} times as fast as at depth "
        "1, and faster at every seed. Partly: at one of the two depths.",
        _all_or_some_faster,
    ),
    "deep": Criterion(
        "At l4 and depths 4 and 8, from weights of standard deviation 0.1, the loss takes at "
        "least {slow=10,000} iterations to fall {fall=a tenth} below that of the zero kernel; "
        "from the near-identity start at most {fast=1,000}. Medians at the best rates. Partly: "
        "at least {times=ten} times as many from near zero. (At first: a tenth below the start's "
        "own loss, which the near-identity start, being worse than zero, passes in one "
        "iteration.)",
        lambda bounds, pairs: (
            all(zero >= bounds.slow and near <= bounds.fast for zero, near in pairs),
            all(zero >= bounds.times * near for zero, near in pairs),
        ),
    ),
    "width": Criterion(
        "From independent Gaussian weights of the same expected end-to-end norm 0.1, the "
        "speed-up over depth 1 differs by at most {within=10 %} between hidden widths 1, 10 and "
        "100, at depth 2 and at depth 3. Partly: by at most a factor of {factor=1.5}.",
        lambda bounds, factor: (factor <= 1 + bounds.within, factor <= bounds.factor),
    ),
    "one_scalar": Criterion(
        "Depth 2 and width 1 has one parameter more than depth 1. The speed-up in iterations, as "
        "above, is at least {least=1.5}, and an iteration costs at most {cost=5 %} more time, "
        "paired, median. Partly: the speed-up in time is above {partly=1.1}.",
        lambda bounds, ratio, cost: (
            ratio >= bounds.least and cost <= 1 + bounds.cost,
            ratio / cost > bounds.partly,
        ),
    ),
}
CONSEQUENCES = {
    "memory": Criterion(
        "At l4, depth 2 and width 1, the end-to-end kernel rebuilt from start and past gradients "
        "by the weights ρ and μ differs from gradient descent's by at most {difference=1 %} of "
        "its norm after 1,000 iterations, and by at most {halved=0.55} of that at half the rate. "
        "Partly: by at most {partly=10 %}.",
        lambda bounds, error, halved: (
            error <= bounds.difference and halved <= bounds.halved,
            error <= bounds.partly,
        ),
    ),
    "no_regularizer": Criterion(
        "At depths 3 and 4 (the theorem wants N > 2) the line integral of the preconditioned "
        "field of the l4 loss around a small closed loop (radii 1e-3 and 2e-3) is that of the "
        "closed form to {difference=1 %}, which is not zero; at depth 1 it is zero to "
        "{control=1e-6} of that.",
        lambda bounds, difference, control: (
            difference <= bounds.difference and control <= bounds.control,
            False,
        ),
    ),
}

# The full run trains all depths that the probe compared on all examples, ten times as long as the
# probe did, from three directions of the start that the probe did not see, each depth at its best
# rate and scale of the start. Its speed-ups are geometric means over directions; that of depth 1
# is 1.
PROBE = {
    "holds": Criterion(
        "The advised depth's speed-up in the full run is at most {below=10 %} below the highest "
        "of all depths.",
        lambda bounds, speed_up, highest: (speed_up >= (1 - bounds.below) * highest, False),
    ),
    "interval": Criterion(
        "The full run's speed-up lies within the interval that the probe expected.",
        lambda bounds, speed_up, low, high: (low <= speed_up <= high, False),
    ),
}
