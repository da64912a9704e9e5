"""Deep linear networks, and one layer trained by the end-to-end rule: do they do the same?

    python reproduce/end_to_end_rule.py                   every problem, depths 2 and 3, five seeds
    python reproduce/end_to_end_rule.py --problems l2     one problem
    python reproduce/end_to_end_rule.py --plot-only       redraw from the records
    python reproduce/end_to_end_rule.py --redraw          redraw what is in assets/

Figure 1 of the paper: gradient descent on linear networks for the Ethanol regression, with l2 and
with l4 loss, beside gradient descent on one layer whose gradient is preconditioned by the rule; and
the same for a regression with several outputs. Networks start near zero, balanced (the theorem's
assumption) or as independent Gaussians; the rule starts from their product. At depth 1 the rule is
gradient descent. All in float64 and full batches. About ten minutes on two CPU cores, most of them
for the l4 loss.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from datasets import gas_sensor
from experiments.end_to_end_rule import claims as rule_verdicts
from experiments.end_to_end_rule import figures as rule_figure
from experiments.end_to_end_rule import results as rule_results
from experiments.end_to_end_rule import runs as rule_runs
from running import records
from running.commands import check_publishable, command, prepare, recorded_dataset
from running.options import Distinct, add_data_options, add_output_options, add_seeds, positive

ASSETS = Path(__file__).resolve().parents[1] / "assets"
NAME = "end_to_end_rule"


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    experiment = parser.add_argument_group("experiment")
    problems = list(rule_runs.DEFAULTS)
    several = {"nargs": "+", "action": Distinct}
    experiment.add_argument("--problems", choices=problems, default=problems, **several)
    experiment.add_argument("--depths", type=positive(int), default=[2, 3], **several)
    add_seeds(experiment, [0, 1, 2, 3, 4])
    experiment.add_argument("--iterations", type=positive(int), help="(by problem)")
    experiment.add_argument(
        "--start-norm",
        type=positive(float),
        default=rule_runs.START_NORM,
        help="of the end-to-end kernel (%(default)s)",
    )
    add_data_options(parser, gas_sensor.DATASETS, "gas sensor archive")
    machine = add_output_options(parser, output=f"runs/{NAME}")
    machine.add_argument("--plot-only", action="store_true", help="redraw from the records")
    machine.add_argument("--redraw", action="store_true", help="redraw what is in assets/")
    machine.add_argument("--publish", action="store_true", help="put the results into assets/ too")
    options = parser.parse_args(arguments)
    if min(options.depths) < 2:
        parser.error("--depths must be at least 2; depth 1 is always there, as a control")
    return options


def settings_of(options, dataset):
    """The runs that the options ask for."""
    return rule_runs.settings_of(
        dataset,
        options.problems,
        options.depths,
        options.seeds,
        options.iterations,
        options.start_norm,
    )


def run_all(options):
    """Do what is not recorded yet; the results."""
    output, data = prepare(options, gas_sensor.load_ethanol)
    found = []
    for settings in settings_of(options, data.name):
        record = rule_runs.run(settings, data, output / settings.run_name, options.again)
        found.append(rule_results.load(record.path))
        largest = found[-1].largest_difference().max()
        print(f"{settings.run_name}: difference {largest:.3g}, {found[-1].outcome['status']}")
    return found


def recorded(options):
    """Results of these options that are on record, for --plot-only."""

    def folders(name):
        return [Path(options.output) / s.run_name for s in settings_of(options, name)]

    name = recorded_dataset(options, ("gas_sensor", "diabetes"), folders)
    return [rule_results.load(folder) for folder in folders(name)]


def summary_text(results):
    """The summary of results as JSON text."""
    return records.to_indented_json(rule_verdicts.summary(results))


def report(results, folder):
    """Draw the figure and write the summary with the verdicts."""
    rule_figure.draw(results, folder / f"{NAME}.png", rule_results.notice(results))
    text = summary_text(results)
    records.write_atomically(folder / f"{NAME}.json", lambda path: path.write_text(text, "utf-8"))


def publish(results):
    """Copy the records into assets/, and draw figure and summary from there."""
    check_publishable(rule_results.notice(results))
    folder = records.make_folder(ASSETS / NAME)
    paths = [folder / f"{result.settings.run_name}.jsonl.gz" for result in results]
    for result, path in zip(results, paths, strict=True):
        records.publish(result.path, path)
    for path in set(folder.glob("*.jsonl.gz")) - set(paths):
        path.unlink()
    report(rule_results.load_all(folder), ASSETS)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command(f"{NAME}.py", resumes_after="run"):
        if options.redraw:
            return report(rule_results.load_all(ASSETS / NAME), ASSETS)
        results = recorded(options) if options.plot_only else run_all(options)
        report(results, Path(options.output))
        summary = rule_verdicts.summary(results)
        print("\n" + rule_verdicts.table(summary["summaries"]))
        print("\n" + rule_verdicts.verdict_table(summary["verdicts"]))
        if options.publish:
            publish(results)
        print(f"\nFigure: {Path(options.output) / NAME}.png")


if __name__ == "__main__":
    main()
