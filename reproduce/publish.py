"""Put finished runs into assets/, and redraw from there all that README and site show of them.

    python reproduce/publish.py                           redraw figures, summaries and tables
    python reproduce/publish.py --runs runs/mnist_cnn     take over finished runs first

Every number in the pages' generated parts comes from the records in assets/; a test compares. The
figure of arrows is computed, which takes a minute.
"""

import os
from pathlib import Path

from publishing import assets
from running.options import command_parser


def parse(arguments=None):
    """Options of the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--runs", help="folder of finished runs to take over first")
    options = parser.parse_args(arguments)
    if options.runs is not None and not os.path.isdir(options.runs):
        parser.error(f"--runs must be a folder of runs, received {options.runs!r}")
    return options


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with assets.command("publish.py"):
        if options.runs:
            assets.take_over(sorted(Path(options.runs).glob("**/record.jsonl")))
        assets.publish()


if __name__ == "__main__":
    main()
