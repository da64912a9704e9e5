"""Linear regression by gradient descent: does depth make it faster?

    python reproduce/gas_sensor.py                        l4 loss: depths 1 to 3, AdaGrad, AdaDelta
    python reproduce/gas_sensor.py --experiments l2 deep  other experiments
    python reproduce/gas_sensor.py --experiments all      all of them
    python reproduce/gas_sensor.py --plot-only            redraw from the records
    python reproduce/gas_sensor.py --redraw               redraw what is in assets/

Every model is trained at a whole grid of learning rates and seeds at once, and the grid is extended
until the best rate is inside it. Figure, records and summary go to runs/gas_sensor/. The first
experiment takes about two minutes on two CPU cores, all of them about half an hour.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from datasets import gas_sensor
from experiments.gas_sensor import figures as sweep_figures
from experiments.gas_sensor import results as sweep_results
from experiments.gas_sensor import runs as sweep_runs
from experiments.gas_sensor.models import WHAT, label, models
from running import records
from running.commands import check_publishable, command, distribute, prepare, recorded_dataset
from running.options import Distinct, add_data_options, add_output_options, add_seeds, positive
from running.strategies import add_strategy_option

ASSETS = Path(__file__).resolve().parents[1] / "assets"
NAME = "gas_sensor"


def parse(arguments=None):
    """Options of the command line."""
    experiments = "\n".join(f"  {name:6s} {what}" for name, what in WHAT.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\nExperiments:\n{experiments}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--experiments", choices=(*WHAT, "all"), nargs="+", action=Distinct, default=["l4"]
    )
    add_seeds(group, [0, 1, 2, 3, 4])
    group.add_argument("--iterations", type=positive(int), default=20_000)
    group.add_argument(
        "--start-norm", type=positive(float), default=0.1, help="end to end (%(default)s)"
    )
    group.add_argument("--target", choices=gas_sensor.TARGETS, default="standardized")
    add_data_options(parser, gas_sensor.DATASETS, "gas sensor archive")
    machine = add_output_options(parser, output=f"runs/{NAME}")
    add_strategy_option(machine)
    machine.add_argument("--plot-only", action="store_true", help="redraw from the records")
    machine.add_argument("--redraw", action="store_true", help="redraw what is in assets/")
    machine.add_argument("--publish", action="store_true", help="put the records into assets/ too")
    options = parser.parse_args(arguments)
    if "all" in options.experiments:
        options.experiments = list(WHAT)
    return options


def base_settings(options, dataset):
    """What all models of these options share."""
    return sweep_runs.Settings(
        scale=options.start_norm,
        iterations=options.iterations,
        seeds=tuple(options.seeds),
        dataset=dataset,
        target=options.target,
    )


def run_all(options):
    """Train what is not recorded yet; results by experiment, of which only the chief has any."""
    distribution = distribute(options)
    with distribution.watched("part of a run"):
        return run_on(distribution, options)


def run_on(distribution, options):
    """The same on the given devices."""
    _, data = prepare(
        options,
        lambda dataset, data_dir, archives: gas_sensor.load_ethanol(
            dataset, data_dir, archives, options.target
        ),
        distribution,
    )
    output = Path(options.output)  # of every worker: all have checkpoints
    base, found = base_settings(options, data.name), {}
    for experiment in options.experiments:
        print(f"\n{experiment}: {WHAT[experiment]}")
        results = [
            run_one(settings, data, output, options.again, distribution)
            for settings in models(experiment, base)
        ]
        if distribution.is_chief:
            report(experiment, results, output)
            found[experiment] = results
    return found


def run_one(settings, data, output, again, distribution):
    """Train one model, or find its record; the chief's result."""
    record = sweep_runs.run(settings, data, output / settings.run_name, again, distribution)
    if not distribution.is_chief:
        return None
    result = sweep_results.load(record.path)
    final = sweep_results.spread(result.curves[:, -1])["median"]
    edge = "" if result.inside else ", AT THE EDGE of the rates tried"
    what = f"ℓ{settings.power:g}, {label(settings)}, {settings.start} {settings.scale:g}"
    print(f"  {what}: loss {final:.4g} at rate {result.rates[result.best]:.3g}{edge}")
    return result


def recorded(options):
    """Results of these options that are on record, for --plot-only."""

    def folders(name, experiments=options.experiments):
        base = base_settings(options, name)
        return [Path(options.output) / s.run_name for e in experiments for s in models(e, base)]

    name = recorded_dataset(options, ("gas_sensor", "diabetes"), folders)
    return {e: [sweep_results.load(f) for f in folders(name, [e])] for e in options.experiments}


def report(experiment, results, folder):
    """Draw an experiment's figure, and write its summary."""
    notice = results[0].start["data"]["notice"]
    sweep_figures.draw(experiment, results, folder / f"{NAME}_{experiment}.png", notice)
    text = records.to_indented_json([sweep_results.summarize(result) for result in results])
    path = folder / f"{NAME}_{experiment}.json"
    records.write_atomically(path, lambda file: file.write_text(text, "utf-8"))


def publish(found):
    """Copy the records into assets/, and draw the figures from there."""
    for result in (result for group in found.values() for result in group):
        check_publishable(result.start["data"]["notice"])
    folder = records.make_folder(ASSETS / NAME)
    for result in {r.settings: r for group in found.values() for r in group}.values():
        records.publish(result.path, folder / f"{result.settings.run_name}.jsonl.gz")
    for experiment, results in found.items():
        report(experiment, published(r.settings for r in results), ASSETS)


def published(models_settings):
    """Results of models from the records in assets/."""
    paths = (ASSETS / NAME / f"{settings.run_name}.jsonl.gz" for settings in models_settings)
    return [sweep_results.load(path) for path in paths]


def redraw():
    """Make all figures and summaries in assets/ from the records there, those of the defaults."""
    base = base_settings(parse([]), "gas_sensor")
    for experiment in WHAT:
        report(experiment, published(models(experiment, base)), ASSETS)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command(f"{NAME}.py", resumes_after="part of a run"):
        if options.redraw:
            return redraw()
        found = recorded(options) if options.plot_only else run_all(options)
        for experiment, results in found.items():
            if options.plot_only:  # otherwise drawn as soon as it was done
                report(experiment, results, Path(options.output))
            print(f"Figure: {Path(options.output) / f'{NAME}_{experiment}.png'}")
        if options.publish:
            publish(found)


if __name__ == "__main__":
    main()
