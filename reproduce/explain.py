"""The idea in one figure: what depth does to gradient descent on two weights.

    python reproduce/explain.py               into runs/explain/
    python reproduce/explain.py --publish     into assets/ too

The field of arrows that gradient descent on one, two and four factors follows, with trajectories at
each depth's fastest learning rate; how typical that is of random problems; and the closed loop of
the theorem that no regularizer does what depth does. No data and no training runs are needed. About
a minute on two CPU cores.
"""

from experiments.vector_field.settings import Settings
from publishing import assets
from running import options as opt
from running import records
from running.commands import command


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    opt.add_fields(parser, Settings, "problems")
    parser.add_argument("--output", default="runs/explain", help="folder (%(default)s)")
    parser.add_argument("--publish", action="store_true", help="draw into assets/ too")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("explain.py", resumes_after=None):
        from experiments.vector_field import field
        from experiments.vector_field.figures import draw_all, report

        output = records.make_folder(options.output)
        shown = field.compute(Settings(problems=options.problems))
        print("\n".join(report(shown)))
        draw_all(shown, output)
        if options.publish:
            assets.room("vector_field").draw(shown)
        print(f"Figure: {output / 'vector_field'}.png and .svg, animated .gif")


if __name__ == "__main__":
    main()
