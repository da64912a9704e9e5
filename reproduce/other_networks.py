"""Other convolutional networks on MNIST, with matrices and convolutions replaced by products.

    python reproduce/other_networks.py --seeds 0 1 2

The blog post: "similar experiments on other networks gave a speed-up, but not nearly as prominent".
Three networks, each original, with its dense layers factored, and with its convolutions factored
too. Learning rate and scale of the start are tuned for each, by factors of two at the first seed,
until the best of both are inside their grids; then come the other seeds. What is recorded is not
repeated: the same command goes on. Three seeds take two to three hours on two CPU cores.
"""

import argparse
import dataclasses
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from datasets import images as datasets
from experiments.mnist import other_figures as network_figures
from experiments.mnist import other_networks as networks
from experiments.mnist import other_results as network_results
from experiments.mnist.runs import common_settings, run
from experiments.mnist.tuning import tune_with_scale
from running import records
from running.commands import command, prepare
from running.options import Distinct, add_data_options, add_machine_options, add_run_options

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "other_networks"


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    experiment = parser.add_argument_group("experiment")
    for name, choices in (("networks", networks.NETWORKS), ("factored", networks.MODEL_NAMES)):
        experiment.add_argument(
            f"--{name}", choices=choices, nargs="+", action=Distinct, default=list(choices)
        )
    add_run_options(experiment, epochs=2)
    add_data_options(parser, datasets.IMAGES)
    add_machine_options(parser, output="runs/other_networks", jit="off")
    parser.add_argument("--publish", action="store_true", help="put the records into assets/ too")
    return parser.parse_args(arguments)


def tuned(settings, seeds, run_one):
    """All runs of one model: tuning at the first seed, the best rate and scale at the others."""
    runs = {}

    def result(rate, scale, seed):
        changes = {"learning_rate": rate, "start_scale": scale, "seed": seed}
        key = tuple(changes.values())
        if key not in runs:
            runs[key] = run_one(dataclasses.replace(settings, **changes))
        return runs[key]

    rate, scale = tune_with_scale(
        lambda rate, scale: result(rate, scale, seeds[0]).final("objective"),
        settings.learning_rate,
    )
    for seed in seeds[1:]:
        result(rate, scale, seed)
    return list(runs.values())


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("other_networks.py"):
        output, data = prepare(options, datasets.load_images)
        common = common_settings(options, data)
        found = []
        for network in options.networks:
            for factored in options.factored:
                settings = networks.Settings(network=network, factored=factored, **common)
                found += tuned(
                    settings,
                    options.seeds,
                    lambda settings: run(settings, data, output, options.again),
                )
        if options.publish:
            if data.name != "mnist":
                raise records.OutputError("--publish wants MNIST; these are other images.")
            for result in found:
                name = result.settings.run_name
                records.publish(output / name / "record.jsonl", ASSETS / f"{name}.jsonl.gz")
        if set(options.factored) == set(networks.MODEL_NAMES):
            network_figures.draw_networks(found, output / "networks.png", data.notice)
            rows = network_results.summary(found)
            print("\n" + network_results.table(rows))
            print(f"\nFigure: {output / 'networks.png'}")


if __name__ == "__main__":
    main()
