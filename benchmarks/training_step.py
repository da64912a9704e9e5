"""What a training step of a factored layer costs: against plain and stacked layers, and PyTorch's.

    python benchmarks/training_step.py

Square layers around one of width 512, depth 2 and 64 examples, of which batch, width and depth are
varied one at a time. The contenders of a point take turns, and so do the machine's limits, of which
each has a share: of the arithmetic of a large matrix product, by the operations that it needs, and
of the traffic to memory, by the accesses to parameters alone (above one where they fit in a cache).

Then the order in which products are taken: the factored layer against the same layer written by
hand for every order, where the best one depends on the batch. Then growth, as exponents of time in
batch, width and depth, beside those of the operation count. Then peak memory: a square layer of
depth 2 has twice the parameters by construction.

The peers' rows are left out where PyTorch, or github.com/minyoungg/overparam, is not installed.
Takes about a quarter of an hour on two CPU cores.
"""

import argparse
import gc
import json
from pathlib import Path

import numpy as np
import peak_memory
import tensorflow as tf
from keras_training import dense, factored, ordered, stacked
from limits import addition, fastest_size, long_vector, matrix_product
from linear_task import ITEM_SIZES, Task, in_words
from torch_training import LINEAR, OVERPARAM, Torch
from tqdm.auto import tqdm
from turns import ROOT, exponents, ratio_row, report, row, steady, take_turns

from publishing import benchmark_figure
from running import records
from running.options import positive

PLAIN, FACTORED, STACKED = "Dense", "FactoredDense", "stacked Dense"
UNKNOWN = "FactoredDense, unknown batch"
KERAS = {
    PLAIN: dense,
    FACTORED: factored,
    UNKNOWN: lambda task: factored(task, known_batch=False),
    STACKED: stacked,
}
ONE_MATRIX = (PLAIN, LINEAR)
IN_SEQUENCE = (STACKED, OVERPARAM)
RATIOS = [(FACTORED, PLAIN), (FACTORED, STACKED), (UNKNOWN, FACTORED), (OVERPARAM, LINEAR)]
BASE = {"batch": 64, "width": 512, "depth": 2}
GRIDS = {
    "batch": [1, 4, 16, 64, 256, 1024, 4096],
    "width": [64, 128, 256, 512, 1024, 2048, 4096],
    "depth": [1, 2, 3, 4, 6, 8],
}
SHAPES = [
    (3136, 512, 512, 10),
    (64, 1024, 64),
    (1024, 64, 1024),
    (512, 512, 512),
    (256, 1024, 64, 1024),
]
ORDER_BATCHES = [16, 256, 4096]
MEMORY = {
    "tutorial CNN, no L2": [
        {"depth": 1, "regularize": "none"},
        {"depth": 2, "regularize": "none"},
    ],
    "tutorial CNN, L2 on factors": [
        {"depth": 1, "regularize": "product"},
        {"depth": 2, "regularize": "factors"},
    ],
    "tutorial CNN, L2 on product": [
        {"depth": 1, "regularize": "product"},
        {"depth": 2, "regularize": "product"},
    ],
} | {
    f"square layer of width 1024, batch {batch}": [
        {"sizes": [1024] * 2, "batch": batch},
        {"sizes": [1024] * 3, "batch": batch},
    ]
    for batch in (64, 4096)
}
# Everything tiny, to see whether it runs.
QUICK = {
    "grids": {"batch": [2, 4], "width": [8], "depth": [2]},
    "base": {"batch": 2, "width": 8, "depth": 2},
    "shapes": [(6, 4, 2)],
    "order_batches": [2],
    "memory": {"square layer of width 256, batch 2": [{"sizes": [256] * 3, "batch": 2}]},
    "measure_memory": peak_memory.measure_here,  # saves the time to import TensorFlow again
    "rounds": 1,
    "repeats": 1,
    "turn": 1e-4,
    "product": {"first": 64, "longest": 0},
    "elements": 2**10,
}
PRODUCT, MEMORY_TRAFFIC = "matrix product", "addition in memory"


class Limits:
    """The machine's limits: jobs that take turns with others, and what they measured so far."""

    def __init__(self, options):
        self.size = fastest_size(options.dtype, **options.product)
        self.elements = options.elements or long_vector()
        self.jobs = {
            PRODUCT: steady(matrix_product(self.size, options.dtype), options.turn),
            MEMORY_TRAFFIC: steady(addition(self.elements, options.dtype), options.turn),
        }
        self.item_size = ITEM_SIZES[options.dtype]
        self.rates = {name: [] for name in self.jobs}
        self.take(take_turns(self.jobs, 1))

    def take(self, times):
        """Take the limits' turns out of others': operations and bytes per millisecond."""
        work = {PRODUCT: 2 * self.size**3, MEMORY_TRAFFIC: 3 * self.item_size * self.elements}
        rates = {name: work[name] / np.array(times.pop(name)) for name in self.jobs}
        for name, values in rates.items():
            self.rates[name] += list(values)
        return rates[PRODUCT], rates[MEMORY_TRAFFIC]

    def seconds(self, operations, traffic):
        """What work would take at the limits, one after the other."""
        peak, bandwidth = (np.median(values) for values in self.rates.values())
        return 1e-3 * (operations / peak + traffic / bandwidth)

    def rows(self):
        """Rows of all that was measured."""
        what = f"{PRODUCT}, {self.size}×{self.size}"
        yield row(what, "GFLOP/s", 1e-6 * np.array(self.rates[PRODUCT]), limit="arithmetic")
        values = 1e-6 * np.array(self.rates[MEMORY_TRAFFIC])
        yield row(MEMORY_TRAFFIC, "GB/s", values, limit="memory")


