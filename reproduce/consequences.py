"""Two consequences of the end-to-end rule, measured on the gas-sensor Ethanol regression.

    python reproduce/consequences.py

Gradient descent over a vector times a scalar as a memory of past gradients: how far the trajectory
rebuilt from them is from gradient descent's. And the theorem that no regularizer does what depth
does: line integrals of the rule's field around a closed loop. A few seconds.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from datasets import gas_sensor
from experiments.starts import balanced_start
from keras_overparam.consequences import (
    constant_gradient_loop_integral,
    gradient_memory,
    loop_integral,
    trajectory_from_memory,
)
from running import records
from running.commands import check_publishable, command, prepare
from running.options import add_data_options, add_output_options, add_seeds

ASSETS = Path(__file__).resolve().parents[1] / "assets"
NAME = "consequences"
RATE, STEPS, NORM = 1e-3, 1_000, 0.1  # at half the rate, twice the steps
RADII = (1e-3, 2e-3)
DEPTHS = (1, 2, 3, 4)


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_seeds(parser, [0, 1, 2, 3, 4])
    add_data_options(parser, gas_sensor.DATASETS, "gas sensor archive")
    machine = add_output_options(parser, output=f"runs/{NAME}")
    machine.add_argument("--publish", action="store_true", help="put the record into assets/ too")
    return parser.parse_args(arguments)


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


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command(f"{NAME}.py", resumes_after="run"):
        output, data = prepare(options, gas_sensor.load_ethanol)
        record = records.Record(output)
        found = measure(data, options.seeds)
        outcome = {
            "kind": "outcome",
            "data": {"name": data.name, "digest": data.digest},
            "versions": records.versions(),
            **found,
            "time": records.now(),
        }
        record.keep([outcome])  # in one step: until then an earlier record is there
        for name, value in found.items():
            print(f"{name}: {records.to_json(value)}")
        if options.publish:
            check_publishable(data.notice)
            records.publish(record.path, ASSETS / f"{NAME}.jsonl.gz")


if __name__ == "__main__":
    main()
