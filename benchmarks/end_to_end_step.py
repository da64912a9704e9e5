"""Duration of an `EndToEnd` step on one kernel, against Muon, SGD and the textbook's way.

    python benchmarks/end_to_end_step.py

Muon is the peer: it too transforms the gradient of each matrix by matrix products. "Textbook" is
the rule with a singular value decomposition, or with the square roots of both Gram matrices, as
one would write it down. "Kept" is `tolerance=0.01` while the preconditioner is valid. Takes about
two minutes on two CPU cores.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf
from turns import ROOT, ratio_row, report, row, take_turns

from keras_overparam import EndToEnd

SHAPES = [(3136, 512), (1024, 1024)]
DEPTH = 2


class TextbookSVD(keras.optimizers.SGD):
    """The rule through a singular value decomposition."""

    def update_step(self, gradient, variable, learning_rate):
        singular, left, right = tf.linalg.svd(tf.convert_to_tensor(variable))
        # Columns of the gradient outside the range of the kernel see the right side's term only.
        ranged = tf.matmul(left, gradient, transpose_a=True) @ right
        weights = singular[:, None] + singular[None, :]
        outside = gradient - left @ tf.matmul(left, gradient, transpose_a=True)
        update = left @ (weights * ranged) + (outside @ right) * singular
        super().update_step(tf.matmul(update, right, transpose_b=True), variable, learning_rate)


class TextbookEigh(keras.optimizers.SGD):
    """The rule through the square roots of both Gram matrices."""

    def update_step(self, gradient, variable, learning_rate):
        kernel = tf.convert_to_tensor(variable)
        update = self.root(kernel, False) @ gradient + gradient @ self.root(kernel, True)
        super().update_step(update, variable, learning_rate)

    @staticmethod
    def root(kernel, right):
        gram = tf.matmul(kernel, kernel, transpose_a=right, transpose_b=not right)
        values, vectors = tf.linalg.eigh(gram)
        return tf.matmul(vectors * tf.sqrt(tf.maximum(values, 0)), vectors, transpose_b=True)


def optimizers():
    """Contenders, by name; rates so small that the kernel stays what it is."""
    return {
        "SGD": keras.optimizers.SGD(1e-6),
        "Muon": keras.optimizers.Muon(1e-6),
        "EndToEnd, exact": EndToEnd(1e-6, DEPTH),
        "EndToEnd, kept": EndToEnd(1e-6, DEPTH, tolerance=0.01),
        "textbook, SVD": TextbookSVD(1e-6),
        "textbook, eigh of both sides": TextbookEigh(1e-6),
    }


def job(optimizer, shape, steps):
    """A function that times some steps on a random kernel."""
    rng = np.random.default_rng(0)
    kernel = keras.Variable((rng.normal(size=shape) / np.sqrt(shape[0])).astype("float32"))
    gradient = tf.constant(rng.normal(size=shape).astype("float32"))
    optimizer.build([kernel])
    step = tf.function(lambda: optimizer.apply([gradient], [kernel]))
    step()

    def seconds():
        started = time.perf_counter()
        for _ in range(steps):
            step()
        kernel.numpy()
        return (time.perf_counter() - started) / steps

    return seconds


def measure(shape, rounds, steps):
    """Rows of one shape."""
    jobs = {name: job(optimizer, shape, steps) for name, optimizer in optimizers().items()}
    if max(shape) > 2000:  # takes many seconds
        del jobs["textbook, eigh of both sides"]
    times = take_turns(jobs, rounds)
    where = f"{shape[0]}×{shape[1]}"
    rows = [row(f"{name}, {where}", "ms per step", values) for name, values in times.items()]
    for name in ("EndToEnd, exact", "EndToEnd, kept"):
        rows.append(ratio_row(f"{name} / Muon, {where}", times, name, "Muon"))
    for name in times:
        if name.startswith("textbook"):
            what = f"{name} / EndToEnd, exact, {where}"
            rows.append(ratio_row(what, times, name, "EndToEnd, exact"))
    return rows


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="per turn")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_end_to_end_step.json")
    parser.add_argument("--shapes", nargs="+", help="like 3136x512")
    options = parser.parse_args(arguments)
    shapes = [tuple(map(int, text.split("x"))) for text in options.shapes or []] or SHAPES
    rows = [line for shape in shapes for line in measure(shape, options.rounds, options.steps)]
    report(rows, options.output, rounds=options.rounds, steps_per_turn=options.steps, depth=DEPTH)


if __name__ == "__main__":
    main()
