"""What `FactorMonitor` costs at its default period: the tutorial's network with and without it.

    python benchmarks/monitor.py

The overparameterized network of `reproduce/mnist_cnn.py`, its batches and optimizer; both trainings
take turns of whole calls to `fit`, measurements and the writing of logs included. Takes about seven
minutes on two CPU cores.
"""

import argparse
import tempfile
import time
from pathlib import Path

from turns import ROOT, ratio_row, report, row, take_turns

from datasets import images as datasets
from experiments.mnist import tutorial_cnn
from experiments.mnist.settings import Settings
from keras_overparam import FactorMonitor
from running.options import add_data_options, positive

NAMES = ("without", "with FactorMonitor")


class Training:
    """The overparameterized network; every turn goes on where the last one stopped."""

    def __init__(self, data, callbacks):
        settings = Settings(depth=2)
        self.network = tutorial_cnn.build_network(settings)
        tutorial_cnn.compile_network(self.network, settings, len(data.train_labels))
        self.data = data.train_images, data.train_labels
        self.callbacks = callbacks
        self.steps = 0

    def seconds(self, steps):
        """Duration of a call to `fit`, by step."""
        batches = tutorial_cnn.batches(*self.data, self.steps, self.steps + steps)
        started = time.perf_counter()
        self.network.fit(batches, verbose=0, shuffle=False, callbacks=self.callbacks)
        self.steps += steps
        return (time.perf_counter() - started) / steps


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_options(parser)
    parser.add_argument("--rounds", type=positive(int), default=7, help="(%(default)s)")
    parser.add_argument(
        "--steps", type=positive(int), default=600, help="of each turn (%(default)s)"
    )
    parser.add_argument("--output", default=str(ROOT / "assets" / "benchmark_monitor.json"))
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    data = datasets.load_images(options.dataset, options.data_dir, options.archives)
    with tempfile.TemporaryDirectory() as folder:
        monitor = FactorMonitor(Path(folder))
        trainings = dict(zip(NAMES, (Training(data, []), Training(data, [monitor])), strict=True))
        for training in trainings.values():
            training.seconds(5)
        jobs = {
            name: lambda training=training: training.seconds(options.steps)
            for name, training in trainings.items()
        }
        times = take_turns(jobs, options.rounds)
    rows = [row(name, "ms per step", values) for name, values in times.items()]
    rows.append(ratio_row("with FactorMonitor / without", times, NAMES[1], NAMES[0]))
    report(
        rows,
        options.output,
        dataset=data.name,
        rounds=options.rounds,
        steps_per_turn=options.steps,
        update_freq=monitor.update_freq,
        measurements=len(monitor.history),
    )


if __name__ == "__main__":
    main()
