"""All benchmarks, one after the other, and what they say of the targets, in one command.

    python benchmarks/run_all.py                             into assets/, and tables and figure
    python benchmarks/run_all.py --only sweep mnist_step     some of them again

Each leaves its table as JSON in assets/ (`benchmark_*.json`, `zoo.json`); the tables and the
figure in README and site are made from these. Takes about two and a half hours on two CPU cores,
which should do nothing else.
"""

import argparse
import subprocess
import sys

from turns import ROOT

from publishing import assets, benchmark_tables

SCRIPTS = [
    "start_up",
    "training_step",
    "mnist_step",
    "end_to_end_step",
    "optimizer_growth",
    "end_to_end_cnn",
    "kept_rule_error",
    "sweep",
    "monitor",
    "conversion",
    "zoo",
]


def main(arguments=None):
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, metavar="NAME")
    options = parser.parse_args(arguments)
    failed = []
    for name in options.only:  # a process for each: none inherits another's memory or threads
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, ROOT / "benchmarks" / f"{name}.py"]).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"run_all.py: error: these benchmarks failed: {', '.join(failed)}.")
    assets.publish()
    print("\n" + benchmark_tables.target_table(ROOT / "assets"))


if __name__ == "__main__":
    main()
