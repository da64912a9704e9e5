"""Would overparameterization train this problem faster? Short, fair sweeps that say so."""

import contextlib
import dataclasses
import numbers
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import positive_integer, real_array, refusal
from keras_overparam.factorization import balanced_factors
from keras_overparam.layers import FactoredDense
from keras_overparam.losses import LpLoss, checked_power
from keras_overparam.sweep import (
    SweepResult,
    iterations_to,
    logarithmic_grid,
    sweep_linear_networks,
)
from keras_overparam.sweep.problems import CROSS_ENTROPY, LP, linear_problem, real_targets
from keras_overparam.typing import Array, Float64Array

Kind: TypeAlias = float | str  # the power of an lp loss, or `CROSS_ENTROPY`

REGRESSIONS = (keras.losses.MeanSquaredError, keras.losses.mean_squared_error)
CLASSIFICATIONS = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.categorical_crossentropy,
)
SAME_LOSS = ("from_logits", "reduction", "name")  # options that leave a loss the same
HEADS = (keras.layers.Dense, FactoredDense)
# Norms of the first kernel, times that of a Glorot kernel.
STARTS = (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0)
OCTAVES = (-8, 10)  # coarse rates, as powers of two times the inverse of the curvature at zero
EXTENSION = 6  # octaves more, on the side where the best rate is the grid's last
EXTENSIONS = 3  # how often at most
CURVED = 1e28  # of curvatures and their inverses, so that all rates are float32 numbers
FINE = np.arange(-6, 7) / 8  # fine rates, in octaves around the best coarse one
POINTS = 80  # recorded iterations
ITERATIONS, SHORTEST = 1000, 8  # of a probe, as a rule and at least
SOLVED = 1e-4  # share of the excess loss of the start below which a problem counts as solved
WORTHWHILE = 1.1  # a speed-up below is not worth a change
QUADRATIC, LASTING = 0.5, 0.75  # plateaus at which a trend in the speed-up ends, and goes on
DOUBT = 0.5  # share of the trend that is uncertain
# Standard deviations on either side for four cases of five: of a normal distribution, and of
# Student's by degrees of freedom, 1 to 10; the last serves for more.
NORMAL = 1.282
STUDENT = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372)


class Reasons(NamedTuple):
    """What depth 1 meets on its way, along its descent at its best rate.

    Attributes:
        plateau: exponent `a` of `‖∇L‖ ∝ (L − L∞)^a`, by least squares on log scales over the
            second half of the way (in log iterations) until it is solved, L∞ being the lowest loss
            seen at any depth.
            A quadratic has 1/2, an lp loss that reaches zero 1 − 1/p; above 1/2 gradients fade
            faster than the loss, and descent slows down.
        alignment: cosine between the direction of descent and that travelled so far, mean over
            the second half. Depth lengthens the part of a gradient along the kernel.
        conditioning: condition number of `Xᵀ X` over the eigenvalues that make up 99 % of its
            trace.
        growth: norm of the kernel at the end over that at the start. The rule multiplies a
            gradient by up to `N ‖K‖^{2−2/N}`.
    """

    plateau: float
    alignment: float
    conditioning: float
    growth: float


