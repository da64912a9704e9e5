"""Does the probe's advice hold? On real problems, short sweeps against the full run.

    python reproduce/probe.py                                all problems
    python reproduce/probe.py --problems "wine, l4" "iris, cross-entropy"
    python reproduce/probe.py --publish                      and the records into assets/

`keras_overparam.probe` runs on every problem for a tenth of the iterations, and says which depth to
use. Then the full run: depths 1, 2 and 3 on all examples, from starts that the probe did not see,
each at its best learning rate and scale of the start. About an hour on two CPU cores. A problem
that is on record is not run again.
"""

from experiments.probe.problems import PROBLEMS, SHORTEST
from publishing import assets
from running import options as opt
from running import records
from running.commands import command, distribute


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    some = f"some of: {'; '.join(PROBLEMS)}"
    opt.add_several(parser, "problems", choices=list(PROBLEMS), metavar="PROBLEM", help=some)
    parser.add_argument("--horizon", type=opt.positive(int), help="iterations of the full runs")
    opt.add_data_options(parser, (), "archives of MNIST and the gas sensor")
    opt.add_flags(opt.add_output_options(parser, "runs/probe"), "publish")
    options = parser.parse_args(arguments)
    if options.horizon is not None and options.horizon < SHORTEST:
        parser.error(f"--horizon must be at least {SHORTEST}, received {options.horizon}")
    return options


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("probe.py", resumes_after="problem"):
        from experiments.probe import figures, results, runs

        distribute(options)
        output = records.make_folder(options.output)
        made = {name: runs.run(PROBLEMS[name], options, output) for name in options.problems}
        found = {name: record.outcome() for name, record in made.items()}
        print(results.table(found))
        figures.draw(found, output / "probe.png")
        print(f"\nFigure: {output / 'probe.png'}")
        if options.publish:
            assets.publish_runs("probe", [record.path for record in made.values()])


if __name__ == "__main__":
    main()