def task_of(name, task):
    """The matrices that a contender has, and the order in which it multiplies."""
    if name in ONE_MATRIX:
        return task.plain, task.plain.in_sequence()
    return task, task.in_sequence() if name in IN_SEQUENCE else task.cheapest_order()


def check_contenders(torch, options):
    """Compare what all contenders learn in a small task with the oracle.

    Of a single step for the peer, whose hidden layers' biases are zero before it.
    """
    task = Task((6, 6, 6), 4, options.dtype, options.jit, rate=0.5)
    found = {name: make(task) for name, make in KERAS.items()}
    found |= {in_words(order): ordered(task, order) for order in task.orders()}
    for training in found.values():
        for _ in range(3):
            training.step()
    found = {name: (training.values(), 3) for name, training in found.items()}
    for name in torch.layers:
        steps = 1 if name == OVERPARAM else 3
        found[name] = torch.trained(name, task, steps), steps
    tolerance = 0.05 if options.dtype == "bfloat16" else 1e-5
    for name, (values, steps) in found.items():
        for value, truth in zip(values, task_of(name, task)[0].trained(steps), strict=True):
            np.testing.assert_allclose(value, truth, rtol=0, atol=tolerance, err_msg=name)


def measure_point(point, limits, torch, options):
    """Milliseconds of all contenders at a point of the grid, and their rows.

    Returns:
        Times by contender, of each round; rows. Both empty if a step would take too long.
    """
    where = ", ".join(f"{name} {value}" for name, value in point.items())
    sizes = (point["width"],) * (point["depth"] + 1)
    task = Task(sizes, point["batch"], options.dtype, options.jit)
    longest = limits.seconds(task.operations(task.in_sequence()), task.traffic())
    if longest > options.longest:
        print(f"{where}: left out, a step takes {longest:.0f} s or more (see --longest).")
        return {}, []
    print(where)
    jobs = {name: steady(make(task).step, options.turn) for name, make in KERAS.items()}
    jobs |= {name: torch.job(name, task, turn=options.turn) for name in torch.layers}
    times = take_turns(limits.jobs | jobs, options.rounds)
    peak, bandwidth = limits.take(times)
    rows = []
    for name, values in times.items():
        own, order = task_of(name, task)
        facts = {"contender": name, "operations": own.operations(order)} | point
        facts["share_of_peak"] = share(own.operations(order) / peak, values)
        facts["share_of_bandwidth"] = share(own.traffic() / bandwidth, values)
        rows.append(row(f"{name}, {where}", "ms per step", values, **facts))
    for a, b in RATIOS:
        if a in times:
            facts = {"contender": a, "against": b} | point
            rows.append(ratio_row(f"{a} / {b}, {where}", times, a, b, **facts))
    return times, rows


def share(at_the_limit, times):
    """Median share of a limit."""
    return round(float(np.median(at_the_limit / np.array(times))), 4)


