"""TensorFlow's MNIST tutorial network, original against overparameterized (Arora et al. 2018).

    python reproduce/mnist_cnn.py                              the original
    python reproduce/mnist_cnn.py --overparam                  two matrices where there was one
    python reproduce/mnist_cnn.py --compare --seeds 0 1 2      both, and what differs

Each run leaves a folder under runs/mnist_cnn: record.jsonl (settings, versions, every step), the
trained model.keras, collapsed.keras (plain Keras layers), figure.png and TensorBoard logs. The same
command goes on where it was interrupted, and does not repeat what is finished. Ten epochs take
about 5 minutes for the original and 7 overparameterized on two CPU cores.
"""

import argparse
import hashlib
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # silences start-up chatter, keeps errors

from datasets.images import load_images
from experiments.mnist import boards, figures, results
from experiments.mnist import network as tutorial_cnn
from experiments.mnist.runs import run
from experiments.mnist.training import LOGS
from running import records
from running.commands import command, distribute, prepare, recorded_dataset
from running.options import add_data_options, add_machine_options, add_run_options, positive
from running.strategies import add_strategy_option


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--overparam", action="store_true", help="the overparameterized network")
    which.add_argument("--compare", action="store_true", help="both networks, and a comparison")
    model = parser.add_argument_group("experiment")
    model.add_argument("--depth", type=positive(int), help="matrices per dense layer (2)")
    model.add_argument("--width", type=positive(int), help="size between them (min of both sides)")
    model.add_argument(
        "--regularize",
        choices=tutorial_cnn.REGULARIZE,
        default="product",
        help="what the L2 term of the overparameterized network acts on (%(default)s)",
    )
    model.add_argument("--learning-rate", type=positive(float), default=0.01, metavar="RATE")
    model.add_argument("--init-stddev", type=positive(float), default=0.1, metavar="STDDEV")
    add_run_options(model)
    add_data_options(parser)
    machine = add_machine_options(parser, output="runs/mnist_cnn")
    add_strategy_option(machine)
    parser.add_argument("--plot-only", action="store_true", help="redraw from the records")
    options = parser.parse_args(arguments)
    if (options.depth or options.width) and not (options.overparam or options.compare):
        parser.error("--depth and --width need --overparam or --compare")
    if options.strategy != "none" and options.jit == "on":
        parser.error("--jit on compiles the step of one device; leave it out with --strategy")
    if options.strategy != "none" and options.mixed_precision == "float16":
        parser.error("--strategy trains in bfloat16 or float32; float16 scales the loss per device")
    return options


def settings_of(options, dataset):
    """The runs that the options ask for: one list, over seeds, for each model."""
    depths = [1] if not options.overparam else []
    if options.overparam or options.compare:
        depths.append(options.depth or 2)
    return [
        [
            tutorial_cnn.Settings(
                depth=depth,
                width=options.width,
                regularize=options.regularize,
                learning_rate=options.learning_rate,
                init_stddev=options.init_stddev,
                seed=seed,
                epochs=options.epochs,
                dataset=dataset,
                jit=options.jit,
                mixed_precision=options.mixed_precision,
            )
            for seed in options.seeds
        ]
        for depth in depths
    ]


def run_all(options, distribution):
    """Train what is not recorded yet; settings by model."""
    output, data = prepare(options, load_images, distribution)
    groups = settings_of(options, data.name)
    for settings in (settings for group in groups for settings in group):
        run(settings, data, output, options.again, distribution)
    return groups


def recorded(options):
    """Runs of these options that are on record, for --plot-only."""

    def folders(name):
        return [Path(options.output) / s.run_name for g in settings_of(options, name) for s in g]

    return settings_of(options, recorded_dataset(options, ("mnist", "digits"), folders))


def report(groups, output):
    """Draw the figures of the runs and of their comparison, and print the numbers."""
    output = Path(output)
    found = [[results.load(output / s.run_name) for s in group] for group in groups]
    for result in (result for group in found for result in group):
        folder = output / result.settings.run_name
        path = folder / "figure.png"
        figures.draw_objective([[result]], path, result.start["data"]["notice"])
        boards.show_figure(folder / LOGS, "training", path)
    summaries = results.compare(*found) if len(found) > 1 else [results.summarize(found[0])]
    print("\n" + results.table(summaries) + "\n")
    if len(found) > 1:
        names = " ".join(s.run_name for group in groups for s in group)
        name = f"compare-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
        figures.draw_objective(found, output / f"{name}.png", found[0][0].start["data"]["notice"])
        text = records.to_json(summaries) + "\n"
        records.write_atomically(output / f"{name}.json", lambda path: path.write_text(text))
        print(f"Comparison: {output / name}.png and .json")
    print(f"Look at the runs: tensorboard --logdir {output}")


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("mnist_cnn.py"):
        if options.plot_only:
            return report(recorded(options), options.output)
        distribution = distribute(options)
        with distribution.watched():
            groups = run_all(options, distribution)
            if distribution.is_chief:
                report(groups, options.output)


if __name__ == "__main__":
    main()
