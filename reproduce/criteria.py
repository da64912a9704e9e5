"""What counts as reproduced, written down before the runs."""

VERDICTS = ("reproduced", "partly", "not reproduced")

MNIST_CNN = {
    "acceleration": (
        "Orders of magnitude: the overparameterized network reaches the original's final objective "
        "in at most a tenth of the original's steps, at every seed. Partly: in fewer steps than "
        "the original took, at every seed. The final objective is the mean over the last 100 "
        "steps; it is reached at the first step at which the mean over 100 steps is as low."
    ),
    "tuned_acceleration": (
        "As above over three epochs, with the learning rate tuned for each network: rates a factor "
        "of two apart from the tutorial's on, the best by the final objective at the first seed "
        "and inside the grid, which is extended until it is; then all seeds at each network's best."
    ),
    "test_error": "At most 1.0 % after 10 epochs, mean over seeds, for both networks.",
}

# Each network, original and factored, at its best learning rate and scale of the start: by factors
# of two, by the final training loss at the first seed, the best of both inside their grids, which
# are extended until it is; the rate at the usual scale, then the scale, then the rate again. The
# final loss is the mean over the last 100 steps. The speed-up over the original is the steps after
# which the original's mean over 100 steps is down to a target, over those of the factored network,
# the target being the higher of the two final losses, seed by seed. Numbers are medians over 3
# seeds.
OTHER_NETWORKS = {
    "speed_up": (
        "For every network one of the factorings (dense layers only; convolutions too) is at least "
        "1.1 times as fast as the original, and faster at every seed. Partly: for some network."
    ),
    "less_prominent": (
        "For every network the larger speed-up of the two factorings is at most half of the "
        "tutorial network's, which is measured the same way (L2 term on the end-to-end matrices, "
        "tuned rates). Partly: at most the tutorial network's."
    ),
}

# A difference is ‖K_network − K_rule‖ / ‖K_rule‖, the largest over all iterations and seeds. A loss
# is halved where it has fallen to half of what it was at the start.
END_TO_END_RULE = {
    "balanced": (
        "Balanced starts: the difference is at most 1 % at the stated rate, and half the rate for "
        "twice the iterations at least halves it (to at most 0.55 of it), for every problem, depth "
        "and width. Partly: at most 10 %, and at most 0.75 of it at half the rate."
    ),
    "balanced_widths": (
        "Balanced starts: the kernels of networks of different widths differ by at most 1e-6, "
        "relative to the narrowest network's."
    ),
    "independent": (
        "Independent starts: network and rule halve the loss at iterations within 10 % of each "
        "other, for every problem, depth and width, at the median over seeds. Partly: within a "
        "factor of two."
    ),
    "independent_widths": (
        "Independent starts of the same expected end-to-end norm: the widest and the narrowest "
        "network halve the loss at iterations within 10 % of each other, for every problem and "
        "depth, comparing medians over seeds. Partly: within a factor of two."
    ),
    "depth_one": "The difference is at most 1e-12 at depth 1, for every problem.",
}

# Rates are an eighth of a decade apart, at least 31 of them, extended until the best is inside. The
# best is that of the lowest final loss, median over seeds, where no seed diverges (after the first
# runs: there, two seeds of five could diverge at the best rate, for starts of norm 0.3 and more).
# The speed-up of one model over another, each at its best rate, for T iterations, seed by seed: T
# over the iterations after which it reaches the other's final loss; if it never does, those after
# which the other reaches its final loss, over T. Numbers are medians over at least 5 seeds.
# The common start is a balanced one of end-to-end norm 0.1, of the same kernel for all depths; a
# model's best start is that of its lowest final loss, of norms 0.001 to 3.
GAS_SENSOR = {
    "l4": (
        "At l4, gradient descent at depth 2 (and at depth 3) is at least 1.5 times as fast as at "
        "depth 1, and faster at every seed, both from the common start and with each model at its "
        "best start. Partly: at least 1.1 times in one of the two."
    ),
    "other_optimizers": (
        "At l4, gradient descent at depth 2 is faster at every seed than the other optimizer at "
        "depth 1, and at least 1.1 times as fast in the median, for each variant of its constants. "
        "Partly: for one variant."
    ),
    "l2": (
        "At l2, gradient descent at depths 2 and 3 is at most 1.1 times as fast as at depth 1, "
        "from the common start. Partly: at most 1.5 times."
    ),
    "powers": (
        "For p = 3, 4, 6 and 8 some depth from 2 to 8 is at least 1.1 times as fast as depth 1; "
        "for p = 2 none is. Partly: for p = 2 none is, and for some p > 2 one is."
    ),
    "adam": (
        "At l4, Adam at depth 2 and at depth 3 is at least 1.1 times as fast as at depth 1, and "
        "faster at every seed. Partly: at one of the two depths."
    ),
    "deep": (
        "At l4 and depths 4 and 8, from weights of standard deviation 0.1, the loss takes at least "
        "10,000 iterations to fall a tenth below that of the zero kernel; from the near-identity "
        "start at most 1,000. Medians at the best rates. Partly: at least ten times as many from "
        "near zero. (At first: a tenth below the start's own loss, which the near-identity start, "
        "being worse than zero, passes in one iteration.)"
    ),
    "width": (
        "From independent Gaussian weights of the same expected end-to-end norm 0.1, the speed-up "
        "over depth 1 differs by at most 10 % between hidden widths 1, 10 and 100, at depth 2 and "
        "at depth 3. Partly: by at most a factor of 1.5."
    ),
    "one_scalar": (
        "Depth 2 and width 1 has one parameter more than depth 1. The speed-up in iterations, as "
        "above, is at least 1.5, and an iteration costs at most 5 % more time, paired, median. "
        "Partly: the speed-up in time is above 1.1."
    ),
    "memory": (
        "At l4, depth 2 and width 1, the end-to-end kernel rebuilt from start and past gradients "
        "by the weights ρ and μ differs from gradient descent's by at most 1 % of its norm after "
        "1,000 iterations, and by at most 0.55 of that at half the rate. Partly: by at most 10 %."
    ),
    "no_regularizer": (
        "At depths 3 and 4 (the theorem wants N > 2) the line integral of the preconditioned field "
        "of the l4 loss around a small closed loop (radii 1e-3 and 2e-3) is that of the closed "
        "form to 1 %, which is not zero; at depth 1 it is zero to 1e-6 of that."
    ),
}

# The full run trains all depths that the probe compared on all examples, ten times as long as the
# probe did, from three directions of the start that the probe did not see, each depth at its best
# rate and scale of the start. Its speed-ups are geometric means over directions; that of depth 1
# is 1.
PROBE = {
    "holds": (
        "The advised depth's speed-up in the full run is at most 10 % below the highest of all "
        "depths."
    ),
    "interval": "The full run's speed-up lies within the interval that the probe expected.",
}


def graded(reproduced, partly):
    """The verdict's name."""
    return VERDICTS[0 if reproduced else 1 if partly else 2]
