"""Train networks, or find their records, and report."""

import hashlib
from pathlib import Path

from datasets.images import DATASETS, load_images
from experiments.mnist import boards, claims, figures, results
from experiments.mnist.settings import Settings
from experiments.mnist.training import LOGS, train
from running import commands
from running import options as opt
from running.records import folder_of, to_json, write_text


def runner(options, data, output, distribution=None):
    """Function that trains one network, unless its finished run is on record, and says so.

    It takes the settings, and returns the result, which the chief has.
    """
    chief = distribution is None or distribution.is_chief

    def run(settings):
        folder = folder_of(output, settings)
        where = folder if chief else f"worker {distribution.worker} of {distribution.workers}"
        print(f"{settings.model_name}, seed {settings.seed}: {where}")
        outcome = train(settings, data, folder, options.again, distribution).outcome()
        if not chief:
            return None
        print(f"  {outcome['status']}, test error {outcome['test_error_percent']:.2f} %")
        return results.load(folder, type(settings))

    return run


def settings_of(options, dataset):
    """The runs that the options of mnist_cnn.py ask for, by model and seed."""
    depths = [1] if not options.overparam else []
    if options.overparam or options.compare:
        depths.append(options.depth or 2)
    return [
        opt.settings_from(Settings, options, depth=depth, seed=seed, dataset=dataset)
        for depth in depths
        for seed in options.seeds
    ]


def run_all(options, distribution):
    """Train what is not recorded yet; the settings."""
    output, data = commands.prepare(options, load_images, distribution)
    found, run = settings_of(options, data.name), runner(options, data, output, distribution)
    for settings in found:
        run(settings)
    return found


def recorded(options):
    """Settings of the runs of these options that are on record, for --plot-only."""
    return commands.recorded(options, DATASETS[1:], settings_of)


def report(settings, output):
    """Draw the figures of the runs and of their comparison, and print the numbers.

    Args:
        settings: of the runs, by model and seed.
        output: folder of the runs.
    """
    output, seeds = Path(output), len({one.seed for one in settings})
    found = [results.load(folder_of(output, one)) for one in settings]
    found = [found[first : first + seeds] for first in range(0, len(found), seeds)]
    for result in (result for group in found for result in group):
        folder = folder_of(output, result.settings)
        path = folder / "figure.png"
        figures.draw_objective([[result]], path, result.start["data"]["notice"])
        boards.show_figure(folder / LOGS, "training", path)
    summaries = results.compare(*found) if len(found) > 1 else [results.summarize(found[0])]
    print("\n" + claims.table(summaries) + "\n")
    if len(found) > 1:
        names = " ".join(one.run_name for one in settings)
        name = f"compare-{hashlib.sha256(names.encode()).hexdigest()[:8]}"
        figures.draw_objective(found, output / f"{name}.png", found[0][0].start["data"]["notice"])
        write_text(output / f"{name}.json", to_json(summaries) + "\n")
        print(f"Comparison: {output / name}.png and .json")
    print(f"Look at the runs: {boards.opening(output)}")
