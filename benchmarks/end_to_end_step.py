"""Duration of an `EndToEnd` step on one kernel, against Muon, SGD and the textbook's way.

    python benchmarks/end_to_end_step.py

Muon is the peer: it too transforms the gradient of each matrix by matrix products. "Textbook" is
the rule with a singular value decomposition, or with the square roots of both Gram matrices, as
one would write it down. "Kept" is `tolerance=0.001`.

The kernel moves by `MOVES` of its norm at every step, in a new direction each time, so that kept
and tracked decompositions age as they do in training; a turn is `--steps` steps, with all that is
decomposed anew in them. Gradients have full rank, as with an L2 term of the kernel in the loss, or
that of a batch of `BATCH` examples, which the optimizer is told of by `gradient_rank`. Takes about
ten minutes on two CPU cores.
"""

import argparse
import time

import keras
import numpy as np
from keras import ops
from turns import ROOT, ratio_row, report, row, take_turns

from keras_overparam import EndToEnd

SHAPES = [(3136, 512), (1024, 1024)]
DEPTH = 2
BATCH = 64
MOVES = [1e-4, 3e-4, 1e-3]
TOLERANCE = 0.001
DIRECTIONS = 8


class TextbookSVD(keras.optimizers.SGD):
    """The rule through a singular value decomposition."""

    def update_step(self, gradient, variable, learning_rate):
        kernel, gradient = in_float32(variable, gradient)
        left, singular, right = ops.svd(kernel, full_matrices=False)
        # Columns of the gradient outside the range of the kernel see the right side's term only.
        across = ops.transpose(left) @ gradient
        weights = singular[:, None] + singular[None, :]
        outside = gradient - left @ across
        update = left @ (weights * (across @ ops.transpose(right)))
        update += (outside @ ops.transpose(right)) * singular
        super().update_step(update @ right, variable, learning_rate)


class TextbookEigh(keras.optimizers.SGD):
    """The rule through the square roots of both Gram matrices."""

    def update_step(self, gradient, variable, learning_rate):
        kernel, gradient = in_float32(variable, gradient)
        left, right = kernel @ ops.transpose(kernel), ops.transpose(kernel) @ kernel
        update = self.root(left) @ gradient + gradient @ self.root(right)
        super().update_step(update, variable, learning_rate)

    @staticmethod
    def root(gram):
        values, vectors = ops.eigh(gram)
        return (vectors * ops.sqrt(ops.maximum(values, 0))) @ ops.transpose(vectors)


def in_float32(*arrays):
    """Tensors in the least precision that decompositions know; TensorFlow passes raw variables."""
    return [ops.cast(ops.reshape(array, array.shape), "float32") for array in arrays]


def optimizers(rank):
    """Contenders, by name; rates so small that they move nothing themselves."""
    return {
        "SGD": keras.optimizers.SGD(1e-9),
        "Muon": keras.optimizers.Muon(1e-9),
        "EndToEnd, exact": EndToEnd(1e-9, DEPTH, gradient_rank=rank),
        "EndToEnd, kept": EndToEnd(1e-9, DEPTH, tolerance=TOLERANCE, gradient_rank=rank),
        "textbook, SVD": TextbookSVD(1e-9),
        "textbook, eigh of both sides": TextbookEigh(1e-9),
    }


def gradients(shape, rank, dtype):
    """Some gradients of norm one."""
    rng = np.random.default_rng(1)
    for _ in range(DIRECTIONS):
        if rank is None:
            gradient = rng.normal(size=shape)
        else:
            gradient = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
        yield ops.convert_to_tensor(gradient / np.linalg.norm(gradient), dtype)


def stepper(optimizer, kernel, distance):
    """A compiled function that moves a kernel in a direction, then steps along a gradient."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def step(gradient, direction, sign):
            kernel.assign_add(distance * sign * direction)
            optimizer.apply([gradient], [kernel])

        return step
    if keras.backend.backend() == "torch":

        def step(gradient, direction, sign):
            kernel.assign(kernel.value + distance * sign * direction)
            optimizer.apply([gradient], [kernel])

        return step
    import jax

    @jax.jit
    def pure(value, state, gradient, direction, sign):
        moved = value + (distance * sign * direction).astype(value.dtype)
        (value,), state = optimizer.stateless_apply(state, [gradient], [moved])
        return value, state

    carry = [kernel.value, [variable.value for variable in optimizer.variables]]

    def step(*arguments):
        carry[:] = pure(*carry, *arguments)
        kernel.assign(carry[0])

    return step


def job(optimizer, shape, rank, move, steps, dtype="float32"):
    """A function that times some steps on a random kernel that moves."""
    start = np.random.default_rng(0).normal(size=shape) / np.sqrt(shape[0])
    kernel = keras.Variable(start, dtype=dtype)
    optimizer.build([kernel])
    step = stepper(optimizer, kernel, move * np.linalg.norm(start))
    pool = list(gradients(shape, rank, dtype))
    # No cycle of the directions adds up to a straight way: signs are drawn.
    signs = np.random.default_rng(2)

    def take(steps):
        for _ in range(steps):
            first, second = signs.integers(DIRECTIONS, size=2)
            sign = ops.convert_to_tensor(signs.choice([-1.0, 1.0]), dtype)
            step(pool[first], pool[second], sign)

    def seconds():
        started = time.perf_counter()
        take(steps)
        float(ops.cast(kernel[0, 0], "float32"))  # waits
        return (time.perf_counter() - started) / steps

    take(2)
    return seconds


def measure(shape, rank, move, rounds, steps):
    """Rows of one shape, rank of the gradients, and move of the kernel."""
    jobs = {
        name: job(optimizer, shape, rank, move, steps)
        for name, optimizer in optimizers(rank).items()
    }
    if max(shape) > 2000:  # takes many seconds
        del jobs["textbook, eigh of both sides"]
    if (rank, move) != (None, MOVES[0]):  # their duration depends on neither
        jobs = {name: job for name, job in jobs.items() if not name.startswith("textbook")}
    times = take_turns(jobs, rounds)
    where = f"{shape[0]}×{shape[1]}, {'full rank' if rank is None else f'rank {rank}'}, {move:g}"
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="per turn")
    parser.add_argument("--output", default=ROOT / "assets" / "benchmark_end_to_end_step.json")
    parser.add_argument("--shapes", nargs="+", help="like 3136x512")
    options = parser.parse_args(arguments)
    shapes = [tuple(map(int, text.split("x"))) for text in options.shapes or []] or SHAPES
    rows = [
        line
        for shape in shapes
        for rank in (None, BATCH)
        for move in MOVES
        for line in measure(shape, rank, move, options.rounds, options.steps)
    ]
    report(rows, options.output, rounds=options.rounds, steps_per_turn=options.steps, depth=DEPTH)


if __name__ == "__main__":
    main()
