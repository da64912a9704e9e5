"""The MNIST tutorial with the learning rate tuned for each network, as fairly for one as another.

    python reproduce/mnist_rates.py --epochs 3 --seeds 0 1 2

`mnist_cnn.py` compares the networks at the tutorial's learning rate, as the paper does. Here each
gets its own: rates a factor of two apart, at the first seed, from the tutorial's on in the
direction that lowers the final objective, until the best is inside the grid; then the other seeds
at the best rate. Runs go where those of `mnist_cnn.py` do, and what is recorded there is not
repeated. Three epochs take about forty minutes on two CPU cores.
"""

from datasets.images import DATASETS, load_images
from experiments.mnist.settings import Settings, add_options
from running import options as opt
from running.commands import command, prepare

MODELS = {
    "original": {"depth": 1},
    "product": {"depth": 2, "regularize": "product"},
    "factors": {"depth": 2, "regularize": "factors"},
}


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    experiment = parser.add_argument_group("experiment")
    what = "original: the tutorial's; product, factors: two matrices, what the L2 term acts on"
    opt.add_several(experiment, "models", choices=list(MODELS), help=what)
    add_options(parser, experiment, Settings, DATASETS, "runs/mnist_cnn")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("mnist_rates.py"):
        from experiments.mnist import boards, claims, figures, job, results
        from experiments.mnist.tuning import tuned

        output, data = prepare(options, load_images)
        run = job.runner(options, data, output)
        groups = [
            tuned(opt.settings_from(Settings, options, dataset=data.name, **model), options, run)
            for model in map(MODELS.get, options.models)
        ]
        figures.draw_rates(groups, output / "rates.png", data.notice)
        print("\n" + claims.table(results.summarize_tuned(groups)))
        print(f"\nFigure: {output / 'rates.png'}")
        print(f"Look at the runs: {boards.opening(output)}")


if __name__ == "__main__":
    main()
