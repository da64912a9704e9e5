"""Many deep linear networks trained at once: fair comparisons need large grids.

Configurations (learning rates, seeds, starts) are the leading axis of the parameters. All are
trained by full-batch gradients of one regression or classification in one compiled loop, with
Keras's own optimizers.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import (
    one_of,
    positive_integer,
    real_array,
    real_matrices,
    refusal,
)
from keras_overparam.factorization import chain_sizes
from keras_overparam.sweep.checkpoint import Checkpoint, Clock
from keras_overparam.sweep.devices import Trainers, checked_devices
from keras_overparam.sweep.optimizers import rate_one
from keras_overparam.sweep.problems import linear_problem
from keras_overparam.sweep.trainer import Trainer
from keras_overparam.typing import Array, Float64Array, Precision

PIECE = 500  # iterations between two looks at the clock
RECOMPILATION = 2e11  # floating-point operations that a compilation is worth


class SweepResult(NamedTuple):
    """What became of the configurations of a sweep.

    Attributes:
        iterations: `(T,)`, the recorded ones.
        losses: `(T, C)`, float64; infinite once a configuration has diverged.
        steps: `(C,)`, finite steps taken; fewer than `iterations[-1]` where it diverged.
        factors: list of arrays `(C, s[j-1], s[j])`, those after the last finite step.
    """

    iterations: Array
    losses: Float64Array
    steps: Array
    factors: list[Array]

    @property
    def diverged(self) -> npt.NDArray[np.bool_]:
        """`(C,)`, whether a configuration diverged."""
        return self.steps < self.iterations[-1]

    def iterations_to(self, target: float | Array) -> Float64Array:
        """Iterations after which the losses are first as low as a target, see `iterations_to`.

        Args:
            target: a number, or one for each configuration.

        Returns:
            Array `(C,)`; infinite for never.
        """
        return iterations_to(self.iterations, self.losses, target)


def iterations_to(iterations: Array, losses: Array, target: float | Array) -> Float64Array:
    """Iterations after which losses are first as low as a target, infinite for never.

    Between recorded iterations, interpolated on log scales.

    Args:
        iterations: `(T,)`, the recorded ones.
        losses: `(T, C)`.
        target: a number, or one for each of the C curves.

    Returns:
        Array `(C,)`.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.sweep import iterations_to
    >>> iterations_to(np.array([0, 1, 100]), np.array([[9.0], [4.0], [1.0]]), 2.0).round(6).tolist()
    [10.0]
    """
    reached = losses <= target
    first = np.argmax(reached, axis=0)
    columns = np.arange(losses.shape[1])
    before = np.maximum(first - 1, 0)
    tiny = np.finfo(float).tiny
    high, low = (np.log(np.maximum(losses[i, columns], tiny)) for i in (before, first))
    start, end = (np.log(np.maximum(iterations[i], 1)) for i in (before, first))
    falling = np.isfinite(high) & (high > low)
    drop = np.where(falling, high - np.where(falling, low, 0), 1)
    share = np.clip((high - np.log(np.maximum(target, tiny))) / drop, 0, 1)
    between = np.exp(start + np.where(np.isfinite(share), share, 1) * (end - start))
    found = np.where(first == 0, iterations[0], between)
    return np.where(reached.any(axis=0), found, np.inf)


def logarithmic_grid(iterations: int, points: int = 150) -> Array:
    """The start, and iterations evenly spaced on a log scale up to a last one.

    Example:

    >>> from keras_overparam.sweep import logarithmic_grid
    >>> logarithmic_grid(100, points=3).tolist()
    [0, 1, 10, 100]
    """
    return np.unique([0, *np.rint(np.geomspace(1, iterations, points)).astype(int)])


def sweep_linear_networks(
    features: npt.ArrayLike,
    targets: npt.ArrayLike,
    factors: Sequence[npt.ArrayLike],
    optimizer: str | keras.optimizers.Optimizer,
    learning_rates: npt.ArrayLike,
    iterations: int | Sequence[int] | Array,
    power: float = 2,
    dtype: Precision = "float32",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int], object] | None = None,
    devices: Sequence[str] | None = None,
    loss: str = "lp",
) -> SweepResult:
    """Train many linear networks `X K` on one regression or classification, full batch.

    Every configuration trains its own `K = A1 @ … @ AN`. The updates of Keras's gradient-descent
    and adaptive optimizers are proportional to the learning rate, elementwise, and do not depend on
    the variable: so one optimizer of rate one serves all configurations, its updates multiplied by
    their rates. With `EndToEnd(depth=N)` the factors are single kernels, trained by the rule.

    A configuration whose parameters stop being finite has diverged: it keeps its last finite
    parameters and has infinite loss from there on, and the others go on.

    For p = 2 the gradient is taken through `Xᵀ X`, at a cost that does not depend on the number of
    examples. Otherwise a step costs `4 n d` operations per configuration and output, in matrix
    products over all configurations.

    Args:
        features: `X`, array of shape `(n, inputs)`.
        targets: `Y`, array of shape `(n,)` or `(n, outputs)`; integer classes of shape `(n,)` for a
            cross-entropy.
        factors: list of N arrays, the starts `Aj` of shape `(C, s[j-1], s[j])`, for C
            configurations.
        optimizer: a Keras optimizer or its name; its own learning rate is not used.
        learning_rates: array of shape `(C,)`.
        iterations: number of iterations, recorded on a logarithmic grid; or the increasing list of
            iterations to record, up to the last one. The start is iteration 0.
        power: p ≥ 2, of an lp loss.
        dtype: `"float32"` or `"float64"`.
        checkpoint: path of a file `.npz` that is written twice a minute, and from which the same
            call goes on, to the same result, after an interruption.
        progress: function called with the number of iterations done since its last call, such as
            `tqdm.tqdm(total=…).update`.
        devices: names of devices as `keras.device` takes them, such as `["gpu:0", "gpu:1"]`: the
            configurations are split evenly over them, and trained on all of them at the same time,
            with the same results to rounding. Checkpoints do not depend on it. With None, Keras's
            device.
        loss: `"lp"` for `1/p · mean |X K − Y|^p`; or `"cross_entropy"`, the mean cross-entropy of a
            classification by softmax, in nats.

    Returns:
        A `SweepResult`.

    Raises:
        ValueError: for shapes that do not fit, an optimizer whose updates are not proportional to
            the learning rate, elementwise, or depend on the variable (weight decay, clipping by a
            norm, layer-wise rates), a checkpoint that is damaged or of another sweep, or devices
            that this machine does not have.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import sweep_linear_networks
    >>> random = np.random.default_rng(0)
    >>> features = random.normal(size=(50, 3))
    >>> targets = features @ [1.0, 2.0, 3.0]
    >>> start = np.full((2, 3, 1), 0.01), np.ones((2, 1, 1))  # depth 2, two configurations
    >>> result = sweep_linear_networks(features, targets, start, "sgd", [0.01, 0.1], iterations=100)
    >>> result.losses[-1].round(3).tolist()
    [0.013, 0.0]

    Reference:
        Arora, Cohen & Hazan 2018, Section 8, for the experiments it is made for.
    """
    sweep = _Sweep(
        features,
        targets,
        factors,
        optimizer,
        learning_rates,
        iterations,
        power,
        dtype,
        devices,
        loss,
    )
    return sweep.run(checkpoint, progress)


class _Sweep:
    """The whole of a sweep, on the host: what is recorded, dropped, kept on disk."""

    def __init__(
        self,
        features: npt.ArrayLike,
        targets: npt.ArrayLike,
        factors: Sequence[npt.ArrayLike],
        optimizer: str | keras.optimizers.Optimizer,
        learning_rates: npt.ArrayLike,
        iterations: int | Sequence[int] | Array,
        power: float,
        dtype: Precision,
        devices: Sequence[str] | None = None,
        loss: str = "lp",
    ) -> None:
        one_of("dtype", dtype, ("float32", "float64"))
        self.problem = linear_problem(features, targets, loss, power, dtype)
        if keras.backend.standardize_dtype(ops.zeros(1, dtype).dtype) != dtype:
            raise ValueError(f"The backend is set to compute without {dtype}.")
        if not isinstance(factors, (list, tuple)) or not factors:
            raise refusal("factors", "a non-empty list of arrays", factors)
        # Written to: copies.
        self.factors = [real_matrices("factors", factor).astype(dtype) for factor in factors]
        self.rates = real_array("learning_rates", learning_rates).astype(dtype)
        self.update, self.rule_depth = rate_one(optimizer)
        self.grid = _recorded(iterations)
        self.devices = checked_devices(devices) if devices is not None else None
        self._check()
        self.slots: list[Array] | None = None
        self.steps: Array = np.zeros(len(self.rates), "int32")
        self.losses: Float64Array = np.full((len(self.grid), len(self.rates)), np.inf)
        self.iteration = 0
        self.columns: Array = np.arange(len(self.rates))  # configurations still trained

    def _check(self) -> None:
        count = self.rates.shape
        ends = self.problem.kernel_shape
        fit = all(factor.ndim == 3 and factor.shape[:1] == count for factor in self.factors)
        if not fit or not _is_chain(self.factors, ends):
            raise ValueError(
                f"`factors` must be a chain from {ends[0]} inputs to {ends[1]} outputs, with a "
                f"leading axis of {count} configurations, one for each of `learning_rates`. "
                f"Received shapes: {[factor.shape for factor in self.factors]}"
            )
        if self.rule_depth and len(self.factors) > 1:
            raise ValueError(
                "`EndToEnd` trains single kernels: `factors` must hold one array. "
                f"Received: {len(self.factors)}"
            )

    def run(
        self, checkpoint: str | os.PathLike[str] | None, progress: Callable[[int], object] | None
    ) -> SweepResult:
        """Train to the end, from where the checkpoint leaves off; the `SweepResult`."""
        file = Checkpoint(checkpoint, self._digest()) if checkpoint else None
        if file and file.exists():
            self._restore(file.load())
        clock = Clock(30)
        trainer = self._trainer() if len(self.columns) else None
        for index, end in enumerate(self.grid):
            while trainer and self.iteration < end:
                steps = min(PIECE, end - self.iteration)
                trainer.advance(self.iteration, steps)
                self.iteration += steps
                if progress:
                    progress(steps)
                if file and clock.rang():
                    self._collect(trainer)
                    file.save(self._state())
            if self.iteration == end and trainer:
                self._record(trainer, index)
                if self._drop_diverged(trainer):
                    trainer = self._trainer() if len(self.columns) else None
        if trainer:
            self._collect(trainer)
        if file:
            file.save(self._state())
        return SweepResult(self.grid, self.losses, self.steps, self.factors)

    def _trainer(self) -> Trainer | Trainers:
        if self.devices is None:
            return self._trainer_of(self.columns)
        return Trainers(self.devices, self._trainer_of, self.columns)

    def _trainer_of(self, columns: Array) -> Trainer:
        slots = None
        if self.slots is not None:
            slots = [slot[columns] if slot.ndim else slot for slot in self.slots]
        return Trainer(
            self.problem,
            self.update,
            self.rule_depth,
            [factor[columns] for factor in self.factors],
            slots,
            self.rates[columns],
            self.steps[columns],
        )

    def _record(self, trainer: Trainer | Trainers, index: int) -> None:
        losses, sound = trainer.losses(), trainer.steps() == self.iteration
        self.losses[index, self.columns] = np.where(sound & np.isfinite(losses), losses, np.inf)

    def _collect(self, trainer: Trainer | Trainers) -> None:
        """Take over what the trainer has come to."""
        factors, slots, steps = trainer.state()
        self.steps[self.columns] = steps
        for whole, part in zip(self.factors, factors, strict=True):
            whole[self.columns] = part
        if self.slots is None:
            count = len(self.rates)
            self.slots = [np.zeros((count, *s.shape[1:]), s.dtype) if s.ndim else s for s in slots]
        for index, part in enumerate(slots):
            if part.ndim:
                self.slots[index][self.columns] = part
            else:
                self.slots[index] = part

    def _drop_diverged(self, trainer: Trainer | Trainers) -> bool:
        """Stop computing what has diverged, if that is worth a compilation."""
        sound = trainer.steps() == self.iteration
        saved = np.sum(~sound) * (self.grid[-1] - self.iteration)
        if saved * self.problem.operations_per_step < RECOMPILATION and sound.any():
            return False
        self._collect(trainer)
        self.columns = self.columns[sound]
        return True

    def _state(self) -> dict[str, npt.ArrayLike]:
        arrays: dict[str, npt.ArrayLike] = {
            "iteration": self.iteration,
            "columns": self.columns,
            "steps": self.steps,
        }
        arrays["losses"] = self.losses
        arrays |= {f"factor_{index}": factor for index, factor in enumerate(self.factors)}
        return arrays | {f"slot_{index}": slot for index, slot in enumerate(self.slots or [])}

    def _restore(self, arrays: dict[str, Array]) -> None:
        self.iteration = int(arrays["iteration"])
        self.columns, self.steps = arrays["columns"], arrays["steps"]
        self.losses = arrays["losses"]
        self.factors = [arrays[f"factor_{index}"] for index in range(len(self.factors))]
        count = sum(name.startswith("slot_") for name in arrays)
        self.slots = [arrays[f"slot_{index}"] for index in range(count)]

    def _digest(self) -> str:
        """Of everything that shapes the result."""
        problem = self.problem
        arrays = [problem.features, problem.targets, *self.factors, self.rates, self.grid]
        # By its class: Keras numbers the names of optimizers.
        optimizer = self.update.get_config() | {"name": type(self.update).__name__}
        words = [problem.name, problem.dtype, self.rule_depth, repr(optimizer)]
        digest = hashlib.sha256(json.dumps(words).encode())
        for array in arrays:
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _is_chain(factors: list[Array], ends: tuple[int, int]) -> bool:
    try:
        return chain_sizes(factors)[:: len(factors)] == ends
    except ValueError:
        return False


def _recorded(iterations: int | Sequence[int] | Array) -> Array:
    """The recorded iterations, from the start to the last."""
    if not isinstance(iterations, (list, tuple, range, np.ndarray)):
        return logarithmic_grid(positive_integer("iterations", iterations))
    given = real_array("iterations", iterations)
    if given.ndim > 1 or given.dtype.kind not in "iu" or not np.all(np.diff([-1, *given]) > 0):
        wanted = "a positive integer, or an increasing list of non-negative integers"
        raise refusal("iterations", wanted, iterations)
    if not given[-1:].any():
        raise refusal("iterations", "a list that goes on from the start, 0", iterations)
    return np.unique([0, *given])
