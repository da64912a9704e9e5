"""What counts as reproduced, written down before the runs."""

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
