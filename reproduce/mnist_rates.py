"""The MNIST tutorial with the learning rate tuned for each network, as fairly for one as another.

    python reproduce/mnist_rates.py --epochs 3 --seeds 0 1 2

`mnist_cnn.py` compares the networks at the tutorial's learning rate, as the paper does. Here each
gets its own: rates a factor of two apart, at the first seed, from the tutorial's on in the
direction that lowers the final objective, until the best is inside the grid; then the other seeds
at the best rate. Runs go where those of `mnist_cnn.py` do, and what is recorded there is not
repeated. Three epochs take about forty minutes on two CPU cores.
"""

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from datasets.images import load_images
from experiments.mnist import figures, results
from experiments.mnist import network as tutorial_cnn
from experiments.mnist.runs import common_settings, run
from experiments.mnist.tuning import tune
from running.commands import command, prepare
from running.options import Distinct, add_data_options, add_machine_options, add_run_options

MODELS = {
    "original": {"depth": 1},
    "product": {"depth": 2, "regularize": "product"},
    "factors": {"depth": 2, "regularize": "factors"},
}
TUTORIALS = 0.01


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    experiment = parser.add_argument_group("experiment")
    experiment.add_argument(
        "--models",
        choices=MODELS,
        nargs="+",
        action=Distinct,
        default=list(MODELS),
        help="original: the tutorial's; product, factors: two matrices, what the L2 term acts on",
    )
    add_run_options(experiment)
    add_data_options(parser)
    add_machine_options(parser, output="runs/mnist_cnn")
    return parser.parse_args(arguments)


def tuned(settings, seeds, run_one):
    """All runs of one network: the grid at the first seed, the best rate at the others."""
    runs = []

    def result(rate, seed):
        runs.append(run_one(dataclasses.replace(settings, learning_rate=rate, seed=seed)))
        return runs[-1]

    best = results.best_rate(
        tune(lambda rate: result(rate, seeds[0]).final("objective"), TUTORIALS)
    )
    for seed in seeds[1:]:
        result(best, seed)
    return runs


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("mnist_rates.py"):
        output, data = prepare(options, load_images)
        common = common_settings(options, data)
        groups = [
            tuned(
                tutorial_cnn.Settings(**MODELS[name], **common),
                options.seeds,
                lambda settings: run(settings, data, output, options.again),
            )
            for name in options.models
        ]
        figures.draw_rates(groups, output / "rates.png", data.notice)
        print("\n" + results.table(results.summarize_tuned(groups)))
        print(f"\nFigure: {output / 'rates.png'}")


if __name__ == "__main__":
    main()
