"""All experiments on linear networks, their figures and the claims ledger, in one command.

    python reproduce/all.py               into runs/
    python reproduce/all.py --publish     and into assets/, README and site

About forty minutes on two CPU cores. Ctrl-C or a kill costs little: the same command goes on. The
MNIST experiments take hours and have their own commands (`mnist_cnn.py`, `mnist_rates.py`,
`other_networks.py`); the ledger takes their published records.
"""

import claims
import consequences
import end_to_end_rule
import gas_sensor
from datasets.gas_sensor import DATASETS
from running.options import command_parser, device, positive

PASSED_ON = ("dataset", "data_dir", "archives", "device")


def parse(arguments=None):
    """Options of the command line."""
    parser = command_parser(__doc__)
    kinds = {"dataset": {"choices": DATASETS}, "device": {"type": device}}
    for name in PASSED_ON:
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, help="as in gas_sensor.py", **kinds.get(name, {}))
    parser.add_argument("--output", default="runs", help="folder of the runs (%(default)s)")
    parser.add_argument("--iterations", type=positive(int), help="of the gas-sensor experiments")
    parser.add_argument("--publish", action="store_true", help="put the results into assets/ too")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    common = [
        part
        for name in PASSED_ON
        if getattr(options, name)
        for part in (f"--{name.replace('_', '-')}", getattr(options, name))
    ]
    common += ["--publish"] * options.publish
    length = ["--iterations", str(options.iterations)] if options.iterations else []
    gas_sensor.main(
        ["--experiments", "all", "--output", f"{options.output}/gas_sensor", *length, *common]
    )
    consequences.main(["--output", f"{options.output}/consequences", *common])
    end_to_end_rule.main(["--output", f"{options.output}/end_to_end_rule", *length, *common])
    claims.main(["--write"] * options.publish)


if __name__ == "__main__":
    main()
