"""Two consequences of the end-to-end rule, measured on the gas-sensor Ethanol regression.

    python reproduce/consequences.py

Gradient descent over a vector times a scalar as a memory of past gradients: how far the trajectory
rebuilt from them is from gradient descent's. And the theorem that no regularizer does what depth
does: line integrals of the rule's field around a closed loop. A few seconds.
"""

from datasets.gas_sensor import DATASETS, load_ethanol
from publishing import assets
from running import options as opt
from running import records
from running.commands import command, prepare


def parse(arguments=None):
    """Options of the command line."""
    parser = opt.command_parser(__doc__)
    opt.add_seeds(parser, [0, 1, 2, 3, 4])
    opt.add_data_options(parser, DATASETS, "gas sensor archive")
    opt.add_flags(opt.add_output_options(parser, output="runs/consequences"), "publish")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("consequences.py", resumes_after=None):
        from experiments.consequences.runs import measure

        output, data = prepare(options, load_ethanol)
        record = records.Record(output)
        found = measure(data, options.seeds)
        outcome = {
            "kind": "outcome",
            "data": {"name": data.name, "digest": data.digest},
            "versions": records.versions(),
            **found,
            "time": records.now(),
        }
        record.keep([outcome])  # in one step: until then an earlier record is there
        for name, value in found.items():
            print(f"{name}: {records.to_json(value)}")
        if options.publish:
            assets.publish_runs("consequences", [record.path])


if __name__ == "__main__":
    main()
