"""A callback that shows what overparameterization does while a model trains."""

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from numbers import Real
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import positive_integer, refusal, regular_expression
from keras_overparam.diagnostics import (
    agreement,
    effective_rank,
    momentum_share,
    preconditioner_extremes,
    relative_balancedness_gap,
    rule_change,
    singular_vectors,
)
from keras_overparam.event_log import EventLog
from keras_overparam.factorization import chain_product
from keras_overparam.holding import all_layers, is_built
from keras_overparam.kernels import not_built
from keras_overparam.layers.factored_kernel import FactoredKernel
from keras_overparam.moments import Moment, Quantities, table
from keras_overparam.optimizers import EndToEnd, matrix_shape
from keras_overparam.typing import Array, Float64Array

DESCRIPTIONS = {
    "norm": "Frobenius norm ‖K‖ of the end-to-end kernel `K = A1 @ … @ AN`.",
    "singular_value": "The largest singular values σ1 ≥ σ2 ≥ … of the end-to-end kernel.",
    "singular_values": "All singular values of the end-to-end kernel.",
    "effective_rank": (
        "Exponential of the entropy of the singular values' shares: between 1 and their number "
        "(Roy & Vetterli 2007). It falls where the preconditioner amplifies what is large already."
    ),
    "balancedness_gap": (
        "Largest ‖Ajᵀ Aj − A[j+1] A[j+1]ᵀ‖ over the largest ‖Ajᵀ Aj‖. Zero for balanced factors, "
        "for which the end-to-end rule holds; gradient flow keeps it, steps move it a little."
    ),
    "preconditioner/largest": (
        "N σ_max^(2 − 2/N): how much faster than plain gradient descent the end-to-end rule moves "
        "the kernel where it moves it most."
    ),
    "preconditioner/smallest": (
        "Factor of the direction that the end-to-end rule moves least; far below 1, depth holds "
        "it back."
    ),
    "preconditioner/spread": "Largest over smallest eigenvalue of the rule's preconditioner.",
    "rule/cosine": (
        "Cosine between the step's change of the product and the end-to-end rule's, for the "
        "gradient that the factors' own changes tell of. 1: the rule describes the training."
    ),
    "rule/distance": (
        "‖change − rule's change‖ over ‖rule's change‖, of the same two. It holds what comes of "
        "factors that are not balanced, and of the step's size: terms of the rate's square."
    ),
    "one_output/adaptive_step": (
        "‖k‖^(2 − 2/N): the factor of the learning rate that depth gives a layer of one output."
    ),
    "one_output/momentum_share": (
        "Share of the step that is the rule's momentum, (N − 1) Pr_k g: the part of the gradient "
        "along the kernel, amplified. 0 across the kernel, (N − 1)/N along it."
    ),
}

BY_RULE = "kernel trained by EndToEnd"
FACTORS = "factors"  # folder of the run, in the folder of the logs
GROUP = "weights"  # TensorBoard sorts by name: after "epoch_loss", "training" and "validation"
LONGEST = 100  # characters of a folder's name
RESERVED = r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)"  # names of devices on Windows
SHOWN_BELOW = float(np.finfo("float32").max)  # TensorBoard keeps numbers in float32

Hyperparameters: TypeAlias = Mapping[str, float | bool | str]
Logs: TypeAlias = Mapping[str, float] | None  # what Keras hands to callbacks


