"""Does the probe's advice hold? On real problems, short sweeps against the full run.

    python reproduce/probe.py                                all problems
    python reproduce/probe.py --problems "wine, l4" "iris, cross-entropy"
    python reproduce/probe.py --publish                      and the records into assets/

`keras_overparam.probe` runs on every problem for a tenth of the iterations, and says which depth to
use. Then the full run: depths 1, 2 and 3 on all examples, from starts that the probe did not see,
each at its best learning rate and scale of the start. About an hour on two CPU cores. A problem
that is on record is not run again.
"""

import argparse
import dataclasses
import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from tqdm.auto import tqdm

from experiments.probe import figures as probe_figure
from experiments.probe import results as probe_results
from experiments.probe.problems import LOSSES, PROBLEMS
from keras_overparam import probe
from keras_overparam.advice import STARTS, Tuned
from running import records
from running.commands import command
from running.options import (
    Distinct,
    add_data_options,
    add_output_options,
    choose_device,
    positive,
)

ASSETS = Path(__file__).resolve().parents[1] / "assets" / "probe"
DEPTHS = (2, 3)
SHARE = 10  # the full run's iterations over the probe's
SHORTEST = 8 * SHARE  # full run: the probe asks for 8 iterations
DIRECTIONS = 3  # of the full run's start
FULL_SEED = 1000  # of the first


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--problems",
        nargs="+",
        action=Distinct,
        choices=PROBLEMS,
        default=list(PROBLEMS),
        metavar="PROBLEM",
        help=f"some of: {'; '.join(PROBLEMS)}",
    )
    parser.add_argument("--horizon", type=positive(int), help="iterations of the full runs")
    add_data_options(parser, (), "archives of MNIST and the gas sensor")
    machine = add_output_options(parser, "runs/probe")
    machine.add_argument("--publish", action="store_true", help="put the records into assets/ too")
    options = parser.parse_args(arguments)
    if options.horizon is not None and options.horizon < SHORTEST:
        parser.error(f"--horizon must be at least {SHORTEST}, received {options.horizon}")
    return options


def full_run(kind, features, targets, horizon, progress):
    """Speed-ups of the depths over depth 1 by direction of the start, at full length."""
    speed_ups = {depth: [] for depth in DEPTHS}
    tuned = []
    for seed in range(FULL_SEED, FULL_SEED + DIRECTIONS):
        tuned.append(Tuned(kind, features, targets, STARTS, horizon, np.random.default_rng(seed)))
        for depth in (1, *DEPTHS):
            tuned[-1].tune(depth)
            progress(1 / (DIRECTIONS * (1 + len(DEPTHS))))
        for depth in DEPTHS:
            speed_ups[depth].append(tuned[-1].speed_up(depth))
    return {
        "speed_ups": speed_ups,
        "lowest": {n: [float(one.curves[n][-1].min()) for one in tuned] for n in (1, *DEPTHS)},
        "rates": {n: [one.rates[n] for one in tuned] for n in (1, *DEPTHS)},
        "starts": {n: [one.norms[n] for one in tuned] for n in (1, *DEPTHS)},
        "inside": all(one.inside for one in tuned),
    }


def run(name, options, output):
    """Probe one problem and run it in full, unless that is on record; the record."""
    problem = PROBLEMS[name]
    horizon = options.horizon or problem.horizon
    folder = f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{horizon}"
    record = records.Record(records.make_folder(output / folder))
    record.mend()
    if record.outcome() and not options.again:
        return record
    record.keep([])
    features, targets = problem.load(options.data_dir, options.archives)
    record.append(
        "start",
        settings={"problem": name, "horizon": horizon, "iterations": horizon // SHARE},
        data={"shape": list(features.shape)},
        versions=records.versions(),
        device=records.device_name(),
    )
    kind = LOSSES[problem.loss]
    with tqdm(total=2.0, desc=name, bar_format="{desc}: {percentage:3.0f}% {elapsed}") as bar:
        advice = probe(
            kind,
            (features, targets),
            depths=DEPTHS,
            iterations=horizon // SHARE,
            horizon=horizon,
            progress=bar.update,
        )
        full = full_run(kind, features, targets, horizon, bar.update)
    words = dataclasses.asdict(advice)
    words["reasons"] = advice.reasons._asdict()
    record.append("outcome", advice=words, full=full)
    return record


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("probe.py", resumes_after="problem"):
        choose_device(options.device)
        output = records.make_folder(options.output)
        with records.only_one(output):
            made = {name: run(name, options, output) for name in options.problems}
        found = {name: record.outcome() for name, record in made.items()}
        print(probe_results.table(found))
        probe_figure.draw(found, output / "probe.png")
        print(f"\nFigure: {output / 'probe.png'}")
        if options.publish:
            ASSETS.mkdir(exist_ok=True)
            for record in made.values():
                records.publish(record.path, ASSETS / f"{record.path.parent.name}.jsonl.gz")


if __name__ == "__main__":
    main()
