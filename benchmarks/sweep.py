"""Duration of a sweep's iterations, against the ways one would otherwise train a grid.

    python benchmarks/sweep.py

Full-batch gradient descent of l4 regression on Ethanol (2,565 × 128) in float32, per configuration
and iteration, in steady state: compilation, which every way but NumPy's has, is left out, and the
engine is timed by the loop that `sweep_linear_networks` runs between two records. The ways:
Keras's `model.fit`, one configuration after another; NumPy over the columns of one matrix, as one
writes it, and with the power as products in place; JAX's
`vmap` of a plain loss under `scan`, with optax's SGD (left out without optax). The share of the
peak counts `4 n d` operations per configuration and iteration, and takes for peak the product of
two square matrices on TensorFlow in the same round. How an iteration's duration grows with the
number of configurations is an exponent. Takes about ten minutes on two CPU cores.
"""

import argparse
import functools
import importlib.util
import time

import keras
import numpy as np
from limits import matrix_product
from turns import ROOT, growth, ratio_row, report, row, steady, take_turns

from datasets import gas_sensor
from keras_overparam import FactoredDense, LpLoss
from keras_overparam.sweep.engine import _Sweep

POWER = 4
STEPS = {"engine": 200, "NumPy": 5, "NumPy in place": 50, "JAX": 200, "model.fit": 100}
PEAK = "matrix product"
ENGINE = "engine, depth {}, {} configurations"
OTHER = "{}, depth {}, {} configurations"
FIT = "model.fit, depth {}, {} steps per execution"


def starts(depth, count, inputs):
    """Factors of width 1, and rates at which nothing diverges."""
    rng = np.random.default_rng(0)
    first = 0.01 * rng.normal(size=(count, inputs, 1))
    factors = [first, *[np.ones((count, 1, 1))] * (depth - 1)]
    return [f.astype("float32") for f in factors], np.geomspace(1e-5, 1e-4, count, dtype="float32")


def timed(advance, steps):
    """A job: seconds of some iterations."""
    for _ in range(2):  # compiles
        advance(steps)

    def seconds():
        started = time.perf_counter()
        advance(steps)
        return time.perf_counter() - started

    return seconds


def engine(features, target, depth, count):
    factors, rates = starts(depth, count, features.shape[1])
    sweep = _Sweep(features, target, factors, "sgd", rates, 10**6, POWER, "float32")
    trainer = sweep._trainer()
    done = 0

    def advance(steps):
        nonlocal done
        trainer.advance(done, steps)
        done += steps
        assert (trainer.steps() == done).all()  # waits, and nothing has diverged

    return advance


def numpy_loop(features, target, depth, count, in_place=False):
    factors, rates = starts(depth, count, features.shape[1])
    x, y = features.astype("float32"), target.astype("float32").reshape(-1, 1)
    first, scalars = factors[0][:, :, 0].T.copy(), np.ones((depth - 1, count), "float32")

    def advance(steps):
        nonlocal first
        for _ in range(steps):
            product = first * np.prod(scalars, axis=0)
            residuals = x @ product
            if in_place:
                residuals -= y
                slopes = residuals * residuals
                slopes *= residuals
            else:
                slopes = (residuals - y) ** (POWER - 1)
            gradient = x.T @ slopes / len(x)
            inner = np.sum(gradient * first, axis=0)
            others = [np.prod(np.delete(scalars, j, axis=0), axis=0) for j in range(depth - 1)]
            first = first - rates * gradient * np.prod(scalars, axis=0)
            for j, other in enumerate(others):
                scalars[j] -= rates * inner * other

    return advance


def jax_scan(features, target, depth, count):
    import jax
    import jax.numpy as jnp
    import optax

    factors, rates = starts(depth, count, features.shape[1])
    x, y = (jnp.asarray(a, "float32") for a in (features, target.reshape(-1, 1)))

    def loss(parameters):
        return jnp.mean((x @ functools.reduce(jnp.matmul, parameters) - y) ** POWER) / POWER

    def step(parameters, state, rate):
        optimizer = optax.sgd(rate)
        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    @functools.partial(jax.jit, static_argnums=1)
    def run(carry, steps):
        body = lambda carry, _: (jax.vmap(step)(*carry, rates), None)  # noqa: E731
        return jax.lax.scan(body, carry, None, length=steps)[0]

    parameters = [jnp.asarray(f) for f in factors]
    carry = parameters, jax.vmap(optax.sgd(1.0).init)(parameters)

    def advance(steps):
        nonlocal carry
        carry = jax.block_until_ready(run(carry, steps))

    return advance


