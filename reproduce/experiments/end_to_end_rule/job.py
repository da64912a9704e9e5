"""Follow networks and the rule, or find their records, and report."""

from datasets.gas_sensor import DATASETS, load_ethanol
from experiments.end_to_end_rule import claims, figures, results, runs
from experiments.end_to_end_rule import settings as asked
from running import commands
from running.records import to_indented_json, write_text


def settings_of(options, dataset):
    """The runs that the options ask for."""
    given = (options.problems, options.depths, options.seeds)
    return asked.settings_of(dataset, *given, options.iterations, options.start_norm)


def run_all(options):
    """Do what is not recorded yet; the results."""
    output, data = commands.prepare(options, load_ethanol)
    found = []
    for settings in settings_of(options, data.name):
        record = runs.run(settings, data, output / settings.run_name, options.again)
        found.append(results.load(record.path))
        largest = found[-1].largest_difference().max()
        print(f"{settings.run_name}: difference {largest:.3g}, {found[-1].outcome['status']}")
    return found


def recorded(options):
    """Results of these options that are on record, for --plot-only."""
    found = commands.recorded(options, DATASETS[1:], settings_of)
    return [results.load(commands.folder_of(options, settings)) for settings in found]


def report(found, folder):
    """Draw the figure and write the summary; the summary."""
    figures.draw(found, folder / "end_to_end_rule.png", results.notice(found))
    summary = claims.summary(found)
    write_text(folder / "end_to_end_rule.json", to_indented_json(summary))
    return summary
