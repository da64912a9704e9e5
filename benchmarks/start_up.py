"""How long it takes to import the package, against Keras alone, and until a command line answers.

    python benchmarks/start_up.py

The import is timed on every installed backend, a command line by its CPU time, which help, a wrong
option and the printed ledger take. Each has an interpreter of its own, in turns. The first round,
which also brings files into memory, does not count unless it is the only one. Takes about three
minutes on two CPU cores.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys

from turns import ROOT, cpu_of_children, ratio_row, report, row, take_turns

from running.options import positive

BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "keras_overparam")
ANSWERS = (
    ("mnist_cnn.py", "--help"),
    ("probe.py", "--problems", "no such problem"),
    ("claims.py",),
)
PROGRAM = """
import sys, time
started = time.perf_counter()
import {package}
seconds = time.perf_counter() - started
import json
print(json.dumps([seconds, sorted(sys.modules)]))
"""


class Import:
    """The import of a package on a backend: a job, and the modules that it loads."""

    def __init__(self, package, backend):
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": path}
        self.command = [sys.executable, "-c", PROGRAM.format(package=package)]
        self.modules = set()

    def __call__(self):
        """Seconds of an import."""
        run = subprocess.run(
            self.command, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds, modules = json.loads(run.stdout.splitlines()[-1])
        self.modules = set(modules)
        return seconds


def measure(backend, rounds):
    """Rows of a backend."""
    keras, ours = PACKAGES
    jobs = {package: Import(package, backend) for package in PACKAGES}
    times = take_turns(jobs, rounds)
    times = {package: values[1:] or values for package, values in times.items()}
    more = jobs[ours].modules - jobs[keras].modules
    others = sorted(name for name in more if name.partition(".")[0] != ours)
    facts = {"backend": backend}
    rows = [row(f"import {p}, {backend}", "ms", times[p], **facts) for p in PACKAGES]
    facts |= {"modules": len(more), "modules_of_others": others}
    rows.append(ratio_row(f"import {ours} / {keras}, {backend}", times, ours, keras, **facts))
    print(f"{backend}: {len(more)} modules more, {len(others)} of them of other packages {others}")
    return rows


class Answer:
    """A command line that is to answer at once."""

    def __init__(self, script, *options):
        self.command = [sys.executable, str(ROOT / "reproduce" / script), *options]

    def __call__(self):
        """Seconds of CPU time."""
        before = cpu_of_children()
        subprocess.run(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return cpu_of_children() - before


def measure_answers(rounds):
    """Rows of the command lines."""
    jobs = {" ".join(answer): Answer(*answer) for answer in ANSWERS}
    times = take_turns(jobs, rounds)
    return [row(f"CPU time of {name}", "ms", times[name][1:] or times[name]) for name in jobs]


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=positive(int), default=7, help="(%(default)s)")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, help="(all installed)")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_start_up.json")
    options = parser.parse_args(arguments)
    installed = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    rows = [
        line
        for backend in options.backends or installed
        for line in measure(backend, options.rounds)
    ]
    rows += measure_answers(options.rounds)
    report(rows, options.output, rounds=options.rounds)


if __name__ == "__main__":
    main()
