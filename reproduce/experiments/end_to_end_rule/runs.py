"""Runs that follow linear networks and the end-to-end rule side by side, and their records."""

import dataclasses

import keras
import numpy as np
from keras import ops

from experiments.end_to_end_rule.networks import (
    Problem,
    random_matrix_problem,
    relative_difference,
    trainer,
)
from experiments.starts import STARTS
from keras_overparam import chain_product
from keras_overparam.factorization import balancedness_gap
from running import machine, records, runs

RANDOM_SEED = 0  # of the random matrix problem


def problem_of(settings, data):
    """The `Problem` of a run, and a description of its data for the record."""
    if settings.problem == "matrix":
        problem = random_matrix_problem(seed=RANDOM_SEED)
        rows, (inputs, outputs) = len(problem.features), problem.kernel_shape
        source = f"random, {rows} rows, {inputs} inputs, {outputs} outputs, seed {RANDOM_SEED}"
        return problem, {"name": "random", "source": source, "digest": None, "notice": None}
    power = {"l2": 2, "l4": 4}[settings.problem]
    return Problem(data.features, data.target[:, None], power), records.description(data)


def run(settings, data, folder, again=False):
    """Run `settings` in `folder`, unless its finished run is on record; the `Record`."""
    problem, description = problem_of(settings, data)

    def start():
        return {
            "settings": dataclasses.asdict(settings),
            "precision": "float64",
            "data": description,
            "versions": records.versions(),
            "device": machine.device_name(),
        }

    return runs.run(folder, start, lambda record: follow(problem, settings), again=again)


@np.errstate(over="ignore", invalid="ignore")  # a run that diverges is a result
def follow(problem, settings):
    """Train the networks and the rule, and compare them on the way.

    Args:
        problem: a `Problem`.
        settings: `Settings`.

    Returns:
        Dictionary: `status`; the recorded `iterations`; over them, by width and seed, the curves
        `loss` of the networks, `rule_loss` and `difference` of the kernels; by width and seed the
        `largest_difference` over all iterations, the largest `width_difference` from the first
        width's kernel, and the `imbalance` of the factors at start and end. From a balanced start
        there is one rule for all widths.
    """
    networks, rule = keras.tree.map_structure(
        ops.convert_to_tensor, starts(problem.kernel_shape, settings)
    )
    largest = ops.zeros((len(networks), len(settings.seeds)), "float64")
    advance = trainer(problem, settings.depth, settings.step_size)
    seen, imbalances = [], [_imbalance(networks)]
    for steps in np.diff(settings.recorded_iterations, prepend=0):
        count = ops.convert_to_tensor(np.int32(steps))
        networks, rule, largest = advance(networks, rule, largest, count)
        seen.append(_compare(problem, networks, rule))
        finite = all(np.isfinite(seen[-1][name]).all() for name in ("loss", "rule_loss"))
        if not finite:
            break
    imbalances.append(_imbalance(networks))
    curves = {name: np.stack([one[name] for one in seen], axis=-1) for name in seen[0]}
    curves["width_difference"] = curves["width_difference"].max(axis=-1)
    curves["largest_difference"] = ops.convert_to_numpy(largest)
    return {
        "status": "finished" if finite else "diverged",
        "iterations": settings.recorded_iterations[: len(seen)],
        **{name: _rounded(values) for name, values in curves.items()},
        "imbalance": {
            when: _rounded(values)
            for when, values in zip(("start", "end"), imbalances, strict=True)
        },
    }


def starts(shape, settings):
    """Factors of the network of each width, and the kernels that the rule starts from.

    The latter are the networks' products; from a balanced start they are the same for all widths.
    """
    networks = [
        STARTS[settings.start](shape, settings.depth, width, settings.start_norm, settings.seeds)
        for width in settings.widths
    ]
    distinct = networks[:1] if settings.start == "balanced" else networks
    return networks, np.stack([chain_product(factors) for factors in distinct])


def _compare(problem, networks, rule):
    kernels = ops.stack([chain_product(factors) for factors in networks])
    differences = (relative_difference(kernels, other) for other in (rule, kernels[0]))
    difference, width_difference = map(ops.convert_to_numpy, differences)
    return {
        "loss": problem.loss(kernels),
        "rule_loss": problem.loss(rule),
        "difference": difference,
        "width_difference": width_difference,
    }


def _imbalance(networks):
    """`max ‖Ajᵀ Aj − A[j+1] A[j+1]ᵀ‖` relative to `max ‖Aj‖²`, by width and seed."""
    found = []
    for factors in networks:
        squares = ops.stack([ops.sum(ops.square(one), axis=(-2, -1)) for one in factors])
        found.append(balancedness_gap(factors) / ops.max(squares, axis=0))
    return ops.convert_to_numpy(ops.stack(found))


def _rounded(values):
    """Nested lists of an array's numbers at the digits of a record."""
    if np.ndim(values) > 1:
        return [_rounded(row) for row in values]
    return records.rounded(np.asarray(values).tolist())
