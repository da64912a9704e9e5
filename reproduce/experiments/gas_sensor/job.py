"""Train the models of the experiments, or find their records, and report."""

from pathlib import Path

from datasets.gas_sensor import DATASETS, load_ethanol
from experiments.gas_sensor import figures, results, runs
from experiments.gas_sensor.models import WHAT, label, models
from experiments.gas_sensor.published import summary_text
from experiments.gas_sensor.settings import Settings
from running import commands
from running.options import settings_from
from running.records import write_text


def settings_of(options, dataset):
    """The runs that the options ask for."""
    base = settings_from(Settings, options, dataset=dataset)
    return [settings for experiment in options.experiments for settings in models(experiment, base)]


def run_all(options):
    """Train what is not recorded yet; results by experiment, of which only the chief has any."""
    distribution = commands.distribute(options)
    with distribution.watched("part of a run"):
        return run_on(distribution, options)


def run_on(distribution, options):
    """The same on the given devices."""

    def load(*where):
        return load_ethanol(*where, options.target)

    _, data = commands.prepare(options, load, distribution)
    output = Path(options.output)  # of every worker: all have checkpoints
    base, found = settings_from(Settings, options, dataset=data.name), {}
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
    record = runs.run(settings, data, output / settings.run_name, again, distribution)
    if not distribution.is_chief:
        return None
    result = results.load(record.path)
    final = results.spread(result.curves[:, -1])["median"]
    edge = "" if result.inside else ", AT THE EDGE of the rates tried"
    what = f"ℓ{settings.power:g}, {label(settings)}, {settings.start} {settings.scale:g}"
    print(f"  {what}: loss {final:.4g} at rate {result.rates[result.best]:.3g}{edge}")
    return result


def recorded(options):
    """Results by experiment of these options that are on record, for --plot-only."""
    settings = commands.recorded(options, DATASETS[1:], settings_of)
    base = settings_from(Settings, options, dataset=settings[0].dataset)
    found = {}
    for experiment in options.experiments:
        folders = (commands.folder_of(options, one) for one in models(experiment, base))
        found[experiment] = [results.load(folder) for folder in folders]
        report(experiment, found[experiment], Path(options.output))
    return found


def report(experiment, results, folder):
    """Draw an experiment's figure, and write its summary."""
    notice = results[0].start["data"]["notice"]
    figures.draw(experiment, results, folder / f"gas_sensor_{experiment}.png", notice)
    write_text(folder / f"gas_sensor_{experiment}.json", summary_text(results))