def measure_grid(limits, torch, options):
    """Rows of all points, and of the growth from each to the next."""
    times, rows = {}, []
    for axis, values in options.grids.items():
        for value in values:
            point = options.base | {axis: value}
            key = tuple(point.values())
            if key not in times:
                times[key], lines = measure_point(point, limits, torch, options)
                rows += lines
                gc.collect()
    for axis, values in options.grids.items():
        points = [options.base | {axis: value} for value in values]
        points = [point for point in points if times[tuple(point.values())]]
        rows += growth(axis, points, times)
        if len(points) > 3:
            rows += growth(axis, points[len(points) // 2 :], times)
    return rows


def growth(axis, points, times):
    """Rows of the exponents with which times grow along an axis of the grid."""
    values = [point[axis] for point in points]
    if len(values) < 2:
        return
    where = f"with {axis}, {values[0]} to {values[-1]}"
    for name in times[tuple(points[0].values())]:
        measured = [times[tuple(point.values())][name] for point in points]
        slopes = exponents(values, measured)
        tasks = [Task((p["width"],) * (p["depth"] + 1), p["batch"]) for p in points]
        pairs = [task_of(name, task) for task in tasks]
        (counted,) = exponents(values, [[own.operations(order)] for own, order in pairs])
        facts = {"contender": name, "axis": axis, "counted": round(float(counted), 4)}
        facts["range"] = [round(float(v), 4) for v in (slopes.min(), slopes.max())]
        what = f"growth of {name} {where} (operations: {abs(counted):.2f})"
        yield row(what, "exponent", slopes, **facts)


def measure_orders(sizes, batch, options):
    """Rows of one factored layer against all orders of its products."""
    task = Task(sizes, batch, options.dtype, options.jit)
    where = f"{'-'.join(map(str, sizes))}, batch {batch}"
    print(f"orders of {where}")
    jobs = {order: steady(ordered(task, order).step, options.turn) for order in task.orders()}
    layer = steady(factored(task).step, options.turn)
    times = take_turns({FACTORED: layer} | jobs, options.rounds)
    facts = {"sizes": sizes, "batch": batch}
    rows = [row(f"{FACTORED}, {where}", "ms per step", times[FACTORED], **facts)]
    for order in jobs:
        own = facts | {"order": in_words(order), "operations": task.operations(order)}
        rows.append(row(f"{in_words(order)}, {where}", "ms per step", times[order], **own))
    cheapest = task.cheapest_order()
    fastest = min(jobs, key=lambda order: np.median(times[order]))
    for which, order in {"the cheapest by count": cheapest, "the fastest": fastest}.items():
        what = f"{FACTORED} / {which}, {where}"
        own = facts | {"against": which, "order": in_words(order)}
        rows.append(ratio_row(what, times, FACTORED, order, **own))
    gc.collect()
    return rows


def measure_memory(options):
    """Rows of peak memory, and of the ratios of depth 2 to plain networks."""
    networks = {json.dumps(n): n for pair in options.memory.values() for n in pair}
    peaks, parameters = {key: [] for key in networks}, {}
    for key in tqdm(options.repeats * list(networks), unit="process"):
        found = options.measure_memory(**networks[key])
        if found is None:
            print("This system does not say how much memory a process takes: no rows for it.")
            return
        peaks[key].append(found["megabytes"])
        parameters[key] = found["parameters"]
    for name, pair in options.memory.items():
        for network in pair:
            depth = network.get("depth") or len(network["sizes"]) - 1
            what = f"peak memory, {name}, {'plain' if depth == 1 else f'depth {depth}'}"
            values = peaks[json.dumps(network)]
            yield row(what, "MB", values, parameters=parameters[json.dumps(network)])
        if len(pair) == 2:
            plain, deep = map(json.dumps, pair)
            yield ratio_row(f"peak memory, {name}, depth 2 / plain", peaks, deep, plain)


def parse(arguments=None):
    """Options of the command line; `--quick` overrides them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=positive(int), default=7, help="(%(default)s)")
    parser.add_argument("--turn", type=positive(float), default=0.05, help="seconds (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of peak memory (%(default)s)")
    for axis, name in {"batch": "--batches", "width": "--widths", "depth": "--depths"}.items():
        kind = {"type": positive(int), "nargs": "*", "dest": axis}
        parser.add_argument(name, default=GRIDS[axis], help="of the grid (%(default)s)", **kind)
    parser.add_argument("--dtype", choices=ITEM_SIZES, default="float32")
    parser.add_argument("--jit", action="store_true", help="compile by XLA")
    parser.add_argument(
        "--longest", type=positive(float), default=2, help="seconds of a step (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see whether it runs")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_training_step.json")
    options = parser.parse_args(arguments)
    options.grids = {axis: getattr(options, axis) for axis in GRIDS}
    options.base, options.product, options.elements = BASE, {}, None
    options.shapes, options.order_batches, options.memory = SHAPES, ORDER_BATCHES, MEMORY
    options.measure_memory = peak_memory.measure
    if options.quick:
        vars(options).update(QUICK)
    return options


def main(arguments=None):
    """Measure, print the table, leave it as JSON, draw the figure."""
    options = parse(arguments)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:  # which PyTorch and the processes of `peak_memory` share
        tf.config.experimental.set_memory_growth(gpu, True)
    memory = list(measure_memory(options)) if options.repeats else []
    limits = Limits(options)
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    with Torch(bool(gpus), tf32) as torch:
        check_contenders(torch, options)
        rows = measure_grid(limits, torch, options)
    for sizes in options.shapes:
        for batch in options.order_batches:
            rows += measure_orders(sizes, batch, options)
    report(
        [*limits.rows(), *rows, *memory],
        options.output,
        rounds=options.rounds,
        seconds_per_turn=options.turn,
        dtype=options.dtype,
        jit=options.jit,
        base=options.base,
    )
    benchmark_figure.draw(
        records.read_json(options.output), Path(options.output).with_suffix(".png")
    )


if __name__ == "__main__":
    main()