class SpeedUp(NamedTuple):
    """Speed-up of a depth over depth 1 when both are stopped after the same iterations.

    The iterations that depth 1 needs to the higher of both lowest losses, over those that the depth
    needs, each at the rate and start that are fastest for it. Where both come closer than 1e-4 of
    the start's excess loss to the lowest, those that they need to come so close.

    Attributes:
        value: geometric mean over replicates.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Value and interval."""
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclasses.dataclass(frozen=True)
class Advice:
    """What `probe` found.

    Attributes:
        depth: the depth to use; 1 where none is expected to be worth it.
        expected: `SpeedUp` by depth, at the horizon asked about.
        measured: `SpeedUp` by depth, at the end of the probe's own iterations.
        starts: best start by depth, as a norm of the kernel.
        rates: best learning rate by depth.
        reasons: `Reasons`.
        iterations: of the probe.
        horizon: iterations of the training that the advice is for.
        inside: whether all best rates and starts are inside their grids; that of rates is extended
            until they are, or until the rates are absurd.
    """

    depth: int
    expected: dict[int, SpeedUp]
    measured: dict[int, SpeedUp]
    starts: dict[int, float]
    rates: dict[int, float]
    reasons: Reasons
    iterations: int
    horizon: int
    inside: bool

    def __str__(self) -> str:
        """The advice in words."""
        others = [depth for depth in self.expected if depth != self.depth]
        first, *rest = [
            self._in_words(depth) for depth in ([self.depth] * (self.depth > 1)) + others
        ]
        if self.depth == 1:
            first = f"Stay with depth 1: {first[0].lower()}{first[1:]}"
        why = self.reasons
        lines = [
            " ".join(
                [
                    f"{first} as depth 1, over {self.horizon:,} iterations.",
                    *(f"{other}." for other in rest),
                ]
            ),
            f"Gradients fade as the excess loss to the {why.plateau:.2f} (a quadratic's: 0.5); "
            f"their cosine with the way travelled is {why.alignment:.2f}; condition number "
            f"{why.conditioning:.3g}; the kernel grows {why.growth:.3g} times.",
        ]
        if not self.inside:
            lines.append("A best rate or start is the last of its grid: others may be better.")
        return "\n".join(lines)

    def _in_words(self, depth: int) -> str:
        value, low, high = (f"{number:.2g}" for number in self.expected[depth])
        return f"Depth {depth} should train about {value} times as fast ({low} to {high})"


