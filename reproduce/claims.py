"""The claims ledger: what of the paper was reproduced, from the records in assets/.

    python reproduce/claims.py            print it
    python reproduce/claims.py --write    write assets/claims.json and all tables too

Nothing is trained; what is printed is assets/claims.json, which every --publish makes anew.
"""

from publishing import assets
from running.options import command_parser
from running.records import read_json


def parse(arguments=None):
    """Options of the command line."""
    parser = command_parser(__doc__)
    parser.add_argument("--write", action="store_true", help="publish it, and all other tables")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with assets.command("claims.py"):
        if options.write:
            assets.publish()
        for row in read_json(assets.ROOT / "assets" / assets.LEDGER):
            print(f"{row['verdict'].upper()}: {row['claim']}")
            print(f"    {row['measured']}\n    {row['why']}")


if __name__ == "__main__":
    main()
