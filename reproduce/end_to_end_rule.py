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

from pathlib import Path

from datasets.gas_sensor import DATASETS
from experiments.end_to_end_rule.settings import DEFAULTS, Settings
from presenting.tables import verdict_table
from publishing import assets
from running import options as opt
from running.commands import command


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    experiment = parser.add_argument_group("experiment")
    opt.add_several(experiment, "problems", choices=list(DEFAULTS))
    opt.add_several(experiment, "depths", default=[2, 3], type=opt.positive(int))
    opt.add_seeds(experiment, [0, 1, 2, 3, 4])
    opt.add_fields(experiment, Settings, "iterations", default=None, help="(by problem)")
    opt.add_fields(experiment, Settings, "start_norm")
    opt.add_data_options(parser, DATASETS, "gas sensor archive")
    machine = opt.add_output_options(parser, output="runs/end_to_end_rule")
    opt.add_flags(machine, "plot_only", "redraw", "publish")
    options = parser.parse_args(arguments)
    if min(options.depths) < 2:
        parser.error("--depths must be at least 2; depth 1 is always there, as a control")
    return options


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("end_to_end_rule.py", resumes_after="run"):
        from experiments.end_to_end_rule import claims, job

        if options.redraw:
            return assets.redraw("end_to_end_rule")
        found = job.recorded(options) if options.plot_only else job.run_all(options)
        summary = job.report(found, Path(options.output))
        print("\n" + claims.table(summary["summaries"]))
        print("\n" + verdict_table(summary["verdicts"]))
        if options.publish:
            assets.publish_runs("end_to_end_rule", [result.path for result in found])
        print(f"\nFigure: {Path(options.output) / 'end_to_end_rule.png'}")


if __name__ == "__main__":
    main()
