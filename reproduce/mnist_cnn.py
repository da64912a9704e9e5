"""TensorFlow's MNIST tutorial network, original against overparameterized (Arora et al. 2018).

    python reproduce/mnist_cnn.py                              the original
    python reproduce/mnist_cnn.py --overparam                  two matrices where there was one
    python reproduce/mnist_cnn.py --compare --seeds 0 1 2      both, and what differs

Each run leaves a folder under runs/mnist_cnn: record.jsonl (settings, versions, every step), the
trained model.keras, collapsed.keras (plain Keras layers), figure.png and TensorBoard logs. The same
command goes on where it was interrupted, and does not repeat what is finished. Ten epochs take
about 5 minutes for the original and 7 overparameterized on two CPU cores.
"""

from datasets.images import DATASETS
from experiments.mnist.settings import Settings, add_options
from running import options as opt
from running.commands import command, distribute


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--overparam", action="store_true", help="the overparameterized network")
    which.add_argument("--compare", action="store_true", help="both networks, and a comparison")
    model = parser.add_argument_group("experiment")
    opt.add_fields(model, Settings, "depth", "width", default=None)
    opt.add_fields(model, Settings, "regularize", "learning_rate", "init_stddev")
    opt.add_strategy_option(add_options(parser, model, Settings, DATASETS, "runs/mnist_cnn"))
    opt.add_flags(parser, "plot_only")
    options = parser.parse_args(arguments)
    if (options.depth or options.width) and not (options.overparam or options.compare):
        parser.error("--depth and --width need --overparam or --compare")
    if options.strategy != "none" and options.jit == "on":
        parser.error("--jit on compiles the step of one device; leave it out with --strategy")
    if options.strategy != "none" and options.mixed_precision == "float16":
        parser.error("--strategy trains in bfloat16 or float32; float16 scales the loss per device")
    return options


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("mnist_cnn.py"):
        from experiments.mnist import job

        if options.plot_only:
            return job.report(job.recorded(options), options.output)
        distribution = distribute(options)
        with distribution.watched():
            found = job.run_all(options, distribution)
            if distribution.is_chief:
                job.report(found, options.output)


if __name__ == "__main__":
    main()
