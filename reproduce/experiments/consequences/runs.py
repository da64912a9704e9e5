"""Gradient descent as a memory of past gradients, and work around a closed loop."""

import numpy as np

from experiments.starts import balanced_start
from keras_overparam.consequences import (
    constant_gradient_loop_integral,
    gradient_memory,
    loop_integral,
    trajectory_from_memory,
)

RATE, STEPS, NORM = 1e-3, 1_000, 0.1  # at half the rate, twice the steps
RADII = (1e-3, 2e-3)
DEPTHS = (1, 2, 3, 4)


def l4_gradient(data):
    """Gradient of `1/4 · mean (x·w − y)⁴` at a point `(d,)` or at points `(n, d)`."""

    def gradient(points):
        residuals = np.asarray(points) @ data.features.T - data.target
        return residuals**3 @ data.features / len(data.target)

    return gradient


def memory_error(gradient, start, rate, steps):
    """Relative difference of gradient descent, after its steps, from its memory of gradients.

    Args:
        gradient: of the loss in the product.
        start: pair of the vector `(d,)` and the scalar.
        rate: learning rate.
        steps: number of steps.
    """
    vector, scalar = start
    scalars, slopes, gradients, products = [], [], [], [vector * scalar]
    for _ in range(steps):
        gradients.append(gradient(products[-1]))
        scalars.append(scalar)
        slopes.append(gradients[-1] @ vector)
        vector, scalar = vector - rate * scalar * gradients[-1], scalar - rate * slopes[-1]
        products.append(vector * scalar)
    memory = gradient_memory(np.array(scalars), np.array(slopes), rate)
    rebuilt = np.asarray(trajectory_from_memory(products[0], np.array(gradients), memory))
    return float(np.linalg.norm(rebuilt[-1] - products[-1]) / np.linalg.norm(products[-1]))


def measure(data, seeds):
    """Everything that the record says."""
    gradient = l4_gradient(data)
    first, last = balanced_start((data.features.shape[1], 1), 2, 1, NORM, seeds)
    starts = [(a[:, 0], float(b[0, 0])) for a, b in zip(first, last, strict=True)]
    errors = {
        str(halvings): [
            memory_error(gradient, start, RATE / 2**halvings, STEPS * 2**halvings)
            for start in starts
        ]
        for halvings in (0, 1)
    }
    slope = gradient(np.zeros(data.features.shape[1]))
    loops = [
        {
            "depth": depth,
            "integral": float(loop_integral(gradient, slope, *RADII, depth)),
            "closed_form": float(
                constant_gradient_loop_integral(np.linalg.norm(slope), *RADII, depth)
            ),
        }
        for depth in DEPTHS
    ]
    return {
        "memory": {
            "learning_rate": RATE,
            "steps": STEPS,
            "start_norm": NORM,
            "seeds": list(seeds),
            "error": errors["0"],
            "error_at_half_the_rate": errors["1"],
        },
        "loops": {"radii": list(RADII), "integrals": loops},
    }