class Watched(NamedTuple):
    """A kernel to look at: name, variables that its matrix is a product of, depth of the rule.

    Of each variable, the first `row_axes` axes are rows.
    """

    name: str
    kind: str
    variables: list[keras.Variable]
    depth: int
    row_axes: int

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Rows and columns of each of the variables."""
        return [matrix_shape(variable.shape, self.row_axes) for variable in self.variables]


class Look(NamedTuple):
    """The values of all variables that are watched, after how many updates."""

    step: int
    values: list[list[Float64Array]]


class FactorMonitor(keras.callbacks.Callback):
    """Shows factored kernels in TensorBoard while they train: spectra, balance, the rule.

    For each factored layer, and each kernel that `EndToEnd` trains, every `update_freq` steps:

    - the norm, the largest singular values, their histogram and the effective rank of the product;
    - of factors: their `balancedness_gap`, relative to their size;
    - the extremes and the spread of the spectrum of the end-to-end rule's preconditioner;
    - of factors: how far that step changed the product as the end-to-end rule says, cosine and
      distance; not where it changed nothing;
    - for kernels of one output (or one input), the rule's adaptive step and its momentum's share.

    Steps are the optimizer's updates: of accumulated gradients, it takes several batches to one;
    one whose gradients are not finite, and which a loss scale makes the optimizer skip, is none.
    With `steps_per_execution` Keras shows the model only after as many updates, and the change that
    is compared with the rule is that of all of them.

    Callbacks act in the order of their list: one that changes the model when training ends, like
    `EarlyStopping(restore_best_weights=True)`, should come before this one, whose last measurement
    is then of what it leaves.

    Layers of the same path, as layers of a list that were given one name, have a number after it,
    from the second on: `hidden`, `hidden_1`.

    Measuring is done in float64 on the host; a large kernel (3136×512) takes a quarter of a second
    on two CPU cores. All that is measured is in `history` too. Nothing is measured of a kernel that
    is no longer finite; an event file that cannot be written is warned of, and training goes on.

    Put it beside `keras.callbacks.TensorBoard`, with the same folder; then
    `tensorboard --logdir logs`. Each layer is a run of its own, with a colour in the charts that
    all share; charts are described, and the dashboard "Custom scalars" has them by what they show.
    Set its smoothing to 0: it draws curves of few points far from them.

    Args:
        log_dir: folder of the logs, in which this callback's run is `factors` and a layer's
            `factors/<layer>`; or `None`, to keep `history` only.
        update_freq: steps between two measurements, or `"epoch"`: at the first step of each.
        layers: regular expression; layers in whose path it is found are shown. By default all.
        largest: number of singular values that have a curve of their own.
        hparams: dictionary of the run's hyperparameters, names to numbers, booleans or strings;
            with it, TensorBoard's dashboard "HParams" compares the trainings below one folder.

    Attributes:
        history: list of `{"step": …, "updates": …, "layers": {name: {quantity: number}}}`. What is
            at step t was measured after t updates; the change that is compared with the rule is
            that of the next `updates` of them (1, but for `steps_per_execution`; 0 where training
            ended). `singular_values` are arrays, which it prints in a few words; `summary()` is a
            table.

    Raises:
        ValueError: for arguments out of range and, when training begins, for a model that is not
            built or without a kernel to show.
        ImportError: when training begins, if `tensorboard` is not installed.

    Example:

    >>> import keras, numpy as np
    >>> from keras_overparam import FactoredDense, FactorMonitor
    >>> model = keras.Sequential([keras.Input((4,)), FactoredDense(3, name="deep")])
    >>> model.compile(keras.optimizers.SGD(0.01), loss="mse")
    >>> monitor = FactorMonitor(log_dir=None, update_freq=10)
    >>> fitted = model.fit(np.eye(4), np.eye(4)[:, :3], epochs=20, verbose=0, callbacks=[monitor])
    >>> [found["step"] for found in monitor.history]
    [0, 10, 20]
    >>> round(monitor.history[0]["layers"]["deep"]["rule/cosine"], 4)
    1.0
    >>> print(monitor.summary().splitlines()[0])
    step  layer   norm  effective rank  largest σ  balancedness gap  cosine with rule

    Reference:
        Arora, Cohen & Hazan 2018, Theorem 1 and Claims 1 and 2.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = "logs",
        update_freq: int | Literal["epoch"] = 200,
        layers: str | None = None,
        largest: int = 5,
        hparams: Hyperparameters | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(update_freq, str):
            update_freq = positive_integer("update_freq", update_freq)
        elif update_freq != "epoch":
            raise refusal("update_freq", 'a positive integer or "epoch"', update_freq)
        if not (log_dir is None or isinstance(log_dir, (str, os.PathLike))):
            raise refusal("log_dir", "a path or None", log_dir)
        if layers is not None:
            layers = regular_expression("layers", layers)
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.update_freq = update_freq
        self.layers = layers
        self.largest = positive_integer("largest", largest)
        self.hparams = _checked_hparams(hparams)
        self.history: list[Moment] = []
        self._runs: dict[str, str] = {}  # of TensorBoard, by the layers' names
        self._log: EventLog | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Find the kernels, and begin the log."""
        self._watched = watched_kernels(self.model, self.layers)
        if not self._watched:
            names = ", ".join(watched.name for watched in watched_kernels(self.model)) or "none"
            raise ValueError(
                "FactorMonitor shows factored layers and kernels trained by EndToEnd; the model "
                f"has {names}. Received: layers={self.layers!r}"
            )
        self._runs = run_names([watched.name for watched in self._watched])
        self._before: Look | None = None
        self._next: float | None = None  # step of the next measurement, once training has begun
        self._possible = 0  # updates that may have been made
        self._per_execution = self.model.steps_per_execution
        if self.log_dir is not None and self._log is None:
            self._log = EventLog(self.log_dir / FACTORS)
            self._describe(self._log)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """With `update_freq="epoch"`, measure the step that follows."""
        if self.update_freq == "epoch":
            self._next = 0

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Remember the factors before a step that is to be measured."""
        if self._next is None:  # what other callbacks restore is there now
            self._next = self._next_multiple(self._updates())
        # Looking makes a device wait, so it is done only when a measurement may be due.
        if self._before is None and self._possible >= self._next:
            step = self._updates()
            if step >= self._next:
                self._before = Look(step, self._values())

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Measure the step, if there was one."""
        self._possible += self._per_execution
        if self._before is not None:
            step = self._updates()
            if step > self._before.step:
                self._measure(self._before, Look(step, self._values()))
                self._before = None
                self._next = self._next_multiple(step)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the epoch's metrics, for the dashboard that compares runs."""
        if self._log is not None and self.hparams:
            step = self._updates()
            for name, value in (logs or {}).items():
                self._log.scalar(f"metrics/{name}", float(value), step)

    def on_train_end(self, logs: Logs = None) -> None:
        """Measure where training ended."""
        step = self._updates()
        if self._before is not None and step == self._before.step and self._moved(self._before):
            warnings.warn(
                "FactorMonitor counts the updates of the model's optimizer and of those that the "
                "model holds in attributes. There were none, and yet the kernels changed: let the "
                "model hold the optimizer that trains it.",
                stacklevel=2,
            )
        elif not self.history or self.history[-1]["step"] != step:
            self._measure(Look(step, self._values()))
        if self._log is not None:
            self._log.flush()

    def summary(self) -> str:
        """What was measured, as a table to print: a line for each layer at each step.

        Returns:
            Text, with the norm, effective rank, largest singular value, balancedness gap and cosine
            with the rule of those layers that have them; `history` holds everything.
        """
        return table(self.history)

    def _next_multiple(self, step: int) -> float:
        if self.update_freq == "epoch":
            return float("inf")
        return -(-step // self.update_freq) * self.update_freq

    def _updates(self) -> int:
        """How many updates the optimizer has made of the variables."""
        counts = [one.iterations for one in optimizers_of(self.model)]  # on JAX, up to date
        self._possible = max((int(ops.convert_to_numpy(count)) for count in counts), default=0)
        return self._possible

    def _values(self) -> list[list[Float64Array]]:
        """The variables as matrices, in float64 copies: the next step may reuse their buffers."""
        self.model  # noqa: B018 (on JAX, brings the variables up to date)
        return [
            [
                np.array(ops.convert_to_numpy(variable), "float64").reshape(shape)
                for variable, shape in zip(watched.variables, watched.sizes, strict=True)
            ]
            for watched in self._watched
        ]

    def _moved(self, before: Look) -> bool:
        """Whether a variable has other values than before."""
        pairs = zip(before.values, self._values(), strict=True)
        return any(
            not np.array_equal(a, b) for old, new in pairs for a, b in zip(old, new, strict=True)
        )

    def _measure(self, now: Look, later: Look | None = None) -> None:
        found: dict[str, Quantities] = {}
        for index, watched in enumerate(self._watched):
            if all(np.isfinite(value).all() for value in now.values[index]):
                after = later.values[index] if later else None
                found[watched.name] = measured(now.values[index], watched.depth, after)
        updates = later.step - now.step if later else 0
        self.history.append({"step": now.step, "updates": updates, "layers": found})
        if self._log is not None:
            self._log.begin(now.step)
            for name, quantities in found.items():
                self._write(self._log, self._runs[name], quantities, now.step)
            self._log.flush()

    def _write(self, log: EventLog, run: str, quantities: Quantities, step: int) -> None:
        for quantity, value in quantities.items():
            if not np.max(value) <= SHOWN_BELOW:
                continue
            tag, text = f"{GROUP}/{quantity}", DESCRIPTIONS[quantity]
            if quantity == "singular_values":
                log.histogram(tag, value, step, text, run)
                for rank, one in enumerate(value[: self.largest], start=1):
                    tag, text = f"{GROUP}/singular_value/{rank}", DESCRIPTIONS["singular_value"]
                    log.scalar(tag, one, step, text, run)
            else:
                log.scalar(tag, value, step, text, run)

    def _describe(self, log: EventLog) -> None:
        """What explains the dashboard: a text, charts by what they show, hyperparameters."""
        every = "epoch" if self.update_freq == "epoch" else f"{self.update_freq} updates"
        log.text("about", about(self._watched, self.model.optimizer, every, self.hparams))
        log.charts(charts(self._watched, bool(self.hparams)))
        if self.hparams:
            log.hparams(self.hparams)


def _checked_hparams(hparams: Hyperparameters | None) -> Hyperparameters | None:
    """Hyperparameters that TensorBoard can show."""
    fits = hparams is None or (
        isinstance(hparams, Mapping)
        and all(isinstance(name, str) for name in hparams)
        and all(isinstance(value, (str, Real, np.generic)) for value in hparams.values())
    )
    if not fits:
        raise refusal("hparams", "a dictionary of numbers, booleans or strings by name", hparams)
    return hparams


def watched_kernels(model: keras.Model, layers: str | None = None) -> list[Watched]:
    """The kernels of a model that are factored, or trained by the rule.

    Args:
        model: a built, compiled Keras model.
        layers: regular expression of the layers' paths; `None` for all.

    Returns:
        List of `Watched`; empty if there are none.
    """

    def name_of(path: str) -> str:
        return path.removeprefix(f"{model.name}/").replace("/", ".")

    factored = [layer for layer in all_layers(model) if isinstance(layer, FactoredKernel)]
    built = [layer for layer in factored if layer.built]
    if not is_built(model) or (factored and not built):
        raise not_built(model)
    found = [
        Watched(name_of(layer.path), type(layer).__name__, layer.factors, layer.depth, 1)
        for layer in built
    ]
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    for optimizer in optimizers_of(model):
        if isinstance(optimizer, EndToEnd):
            for variable, (row_axes, depth) in optimizer.trained_by_the_rule():
                name = name_of(variable.path.removesuffix("/kernel"))
                found.append(Watched(name, BY_RULE, [variable], depth, row_axes))
    numbered = zip(found, _numbered([watched.name for watched in found]), strict=True)
    return [
        watched._replace(name=name)
        for watched, name in numbered
        if layers is None or re.search(layers, watched.name)
    ]


def _numbered(names: Sequence[str], alike: Callable[[str], str] = str) -> list[str]:
    """Names with a number after those that were there before, which makes each one unique.

    Args:
        names: list of them.
        alike: function that returns the same of names that count as one.
    """
    taken, found = {alike(name) for name in names}, []
    given: set[str] = set()
    for name in names:
        others = (f"{name}_{number}" for number in count(1))
        free = (other for other in others if alike(other) not in taken | given)
        found.append(next(free) if alike(name) in given else name)
        given.add(alike(found[-1]))
    return found


def run_names(names: Sequence[str]) -> dict[str, str]:
    """The runs of layers in TensorBoard.

    Args:
        names: the layers'.

    Returns:
        Dictionary of the layers' names to names that folders can have on any system, and that none
        takes for one.
    """
    safe = [re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[-LONGEST:].strip(".") for name in names]
    safe = [re.sub(RESERVED, r"\1_", name) or "layer" for name in safe]
    return dict(zip(names, _numbered(safe, str.casefold), strict=True))


def optimizers_of(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """The optimizers that update a model's variables.

    Args:
        model: a compiled Keras model.

    Returns:
        List of those that `compile` was given, and that the model holds in attributes of its own
        for a `train_step` of its own; see `inner_optimizers`.
    """
    held = [model.optimizer, *vars(model).values()]
    found = {id(one): one for one in held if isinstance(one, keras.optimizers.Optimizer)}
    return [one for each in found.values() for one in inner_optimizers(each) if one.built]


def inner_optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """The optimizers that update variables, of one that scales a loss or holds several.

    Args:
        optimizer: a Keras optimizer.

    Returns:
        List of them; of all others, of the optimizer itself.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    several = getattr(optimizer, "optimizers", [] if inner is None else [inner])
    return [one for held in several for one in inner_optimizers(held)] or [optimizer]


def measured(
    factors: Sequence[Array], depth: int, later: Sequence[Array] | None = None
) -> Quantities:
    """All quantities of a kernel, by name.

    Args:
        factors: list of arrays that the kernel is the product of; one for a plain kernel.
        depth: N of the rule.
        later: the same arrays a step later, or `None`.

    Returns:
        Dictionary of floats and the array `singular_values`.
    """
    kernel = chain_product(factors)
    vectors = singular_vectors(kernel)
    singular = vectors[1]
    smallest, largest = preconditioner_extremes(singular, kernel.shape, depth)
    norm = float(np.linalg.norm(kernel))
    found = Quantities(
        {
            "norm": norm,
            "singular_values": singular,
            "effective_rank": effective_rank(singular),
            "preconditioner/largest": largest,
            "preconditioner/smallest": smallest,
            "preconditioner/spread": largest / smallest if smallest > 0 else float("inf"),
        }
    )
    if len(factors) > 1:
        found["balancedness_gap"] = relative_balancedness_gap(factors)
    if 1 in kernel.shape:
        found["one_output/adaptive_step"] = norm ** (2 - 2 / depth)
    if later is None or not all(np.isfinite(factor).all() for factor in later):
        return found
    change = chain_product(later) - kernel
    if change.any():
        if len(factors) > 1:
            steps = [new - old for new, old in zip(later, factors, strict=True)]
            predicted = rule_change(factors, steps, vectors)
            found["rule/cosine"], found["rule/distance"] = agreement(change, predicted)
        if 1 in kernel.shape:
            found["one_output/momentum_share"] = momentum_share(kernel, change, depth)
    return found


def charts(watched: Sequence[Watched], metrics: bool = False) -> dict[str, dict[str, list[str]]]:
    """The charts of the dashboard "Custom scalars": one for all layers, whose runs have colours.

    Args:
        watched: list of `Watched`.
        metrics: whether each epoch's metrics are logged.

    Returns:
        Dictionary `{category: {chart: [regular expressions of tags]}}`.
    """

    def tags(there: object, quantity: str) -> list[str]:
        return [f"^{GROUP}/{quantity}$"] if there else []

    factored = any(len(one.variables) > 1 for one in watched)
    one_output = any(1 in (one.sizes[0][0], one.sizes[-1][1]) for one in watched)
    categories = {
        "Training": {"Loss": ["^metrics/(val_)?loss$"] if metrics else []},
        "End-to-end rule": {
            "Cosine of the products' change with the rule's": tags(factored, "rule/cosine"),
            "Relative distance of the two": tags(factored, "rule/distance"),
            "Balancedness gap": tags(factored, "balancedness_gap"),
        },
        "Layers of one output": {
            "Adaptive step": tags(one_output, "one_output/adaptive_step"),
            "Momentum's share": tags(one_output, "one_output/momentum_share"),
        },
        "Preconditioner": {
            "Largest eigenvalue": tags(watched, "preconditioner/largest"),
            "Smallest eigenvalue": tags(watched, "preconditioner/smallest"),
        },
        "Spectrum of the products": {
            "Effective rank": tags(watched, "effective_rank"),
            "Largest singular value": tags(watched, "singular_value/1"),
            "Largest singular values": tags(watched, r"singular_value/\d+"),
        },
    }
    # A chart without curves would look like a fault.
    return {
        category: {chart: curves for chart, curves in some.items() if curves}
        for category, some in categories.items()
        if any(some.values())
    }


def about(
    watched: Sequence[Watched],
    optimizer: keras.optimizers.Optimizer,
    every: str,
    hparams: Hyperparameters | None = None,
) -> str:
    """What the run is, in Markdown: the kernels shown, the optimizer, the hyperparameters."""
    lines = [
        "Products of matrices, and how they train. Each layer is a run, with a colour of its own; "
        "the dashboard *Custom scalars* has the curves by what they show.",
        "",
        f"A curve has a point every {every}. TensorBoard smooths curves, by 0.6 at first, which "
        "draws one of few points far from them: set *Smoothing* to 0 to see what was measured. "
        "Above 40 runs, most dashboards begin with none: *Toggle all runs*.",
        "",
        "| layer | kind | depth | sizes |",
        "|---|---|---|---|",
    ]
    for one in watched:
        sizes = " · ".join("×".join(map(str, variable.shape)) for variable in one.variables)
        lines.append(f"| {one.name} | {one.kind} | {one.depth} | {sizes} |")
    settings = {**optimizer.get_config(), **(hparams or {})}
    lines += ["", f"Optimizer: {type(optimizer).__name__}", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {_in_words(v)} |" for name, v in settings.items() if v is not None]
    return "\n".join(lines)


def _in_words(value: object) -> str:
    """A setting as a text; of a serialized object, its class and arguments."""
    if not (isinstance(value, dict) and "class_name" in value):
        return str(value)
    arguments = ", ".join(f"{name}={inner}" for name, inner in value["config"].items())
    return f"{value['class_name']}({arguments})"
