"""Duration of a training step of the MNIST tutorial: the main job against a bare loop, in turns.

    python benchmarks/mnist_step.py

"Bare" is what one would write by hand: one `tf.function` with the network, its gradient and the
momentum update in raw TensorFlow, called on slices of an array, nothing recorded. "Main" is what
`reproduce/mnist_cnn.py` runs: Keras's `fit` with every step's metrics recorded. Takes about five
minutes on two CPU cores.
"""

import argparse
import functools
import tempfile
import time

import numpy as np
import tensorflow as tf
from turns import ROOT, ratio_row, report, row, take_turns

from experiments.mnist import tutorial_cnn
from experiments.mnist.settings import REGULARIZE, Settings
from experiments.mnist.training import StepRecorder

IMAGES = np.random.default_rng(0).integers(0, 256, (6400, 28, 28, 1)).astype(np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, 6400).astype(np.int32)
CONTENDERS = [
    (kind, depth, regularize)
    for kind in ("bare", "main")
    for depth, regularize in [(1, "product"), (1, "none")]
    + [(2, regularize) for regularize in REGULARIZE]
]
RATIOS = [("main/bare", ("main", d, r), ("bare", d, r)) for _, d, r in CONTENDERS[:5]] + [
    ("FactoredDense/Dense", ("main", 2, "none"), ("main", 1, "none")),
    ("FactoredDense/Dense", ("main", 2, "factors"), ("main", 1, "product")),
    ("FactoredDense/Dense", ("main", 2, "product"), ("main", 1, "product")),
    ("two bare matrices/one", ("bare", 2, "none"), ("bare", 1, "none")),
    ("two bare matrices/one", ("bare", 2, "factors"), ("bare", 1, "product")),
    ("two bare matrices/one", ("bare", 2, "product"), ("bare", 1, "product")),
]


class Bare:
    """The tutorial in raw TensorFlow."""

    def __init__(self, depth, regularize):
        self.regularize = regularize
        self.convolutions = [self.weight(5, 5, 1, 32), self.weight(5, 5, 32, 64)]
        self.dense1 = [self.weight(3136, 512), self.weight(512, 512)][:depth]
        self.dense2 = [self.weight(512, 10), self.weight(10, 10)][:depth]
        self.biases = [tf.Variable(tf.fill([n], 0.1)) for n in (32, 64, 512, 10)]
        self.variables = [*self.convolutions, *self.dense1, *self.dense2, *self.biases]
        self.momenta = [tf.Variable(tf.zeros_like(v)) for v in self.variables]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.train = tf.function(self.train)

    def weight(self, *shape):
        return tf.Variable(tf.random.truncated_normal(shape, stddev=0.1))

    def logits(self, x):
        for kernel, bias in zip(self.convolutions, self.biases[:2], strict=True):
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias))
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
        x = tf.reshape(x, [-1, 3136])
        for matrix in self.dense1:
            x = x @ matrix
        x = tf.nn.dropout(tf.nn.relu(x + self.biases[2]), 0.5)
        for matrix in self.dense2:
            x = x @ matrix
        return x + self.biases[3]

    def l2(self):
        if self.regularize == "none":
            return 0.0
        matrices = self.dense1 + self.dense2
        if self.regularize == "product" and len(self.dense1) > 1:
            matrices = [self.dense1[0] @ self.dense1[1], self.dense2[0] @ self.dense2[1]]
        return 5e-4 * tf.add_n([tf.nn.l2_loss(m) for m in matrices + self.biases[2:]])

    def train(self, x, y):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, self.logits(x))
            objective = tf.reduce_mean(losses) + self.l2()
        gradients = tape.gradient(objective, self.variables)
        rate = 0.01 * 0.95 ** tf.cast(self.step * 64 // 55_000, tf.float32)
        for variable, momentum, gradient in zip(
            self.variables, self.momenta, gradients, strict=True
        ):
            momentum.assign(0.9 * momentum + gradient)
            variable.assign_sub(rate * momentum)
        self.step.assign_add(1)
        return objective

    def seconds(self, steps):
        """Mean duration of a step, the first of the block left out."""
        pixels = (IMAGES.astype(np.float32) - 127.5) / 255.0
        self.train(pixels[:64], LABELS[:64]).numpy()
        started = time.perf_counter()
        for step in range(1, steps):
            first = step * 64 % (len(LABELS) - 64)
            objective = self.train(pixels[first : first + 64], LABELS[first : first + 64])
        objective.numpy()
        return (time.perf_counter() - started) / (steps - 1)


class Main:
    """The main job's network, optimizer, batches and recorder."""

    def __init__(self, depth, regularize, folder):
        settings = Settings(depth=depth, regularize=regularize)
        self.network = tutorial_cnn.build_network(settings)
        tutorial_cnn.compile_network(self.network, settings, 55_000)
        self.folder = folder

    def seconds(self, steps):
        """Mean duration of a step, the first of the block left out."""
        with StepRecorder(self.folder, steps, 0, show=False) as recorder:
            self.network.fit(
                tutorial_cnn.batches(IMAGES, LABELS, 0, steps),
                verbose=0,
                shuffle=False,
                callbacks=[recorder],
            )
        return float(np.mean(recorder.seconds[1:]))


def contenders(folder):
    """All contenders, traced and warmed up."""
    jobs = {
        name: Bare(*name[1:]) if name[0] == "bare" else Main(*name[1:], folder)
        for name in CONTENDERS
    }
    for job in jobs.values():
        job.seconds(5)
    return jobs


def feeding(rounds, steps):
    """Milliseconds per batch of the main job's input pipeline with nothing behind it."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in tutorial_cnn.batches(IMAGES, LABELS, 0, 10 * steps):
            pass
        times.append(1e3 * (time.perf_counter() - started) / (10 * steps))
    return times


def label(name):
    """A contender in words."""
    kind, depth, regularize = name
    return f"{kind}, {'two matrices' if depth == 2 else 'original'}, L2 on {regularize}"


def main(arguments=None):
    """Measure, print the table, leave it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=40, help="per turn")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_mnist_step.json")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            name: functools.partial(job.seconds, options.steps)
            for name, job in contenders(folder).items()
        }
        times = take_turns(jobs, options.rounds)
    rows = [row(label(name), "ms per step", values) for name, values in times.items()]
    rows += [ratio_row(f"{what}: {label(a)}", times, a, b) for what, a, b in RATIOS]
    rows.append(row("main, feeding alone", "ms per step", feeding(options.rounds, options.steps)))
    report(rows, options.output, rounds=options.rounds, steps_per_turn=options.steps)


if __name__ == "__main__":
    main()
