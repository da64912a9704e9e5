"""The claims ledger: what of the paper was reproduced, from the records in assets/.

    python reproduce/claims.py            print it
    python reproduce/claims.py --write    write assets/claims.json and all tables too

A few seconds; nothing is trained.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import publish


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="publish it, and all other tables")
    options = parser.parse_args(arguments)
    with publish.command("claims.py"):
        rows = publish.ledger()
    for row in rows:
        print(f"{row['verdict'].upper()}: {row['claim']}\n    {row['measured']}\n    {row['why']}")
    if options.write:
        publish.main([])


if __name__ == "__main__":
    main()
