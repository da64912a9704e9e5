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

from pathlib import Path

from datasets.gas_sensor import DATASETS
from experiments.gas_sensor.models import WHAT
from experiments.gas_sensor.settings import Settings
from publishing import assets
from running import options as opt
from running.commands import command


def parse(arguments=None):
    """Options of the command line."""
    experiments = "\n".join(f"  {name:6s} {what}" for name, what in WHAT.items())
    parser = opt.command_parser(f"{__doc__}\nExperiments:\n{experiments}")
    group = parser.add_argument_group("experiment")
    opt.add_several(group, "experiments", choices=(*WHAT, "all"), default=["l4"])
    opt.add_seeds(group, [0, 1, 2, 3, 4])
    opt.add_fields(group, Settings, "iterations", "scale", "target")
    opt.add_data_options(parser, DATASETS, "gas sensor archive")
    machine = opt.add_output_options(parser, output="runs/gas_sensor")
    opt.add_strategy_option(machine)
    opt.add_flags(machine, "plot_only", "redraw", "publish")
    options = parser.parse_args(arguments)
    if "all" in options.experiments:
        options.experiments = list(WHAT)
    return options


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("gas_sensor.py", resumes_after="part of a run"):
        from experiments.gas_sensor import job

        if options.redraw:
            return assets.redraw("gas_sensor")
        found = job.recorded(options) if options.plot_only else job.run_all(options)
        for experiment in found:
            print(f"Figure: {Path(options.output) / f'gas_sensor_{experiment}.png'}")
        if options.publish:
            paths = {result.path for group in found.values() for result in group}
            assets.publish_runs("gas_sensor", paths)


if __name__ == "__main__":
    main()
