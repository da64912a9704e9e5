"""Duration of a training step of the tutorial's network under `EndToEnd`, SGD and Muon, in turns.

    python benchmarks/end_to_end_cnn.py

The network and batches are those of `reproduce/mnist_cnn.py`, the original network with the L2 term
and without it, from the start of training on. All weights train, at the tutorial's rate, so that
`EndToEnd` renews what it keeps as often as it does in training; it is told that gradients have at
most the rank of the batch, which holds without the L2 term. Muon, the peer, treats the same two
kernels at its own default rate. Takes about five minutes on two CPU cores.
"""

import argparse
import functools
import tempfile

import keras
import numpy as np
from turns import ROOT, ratio_row, report, row, take_turns

from datasets import images as datasets
from experiments.mnist import tutorial_cnn
from experiments.mnist.settings import Settings
from experiments.mnist.training import StepRecorder
from keras_overparam import EndToEnd
from running.options import add_data_options, positive

RATE = 0.01  # the tutorial's, in its first epoch
REGULARIZE = ("product", "none")


def optimizers(options):
    """Contenders, by name."""
    momentum = tutorial_cnn.MOMENTUM
    rank = options.gradient_rank or None
    rule = functools.partial(EndToEnd, RATE, options.depth, momentum, gradient_rank=rank)
    return {
        "SGD": keras.optimizers.SGD(RATE, momentum),
        "EndToEnd, exact": rule(),
        f"EndToEnd, tolerance {options.tolerance:g}": rule(tolerance=options.tolerance),
        "Muon": keras.optimizers.Muon(weight_decay=None, adam_weight_decay=None),
    }


class Training:
    """The original network under an optimizer; every turn goes on where the last one stopped."""

    def __init__(self, optimizer, regularize, images, labels, folder):
        settings = Settings(regularize=regularize)
        self.network = tutorial_cnn.build_network(settings)
        self.network.compile(optimizer)
        self.data = images, labels
        self.folder = folder
        self.steps = 0
        self.objective = None

    def seconds(self, steps):
        """Mean duration of a step, the first of the turn left out."""
        last = self.steps + steps
        with StepRecorder(self.folder, last, self.steps, show=False) as recorder:
            self.network.fit(
                tutorial_cnn.batches(*self.data, self.steps, last),
                verbose=0,
                shuffle=False,
                callbacks=[recorder],
            )
        self.steps, self.objective = last, recorder.values["objective"][-1]
        return float(np.mean(recorder.seconds[1:]))


def contenders(options, folder):
    """All trainings, by optimizer and L2 term, traced and warmed up."""
    data = datasets.load_images(options.dataset, options.data_dir, options.archives)
    jobs = {
        f"{name}, L2 on {regularize}": Training(
            optimizer, regularize, data.train_images, data.train_labels, folder
        )
        for regularize in REGULARIZE
        for name, optimizer in optimizers(options).items()
    }
    for job in jobs.values():
        job.seconds(5)
    return jobs, data.name


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tolerance", type=positive(float), default=0.001)
    parser.add_argument("--depth", type=positive(int), default=2)
    parser.add_argument("--gradient-rank", type=int, default=tutorial_cnn.BATCH, help="0 for none")
    parser.add_argument("--rounds", type=positive(int), default=12)
    parser.add_argument("--steps", type=positive(int), default=40, help="per turn")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_end_to_end_cnn.json")
    add_data_options(parser)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        jobs, dataset = contenders(options, folder)
        times = take_turns(
            {name: functools.partial(job.seconds, options.steps) for name, job in jobs.items()},
            options.rounds,
        )
    rows = [row(name, "ms per step", values) for name, values in times.items()]
    for name in times:
        optimizer, comma, regularize = name.rpartition(", L2 on ")
        if optimizer != "SGD":
            what = f"{optimizer} / SGD{comma}{regularize}"
            rows.append(ratio_row(what, times, name, f"SGD{comma}{regularize}"))
    report(
        rows,
        options.output,
        dataset=dataset,
        depth=options.depth,
        tolerance=options.tolerance,
        gradient_rank=options.gradient_rank,
        rounds=options.rounds,
        steps_per_turn=options.steps,
        last_objectives={name: job.objective for name, job in jobs.items()},
    )


if __name__ == "__main__":
    main()
