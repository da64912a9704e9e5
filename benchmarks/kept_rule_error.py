"""Error of `EndToEnd`, exact and with a tolerance, in a training of the tutorial's network.

    python benchmarks/kept_rule_error.py

Trains the original network of `reproduce/mnist_cnn.py` at the tutorial's rate, with the L2 term and
without it, at each tolerance. Every few steps the gradient that the optimizer hands to its step is
compared with the exact rule in float64 at the same kernel and gradient (relative Frobenius error),
beside `end_to_end_gradient` in float32; the eigendecompositions on the way are counted. Takes about
ten minutes on two CPU cores.
"""

import argparse
from collections import defaultdict

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm
from turns import ROOT

from datasets import images as datasets
from experiments.mnist import tutorial_cnn
from experiments.mnist.settings import Settings
from keras_overparam import EndToEnd, end_to_end_gradient
from running import records
from running.options import add_data_options, positive

RATE = 0.01  # the tutorial's, in its first epoch
REGULARIZE = ("product", "none")


class Applied(keras.optimizers.SGD):
    """SGD that notes the gradients it is given to apply."""

    def update_step(self, gradient, variable, learning_rate):
        self.applied[self._get_variable_index(variable)] = tf.convert_to_tensor(gradient)
        super().update_step(gradient, variable, learning_rate)


class Watched(EndToEnd, Applied):
    """`EndToEnd` that notes kernels, their gradients and, as its SGD, what it makes of those."""

    def build(self, variables):
        super().build(variables)
        self.kernels, self.gradients, self.applied = {}, {}, {}

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        self.kernels[index] = tf.convert_to_tensor(variable)
        self.gradients[index] = tf.convert_to_tensor(gradient)
        super().update_step(gradient, variable, learning_rate)


class CountedEigh:
    """Counts eigendecompositions, by size, while it stands in for `keras.ops.linalg.eigh`.

    What an optimizer keeps and when it renews it is its own affair; this sees it from outside.
    """

    def __init__(self):
        self.eigh = keras.ops.linalg.eigh
        self.counts = defaultdict(lambda: tf.Variable(0))

    def __enter__(self):
        keras.ops.linalg.eigh = self
        return self

    def __exit__(self, *_):
        keras.ops.linalg.eigh = self.eigh

    def __call__(self, matrix):
        with tf.init_scope():
            count = self.counts[matrix.shape[-1]]
        count.assign_add(1)
        return self.eigh(matrix)


def training_step(network, optimizer):
    """A compiled training step that returns, for each variable of two axes, what was noted."""
    variables = network.trainable_variables
    matrices = [index for index, v in enumerate(variables) if len(v.shape) == 2]

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            outputs = network(images, training=True)
            objective = network.compute_loss(images, labels, outputs)
        optimizer.apply(tape.gradient(objective, variables), variables)
        noted = optimizer.kernels, optimizer.gradients, optimizer.applied
        return objective, {variables[i].path: [kind[i] for kind in noted] for i in matrices}

    return step


def errors(kernel, gradient, applied, depth):
    """Relative errors of what was applied, and of `end_to_end_gradient` in float32."""
    exact = end_to_end_gradient(tf.cast(kernel, tf.float64), tf.cast(gradient, tf.float64), depth)
    found = applied, end_to_end_gradient(kernel, gradient, depth)
    scale = tf.norm(exact)
    return [float(tf.norm(tf.cast(update, tf.float64) - exact) / scale) for update in found]


def measure(tolerance, regularize, data, options):
    """Rows of one training, one for each kernel."""
    keras.utils.set_random_seed(0)
    network = tutorial_cnn.build_network(Settings(regularize=regularize))
    optimizer = Watched(
        RATE,
        options.depth,
        tutorial_cnn.MOMENTUM,
        tolerance=tolerance,
        gradient_rank=options.gradient_rank or None,
    )
    optimizer.build(network.trainable_variables)
    batches = tutorial_cnn.batches(data.train_images, data.train_labels, 0, options.steps)
    step, found = training_step(network, optimizer), defaultdict(list)
    with CountedEigh() as decompositions:
        step = step.get_concrete_function(*batches.element_spec)
    for index, batch in enumerate(tqdm(batches, total=options.steps, unit="step"), start=1):
        objective, noted = step(*batch)
        if index % options.every == 0:
            for path, tensors in noted.items():
                found[path].append(errors(*tensors, options.depth))
    if not np.isfinite(float(objective)):
        raise SystemExit(f"kept_rule_error.py: error: diverged at tolerance {tolerance:g}.")
    return [
        {
            "kernel": "×".join(map(str, noted[path][0].shape)),
            "regularize": regularize,
            "tolerance": tolerance,
            "decompositions": int(decompositions.counts[min(noted[path][0].shape)]),
            "kept": spread([pair[0] for pair in pairs]),
            "exact": spread([pair[1] for pair in pairs]),
        }
        for path, pairs in found.items()
    ]


def spread(values):
    """Median and largest of some errors."""
    return {"median": float(np.median(values)), "largest": float(np.max(values))}


def main(arguments=None):
    """Measure, print the rows, leave them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.0, 0.01, 0.001])
    parser.add_argument("--depth", type=positive(int), default=2)
    parser.add_argument("--gradient-rank", type=int, default=tutorial_cnn.BATCH, help="0 for none")
    parser.add_argument("--steps", type=positive(int), default=800, help="of each training")
    parser.add_argument("--every", type=positive(int), default=20, help="steps between comparisons")
    parser.add_argument("--output", default=ROOT / "assets" / "kept_rule_error.json")
    add_data_options(parser)
    options = parser.parse_args(arguments)
    data = datasets.load_images(options.dataset, options.data_dir, options.archives)
    rows = [
        row
        for tolerance in options.tolerances
        for regularize in REGULARIZE
        for row in measure(tolerance, regularize, data, options)
    ]
    facts = {name: getattr(options, name) for name in ("depth", "gradient_rank", "steps", "every")}
    content = {"versions": records.versions(), "dataset": data.name, **facts, "rows": rows}
    records.write_json(options.output, content)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