def probe(
    loss: Any,
    data: tuple[npt.ArrayLike, npt.ArrayLike],
    depths: Iterable[int] = (2, 3),
    iterations: int | None = None,
    horizon: int | None = None,
    examples: int | None = None,
    replicates: int = 3,
    starts: Sequence[float] = STARTS,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
    verbose: int = 1,
) -> Advice:
    """Measure whether depth makes gradient descent faster on a linear problem, and say which.

    Deep linear networks `K = A1 @ … @ AN` from balanced starts are trained beside depth 1 on random
    parts of the data, at a grid of learning rates and scales of the start that is the same for all
    depths, then at a finer one around each depth's best. What is compared is each depth at its own
    best rate and start. Where gradients fade faster than those of a quadratic, the speed-up's trend
    over the probe's iterations is extrapolated to the horizon; the uncertainty, of four cases in
    five, is that over replicates (other examples, other starts) and half of the trend.

    Args:
        loss: what is trained: a number p ≥ 2 or a `LpLoss` for an lp regression, `"mse"`,
            `"cross_entropy"` for a classification by softmax, or the Keras losses of these. Or a
            compiled Keras model whose output is that of a dense layer: then this head is probed, on
            the inputs that it gets at present, without its regularizers and constraints.
        data: `(features, targets)`: arrays of shapes `(n, inputs)` and `(n,)` or `(n, outputs)`,
            integer, boolean or one-hot classes for a classification; the model's own inputs and
            targets for a model. Scaled as they are trained on, with a column of ones for a bias.
        depths: to compare with depth 1.
        iterations: of full-batch gradient descent in the probe; by default 1000, or all of a
            shorter horizon.
        horizon: iterations of the training that one has in mind; ten times the probe's by default.
        examples: in a replicate; `max(1000, 4 · inputs)` by default, at most four fifths.
        replicates: at least 2, each with other examples and another start.
        starts: norms of the first kernels, times `sqrt(min(inputs, outputs))`.
        seed: of the choice of examples and starts.
        progress: function called with the share done since its last call (their sum is 1).
        verbose: 1 for a progress bar, 0 for none; there is none beside `progress` either.

    Returns:
        An `Advice`; `print` it.

    Raises:
        ValueError: for a loss or a model of another kind, arguments out of range, or data that do
            not fit, hold nothing to learn or overflow.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import probe
    >>> random = np.random.default_rng(0)
    >>> features = random.normal(size=(100, 5))
    >>> advice = probe(2, (features, features @ np.ones(5)), depths=[2], iterations=50, verbose=0)
    >>> advice.depth
    1

    Reference:
        Arora, Cohen & Hazan 2018, whose blog post ends with the question:
        https://www.offconvex.org/2018/03/02/acceleration-overparameterization/
    """
    kind, features, targets = _linear_problem(loss, data)
    if isinstance(depths, (str, bytes)) or not isinstance(depths, Iterable):
        raise refusal("depths", "a list of positive integers", depths)
    depths = [1, *sorted({positive_integer("depths", depth) for depth in depths} - {1})]
    iterations, horizon = _lengths(iterations, horizon)
    if len(depths) < 2 or positive_integer("replicates", replicates) < 2:
        raise ValueError(
            "`depths` must hold a depth above 1 and `replicates` must be at least 2. "
            f"Received: depths={depths!r}, replicates={replicates!r}"
        )
    norms = real_array("starts", starts).astype("float64")
    if norms.ndim != 1 or not np.all(norms > 0):
        raise refusal("starts", "a list of positive numbers", starts)
    if examples is None:
        examples = max(1000, 4 * features.shape[1])
    examples = min(positive_integer("examples", examples), max(2, 4 * len(features) // 5))
    random = np.random.default_rng(seed)
    done = progress or _progress_bar(replicates * len(depths), verbose)
    found = []
    for _ in range(replicates):
        chosen = np.sort(random.permutation(len(features))[:examples])
        replicate = Tuned(kind, features[chosen], targets[chosen], norms, iterations, random)
        for depth in depths:
            replicate.tune(depth)
            done(1 / (replicates * len(depths)))
        found.append(replicate)
    return _advice(found, depths, horizon)


def _lengths(iterations: int | None, horizon: int | None) -> tuple[int, int]:
    """Iterations of the probe and of the training in mind, of which either may be left open."""
    if horizon is not None and positive_integer("horizon", horizon) < SHORTEST:
        raise refusal("horizon", f"at least {SHORTEST}", horizon)
    if iterations is None:
        iterations = min(ITERATIONS, horizon or ITERATIONS)
    if positive_integer("iterations", iterations) < SHORTEST:
        raise refusal("iterations", f"at least {SHORTEST}", iterations)
    horizon = 10 * iterations if horizon is None else horizon
    if horizon < iterations:
        raise refusal("horizon", f"at least `iterations`, which is {iterations}", horizon)
    return int(iterations), int(horizon)


def _progress_bar(parts: int, verbose: int) -> Callable[[float], object]:
    """Function to call with the share done, as `progress`."""
    if verbose not in (0, 1):
        raise refusal("verbose", "0 or 1", verbose)
    bar = keras.utils.Progbar(parts, verbose=verbose, unit_name="sweep")
    bar.update(0)
    return lambda share: bar.add(1)


class Tuned:
    """Depths trained on one problem from one direction of the start, each at its best.

    Args:
        kind: power of an lp loss, or `CROSS_ENTROPY`.
        features: array of shape `(n, inputs)`.
        targets: array of shape `(n,)` or `(n, outputs)`.
        starts: norms of the first kernels, times `sqrt(min(inputs, outputs))`.
        iterations: of gradient descent.
        random: a NumPy generator, for the start's direction.

    Attributes:
        grid: the recorded iterations.
        curves: by depth, losses `(T, C)` of all configurations tried.
        rates: by depth, the rate that is best at the end.
        norms: by depth, the norm of the start that is best at the end.
        inside: whether all best rates and starts are inside their grids.
    """

    def __init__(
        self,
        kind: Kind,
        features: Float64Array,
        targets: Array,
        starts: npt.ArrayLike,
        iterations: int,
        random: np.random.Generator,
    ) -> None:
        _teach(kind, targets)
        self.features, self.targets = features, targets
        self.loss: dict[str, Any] = {"loss": CROSS_ENTROPY}
        if kind != CROSS_ENTROPY:
            self.loss = {"loss": LP, "power": kind}
        self.problem = linear_problem(
            features, targets, **{"power": 2} | self.loss, dtype="float32"
        )
        self.curvature = self.problem.curvature_at_zero()
        if not 1 / CURVED < self.curvature < CURVED:
            raise ValueError(
                "The loss must be curved at the kernel zero, or there is no scale for the rates, "
                f"by {1 / CURVED:.0e} to {CURVED:.0e}, so that float32 holds them. "
                f"Received: data with curvature {self.curvature}"
            )
        direction = random.normal(size=self.problem.kernel_shape)
        direction *= np.sqrt(min(direction.shape)) / np.linalg.norm(direction)
        self.kernels = np.asarray(starts)[:, None, None] * direction
        self.grid = logarithmic_grid(iterations, POINTS)
        self.curves: dict[int, Float64Array] = {}
        self.rates: dict[int, float] = {}
        self.norms: dict[int, float] = {}
        self.best_kernels: dict[int, Array] = {}
        self.inside = True

    def tune(self, depth: int) -> None:
        """Find a depth's best rates and starts: by octaves as far as needed, then finely."""
        octaves = np.arange(*OCTAVES)
        curves = self._train(depth, octaves, self.kernels)
        for _ in range(EXTENSIONS):
            best = self._fastest(curves)[1]
            if 0 < best < len(octaves) - 1:
                break
            if best:
                more = octaves[-1] + np.arange(1, EXTENSION + 1)
            else:
                more = octaves[0] - np.arange(EXTENSION, 0, -1)
            parts = [(octaves, curves), (more, self._train(depth, more, self.kernels))]
            first, second = parts if best else parts[::-1]
            octaves = np.concatenate([first[0], second[0]])
            curves = np.concatenate([first[1], second[1]], axis=2)
        start, best = self._fastest(curves)
        # At depth 1, starts smaller than the smallest are next to zero: they are no better.
        least, last = int(depth > 1), len(self.kernels) - 1
        inner = last == 0 or least <= start < last
        self.inside &= bool(0 < best < len(octaves) - 1 and inner)
        near = octaves[best] + FINE
        fine = self._train(depth, near, self.kernels[[start]])
        # Shorter ways are walked best at other rates: every curve that was seen counts.
        everything = np.concatenate([c.reshape(len(self.grid), -1) for c in (curves, fine)], axis=1)
        self.curves[depth] = np.minimum.accumulate(everything, axis=0)
        self.rates[depth] = float(self._rates(near)[self._fastest(fine)[1]])
        if depth == 1 and not self.curves[1][-1].min() < self.curves[1][0].min():
            raise ValueError(
                "Depth 1 must lower the loss at some rate: scale features and targets as one "
                f"would to train on them. Received: data with curvature {self.curvature:.3g}, "
                f"and rates up from {self._rates(octaves)[0]:.3g}, all of which diverge"
            )
        self.best_kernels[depth] = self.kernels[start]
        self.norms[depth] = float(np.linalg.norm(self.kernels[start]))

    def _fastest(self, curves: Float64Array) -> tuple[int, int]:
        """Start and rate of the lowest loss at the end; of those that solve it, the fastest."""
        flat = curves.reshape(len(curves), -1)
        target = _solved(flat[-1].min(), flat[0].min())
        best = np.argmin(iterations_to(self.grid, flat, target))
        start, rate = np.unravel_index(best, curves.shape[1:])
        return int(start), int(rate)

    def _rates(self, octaves: Array) -> Float64Array:
        return 2.0**octaves / self.curvature

    def _train(self, depth: int, octaves: Array, kernels: Float64Array) -> Float64Array:
        """Losses by iteration, start and rate."""
        result: SweepResult = sweep_linear_networks(
            self.features,
            self.targets,
            balanced_factors(np.repeat(kernels, len(octaves), axis=0), depth),
            "sgd",
            np.tile(self._rates(octaves), len(kernels)),
            self.grid,
            **self.loss,
        )
        return result.losses.reshape(len(self.grid), len(kernels), len(octaves))

    def speed_up(self, depth: int, point: int = -1) -> float:
        """Speed-up of a depth over depth 1 when both are stopped at a recorded iteration."""
        end = len(self.grid) if point == -1 else point + 1
        ours, theirs = (self.curves[n][:end] for n in (depth, 1))
        lowest, higher = sorted([ours[-1].min(), theirs[-1].min()])
        target = max(higher, _solved(lowest, theirs[0].min()))
        first = [iterations_to(self.grid[:end], losses, target).min() for losses in (ours, theirs)]
        return float(max(first[1], 1) / max(first[0], 1))

    def reasons(self) -> Reasons:
        """What depth 1 meets on its way at its best rate, see `Reasons`."""
        lowest = min(curves.min() for curves in self.curves.values())
        gradient, losses = self.problem.functions()
        first = kernel = ops.convert_to_tensor(self.best_kernels[1][None], "float32")
        seen = []
        for iteration in range(self.grid[-1] + 1):
            slope = gradient(kernel)
            if iteration in self.grid:
                down, way = (ops.convert_to_numpy(t) for t in (-slope, kernel - first))
                (down, scale), (way, _) = _scaled(down), _scaled(way)
                norms = np.linalg.norm(down), np.linalg.norm(way)
                cosine = np.sum(down * way) / max(np.prod(norms), np.finfo("float32").tiny)
                seen.append((float(losses(kernel)[0]) - lowest, scale * norms[0], cosine))
            kernel = kernel - self.rates[1] * slope
        # Until it is solved: then there is nothing but rounding.
        seen = [line for line in seen if line[0] > SOLVED * seen[0][0]] or seen[:1]
        excess, sizes, cosines = np.array(seen[len(seen) // 2 :]).T
        logs = np.log(np.maximum([excess, sizes], np.finfo("float32").tiny))
        ends = [np.linalg.norm(ops.convert_to_numpy(t)) for t in (first, kernel)]
        return Reasons(
            float(np.polyfit(logs[0], logs[1], 1)[0])
            if np.unique(logs[0]).size > 1
            else float("nan"),
            float(np.mean(cosines)),
            _conditioning(self.features),
            float(ends[1] / ends[0]),
        )


def _solved(lowest: float, start: float) -> float:
    """The loss at which a problem counts as solved, given the lowest one and that of the start."""
    # Where all diverge, no loss is low enough: none is below NaN.
    return lowest + SOLVED * (start - lowest) if np.isfinite(lowest) else float("nan")


def _scaled(array: Array) -> tuple[Array, np.float32]:
    """An array over a power of two, exactly, so that its squares do not overflow; the power."""
    scale = np.float32(2.0 ** np.frexp(np.abs(array).max())[1])
    return array / scale, scale


def _teach(kind: Kind, targets: Array) -> None:
    """Refuse targets that are all zero or, of a classification, of one class."""
    alone = targets.flat[0]
    if np.all(targets == alone) and (kind == CROSS_ENTROPY or alone == 0):
        raise ValueError(
            "Every replicate must have targets to learn: two classes or more, or numbers other "
            f"than zero. Received: {alone:g} alone"
        )


def _advice(found: list[Tuned], depths: list[int], horizon: int) -> Advice:
    """From the replicates' curves to an `Advice`."""
    grid = found[0].grid
    iterations = int(grid[-1])
    reasons = found[0].reasons()
    # The trend is that from an eighth of the iterations on, on log scales. By the
    # paper's analysis depth does not accelerate a quadratic, and a plateau is what it shortens.
    lasting = np.clip((reasons.plateau - QUADRATIC) / (LASTING - QUADRATIC), 0, 1)
    points = np.flatnonzero(grid >= iterations / 8)
    times = np.log(grid[points] / iterations)
    expected, measured = {}, {}
    for depth in depths[1:]:
        logs = np.log([[one.speed_up(depth, int(point)) for point in points] for one in found])
        trends = np.polyfit(times, logs.T, 1)[0] * np.log(horizon / iterations)
        measured[depth] = _interval(logs[:, -1], 0.0)
        ahead = np.nan_to_num(lasting) * trends
        expected[depth] = _interval(logs[:, -1] + ahead, DOUBT * float(np.mean(np.abs(trends))))
    worthwhile = {
        depth: speed_up.value
        for depth, speed_up in expected.items()
        if speed_up.low > 1 and speed_up.value > WORTHWHILE
    }
    return Advice(
        depth=max(worthwhile, key=lambda depth: worthwhile[depth], default=1),
        expected=expected,
        measured=measured,
        starts={n: float(np.median([one.norms[n] for one in found])) for n in depths},
        rates={n: float(np.median([one.rates[n] for one in found])) for n in depths},
        reasons=reasons,
        iterations=iterations,
        horizon=horizon,
        inside=all(one.inside for one in found),
    )


def _interval(logs: Float64Array, more: float) -> SpeedUp:
    """`SpeedUp` from logarithms by replicate, and another standard deviation.

    The interval is that of prediction: for another replicate, given the mean and spread of a few.
    """
    quantile = STUDENT[min(len(logs) - 1, len(STUDENT)) - 1]
    spread = quantile * np.std(logs, ddof=1) * np.sqrt(1 + 1 / len(logs))
    mean, width = np.mean(logs), np.hypot(spread, NORMAL * more)
    return SpeedUp(*(float(np.exp(value)) for value in (mean, mean - width, mean + width)))


def _conditioning(features: Float64Array) -> float:
    """Condition number of `Xᵀ X` over the eigenvalues that make up 99 % of its trace."""
    values = np.linalg.svd(features, compute_uv=False) ** 2
    needed = np.searchsorted(np.cumsum(values), 0.99 * values.sum())
    return float(values[0] / values[min(needed, len(values) - 1)])


def _linear_problem(
    loss: Any, data: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[Kind, Float64Array, Array]:
    """Kind of the loss, features and targets as arrays."""
    try:
        features, targets = data
    except (TypeError, ValueError):
        raise refusal("data", "a pair of features and targets", data) from None
    if isinstance(loss, keras.Model):
        kind, features = _head(loss, features)
    else:
        kind = _kind(loss)
    targets = real_targets(targets)
    if kind == CROSS_ENTROPY and targets.ndim == 2 and targets.shape[1] > 1:
        targets = _classes(targets)
    features = real_array("features", features).astype("float64")
    # Of all the data, so that what is wrong is said of them and not of a part.
    name = LP if kind != CROSS_ENTROPY else CROSS_ENTROPY
    problem = linear_problem(features, targets, name, 2, "float32")
    if isinstance(loss, keras.Model):
        _fits(loss.layers[-1], problem.kernel_shape[1])
    return kind, features, targets


def _classes(targets: Array) -> Array:
    """Integer classes of one-hot rows."""
    classes = np.argmax(targets, axis=1)
    if not np.array_equal(targets, np.eye(targets.shape[1])[classes]):
        wanted = "of a cross-entropy, integer classes or one-hot rows, without soft labels"
        raise refusal("targets", wanted, targets)
    return classes


def _fits(head: keras.layers.Layer, outputs: int) -> None:
    """Refuse targets that are not as wide as a head: they would make another problem."""
    if head.units != outputs:
        raise ValueError(
            f"The targets must have a column or a class for each of the {head.units} units of "
            f"{head.name!r}. Received: {outputs} columns or classes"
        )


def _kind(loss: Any) -> Kind:
    """A power, or `CROSS_ENTROPY`, for a loss by whatever name."""
    if isinstance(loss, numbers.Real):
        return checked_power(loss)  # type: ignore[arg-type]
    if isinstance(loss, str):
        if loss == CROSS_ENTROPY:
            return CROSS_ENTROPY
        with contextlib.suppress(ValueError):  # the sentence below says more
            loss = keras.losses.get(loss)
    _refuse_options(loss)
    if type(loss) is LpLoss:
        return loss.power
    kinds: tuple[tuple[Kind, tuple[Any, ...]], ...] = (
        (2, REGRESSIONS),
        (CROSS_ENTROPY, CLASSIFICATIONS),
    )
    for kind, known in kinds:
        if any(loss is item or type(loss) is item for item in known):
            return kind
    wanted = (
        'a power, "mse", "cross_entropy", an `LpLoss`, a mean squared error, a categorical '
        "cross-entropy (sparse or not), or a compiled model with one of these"
    )
    raise refusal("loss", wanted, loss)


def _refuse_options(loss: Any) -> None:
    """Refuse a known Keras loss with options that make it another one, such as smoothing."""
    if type(loss) not in REGRESSIONS + CLASSIFICATIONS:
        return
    usual = type(loss)().get_config()
    options = {
        name: value
        for name, value in loss.get_config().items()
        if name not in SAME_LOSS and value != usual.get(name)
    }
    if options:
        raise refusal("loss", f"a {type(loss).__name__} without other options", options)


def _is_last(model: keras.Model, head: keras.layers.Layer) -> bool:
    """Whether a model computes what a dense layer returns, and nothing behind it."""
    own = [type(model).call, type(head).call]  # what a subclass computes is not known
    kept = own[0].__module__.startswith("keras.") and own[1] in [one.call for one in HEADS]
    return kept and model.outputs[0] is head.output


def _warn_of_penalties(head: keras.layers.Layer) -> None:
    """Say it where a head has regularizers or constraints, which the probe does without."""
    parts = [(head, "activity_regularizer")]
    parts += [(v, name) for v in head.trainable_variables for name in ("regularizer", "constraint")]
    if any(getattr(part, name, None) is not None for part, name in parts):
        warnings.warn(
            f"The probe leaves out the regularizers and constraints of {head.name!r}.", stacklevel=5
        )


def _head(model: keras.Model, inputs: npt.ArrayLike) -> tuple[Kind, Array]:
    """Loss of a model's last layer, and the inputs that this layer gets at present."""
    if not (model.built and model.compiled and model.layers):
        raise ValueError(f"The model to probe must be built and compiled. Received: {model!r}")
    outputs = getattr(model, "outputs", None) or []  # a subclassed model has none
    if len(outputs) != 1:
        raise ValueError(
            "The model to probe must be functional or sequential, and have one output. "
            f"Received: {model.name!r}, a {type(model).__name__} with {len(outputs)}"
        )
    head = model.layers[-1]
    if not isinstance(head, HEADS) or not _is_last(model, head):
        raise ValueError(
            "The model's output must be that of its last layer, a dense one used nowhere before, "
            f"without operations behind it. Received: {model.name!r}, whose last layer is {head!r}"
        )
    _warn_of_penalties(head)
    kind = _kind(model.loss)
    activation = getattr(head, "activation", keras.activations.linear)
    # Of a cross-entropy of probabilities, the softmax belongs to the loss.
    logits = getattr(model.loss, "from_logits", False) or kind != CROSS_ENTROPY
    wanted = keras.activations.linear if logits else keras.activations.softmax
    if activation is not wanted:
        raise ValueError(
            f"With this loss the last layer's activation must be {wanted.__name__!r}. "
            f"Received: {getattr(activation, '__name__', activation)!r}"
        )
    features = keras.Model(model.inputs, head.input).predict(inputs, verbose=0)
    if features.ndim != 2:
        raise ValueError(
            "The last layer must get inputs of shape `(n, inputs)`. "
            f"Received shape: {features.shape}"
        )
    if getattr(head, "use_bias", False):  # as the weights of an input that is one
        features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    return kind, features