def model_fit(features, target, depth, steps_per_execution):
    import tensorflow as tf

    layer = FactoredDense(1, depth=depth, use_bias=False) if depth > 1 else None
    layer = layer or keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((features.shape[1],)), layer])
    sgd = keras.optimizers.SGD(1e-5)
    model.compile(optimizer=sgd, loss=LpLoss(POWER), steps_per_execution=steps_per_execution)
    x, y = (a.astype("float32") for a in (features, target.reshape(-1, 1)))
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    fit = {"shuffle": False, "verbose": 0}

    def advance(steps):
        if steps_per_execution == 1:
            model.fit(x, y, batch_size=len(x), epochs=steps, **fit)
        else:  # one epoch of so many full batches
            model.fit(data, steps_per_epoch=steps, **fit)

    return advance


def contenders(data, depths, counts, scale):
    """By name, jobs and how many iterations of configurations a turn of them does."""
    features, target = np.asarray(data.features), np.asarray(data.target)
    steps = {name: max(2, round(scale * number)) for name, number in STEPS.items()}
    jobs, work = {}, {}

    def add(name, way, advance, count):
        jobs[name], work[name] = timed(advance, steps[way]), steps[way] * count

    careful = functools.partial(numpy_loop, in_place=True)
    ways = {"NumPy": numpy_loop, "NumPy in place": careful, "JAX": jax_scan}
    if not importlib.util.find_spec("optax"):
        print("optax is missing: no rows for JAX.")
        del ways["JAX"]
    for depth in depths:
        for count in counts:
            advance = engine(features, target, depth, count)
            add(ENGINE.format(depth, count), "engine", advance, count)
        for way, make in ways.items():
            advance = make(features, target, depth, counts[0])
            add(OTHER.format(way, depth, counts[0]), way, advance, counts[0])
        for at_once in (1, 50):
            advance = model_fit(features, target, depth, min(at_once, steps["model.fit"]))
            add(FIT.format(depth, at_once), "model.fit", advance, 1)
    return jobs, work


def measure(data, depths, counts, rounds, scale, size):
    """Rows of the table."""
    jobs, work = contenders(data, depths, counts, scale)
    milliseconds = take_turns({PEAK: steady(matrix_product(size))} | jobs, rounds)
    per_operation = np.array(milliseconds.pop(PEAK)) * 1e3 / (2 * size**3)
    times = {name: 1e3 * np.array(milliseconds[name]) / work[name] for name in jobs}
    rows = [row(name, "µs per configuration-iteration", times[name]) for name in jobs]
    for depth in depths:
        ours = ENGINE.format(depth, counts[0])
        for name in times:
            if f", depth {depth}, " in name and not name.startswith("engine"):
                rows.append(ratio_row(f"{name} / engine", times, name, ours))
    operations = 4 * np.size(data.features)
    for name in times:
        if name.startswith("engine"):
            share = operations * per_operation / times[name]
            rows.append(row(f"share of the peak, {name}", "ratio", share))
    for depth in depths:
        curve = {count: count * times[ENGINE.format(depth, count)] for count in counts}
        rows += growth(f"the sweep engine of depth {depth}, with configurations", curve)
    for depth in depths[1:]:
        high, low = (ENGINE.format(d, counts[0]) for d in (depth, depths[0]))
        rows.append(ratio_row(f"engine, depth {depth} / depth {depths[0]}", times, high, low))
    return rows


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--configurations",
        type=int,
        nargs="+",
        help="others race the first",
        default=[128, 1, 8, 32, 512, 2048],
    )
    parser.add_argument("--dataset", default="gas_sensor", choices=gas_sensor.DATASETS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the iterations per turn")
    parser.add_argument("--peak-size", type=int, default=2048)
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_sweep.json")
    options = parser.parse_args(arguments)
    data = gas_sensor.load_ethanol(options.dataset, None, None)
    settings = options.depths, options.configurations, options.rounds, options.scale
    rows = measure(data, *settings, options.peak_size)
    steps = max(2, round(options.scale * STEPS["engine"]))
    report(rows, options.output, rounds=options.rounds, steps_per_turn=steps, power=POWER)


if __name__ == "__main__":
    main()
