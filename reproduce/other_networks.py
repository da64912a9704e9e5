"""Other convolutional networks on MNIST, with matrices and convolutions replaced by products.

    python reproduce/other_networks.py --seeds 0 1 2

The blog post: "similar experiments on other networks gave a speed-up, but not nearly as prominent".
Three networks, each original, with its dense layers factored, and with its convolutions factored
too. Learning rate and scale of the start are tuned for each, by factors of two at the first seed,
until the best of both are inside their grids; then come the other seeds. What is recorded is not
repeated: the same command goes on. Three seeds take two to three hours on two CPU cores.
"""

from datasets.images import IMAGES, load_images
from experiments.mnist.other_settings import MODEL_NAMES, TITLES, Settings
from experiments.mnist.settings import add_options
from publishing import assets
from running import options as opt
from running.commands import command, prepare


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    experiment = parser.add_argument_group("experiment")
    opt.add_several(experiment, "networks", choices=list(TITLES))
    opt.add_several(experiment, "factored", choices=list(MODEL_NAMES))
    add_options(parser, experiment, Settings, IMAGES, "runs/other_networks")
    opt.add_flags(parser, "publish")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("other_networks.py"):
        from experiments.mnist import boards, job, other_figures, other_results
        from experiments.mnist.tuning import tuned_with_scale

        output, data = prepare(options, load_images)
        run, found = job.runner(options, data, output), []
        for network in options.networks:
            for factored in options.factored:
                which = {"network": network, "factored": factored, "dataset": data.name}
                settings = opt.settings_from(Settings, options, **which)
                found += tuned_with_scale(settings, options, run)
        if options.publish:
            folders = (output / result.settings.run_name for result in found)
            assets.publish_runs("mnist", [folder / "record.jsonl" for folder in folders])
        if set(options.factored) == set(MODEL_NAMES):
            other_figures.draw_networks(found, output / "networks.png", data.notice)
            print("\n" + other_results.table(other_results.summary(found)))
            print(f"\nFigure: {output / 'networks.png'}")
        print(f"Look at the runs: {boards.opening(output)}")


if __name__ == "__main__":
    main()
