"""Gradient descent by the end-to-end rule: the dynamics of a product without its factors."""

import functools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import (
    finite_number,
    fraction,
    positive_integer,
    refusal,
    regular_expression,
)
from keras_overparam.end_to_end import (
    OVERSAMPLED,
    Preconditioner,
    end_to_end_gradient,
    polar_factors,
    precondition,
    precondition_by_polar,
    precondition_by_root,
    precondition_thin_by_polar,
    precondition_thin_by_root,
    preconditioner,
    thin_gradient,
    tracked_root,
    unit_step_norm,
)
from keras_overparam.kernels import row_axes
from keras_overparam.precision import frobenius_norm
from keras_overparam.tracing import known_values
from keras_overparam.typing import Config, Sizes, Tensor

TRACKED_FROM = 64  # columns; smaller kernels are decomposed faster than they are tracked
STALLED_BELOW = 1e-2  # largest factor by which the rule multiplies a gradient, at a stalled start
EARLIER_EXCLUDE = ("embeddings", "depthwise", r"/factor_\d+$")  # by default, earlier
PATHS_SHOWN = 50  # in an error


class Treatment(NamedTuple):
    """How a variable is trained: as a matrix whose rows are its first axes, by the rule of a depth.

    `row_axes` is 0 and `depth` is 1 for what gets plain gradient descent.
    """

    row_axes: int
    depth: int


PLAIN = Treatment(row_axes=0, depth=1)


@keras.saving.register_keras_serializable(package="keras_overparam")
class EndToEnd(keras.optimizers.SGD):
    """Trains each kernel as if it were a product of `depth` factors, without the factors.

    For a kernel `K` with gradient `G`, momentum 0 and weight decay λ (of each factor),

        K ← (1 − ηλN) K − η Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N},    j = 1 … N,

    which is what gradient descent on N balanced factors does to their product, up to terms of
    order η². All other variables get plain gradient descent. With momentum, the preconditioned
    gradient takes the place of the gradient; clipping, accumulation, loss scaling and averaging
    are Keras's own, and act before the rule (clipping) or after it (averaging).

    Which variables are kernels is decided once, when the optimizer is built, and stays so in a
    saved and loaded model. Kernels are matrices, variables of two axes, but for those that their
    layers call something that ends in `bias`, `beta`, `gamma`, `alpha`, `scale` (added or
    multiplied entry by entry), `embeddings`, `table`, `token`, `pos`, `position` (looked up or
    added; of several, with a letter or number behind), `lora_…` and `factor_1`, `factor_2`, …
    (factors of a product). That name is the last part of a variable's path; layers may have any
    name, and `trained_by_the_rule()` lists what was found. What belongs to a
    variable of more than two axes, only its layer knows: give `kernels=kernels_of(model)` to train
    convolutions and attention by the rule too.

    At depth 2, kernels of 64 columns and rows or more are not decomposed at every step. The
    optimizer keeps their singular vectors of some earlier step, corrects by matrix products for
    what has changed, and decomposes a kernel again once this would leave a relative error above
    about 4e-5, in float32 (see `keras_overparam.end_to_end.tracked_root`).

    Args:
        learning_rate: η, a float or a schedule.
        depth: N, a positive integer for all kernels; or a dictionary from regular expressions to
            depths, in which the first that is found in a kernel's path counts, and kernels without
            one get plain gradient descent. Each must be found in the path of a kernel. Depth 1 is
            `keras.optimizers.SGD`.
        momentum: as in `SGD`.
        nesterov: as in `SGD`.
        weight_decay: λ. Kernels decay by Nλ, as they would through their factors; exclude variables
            with `exclude_from_weight_decay`.
        kernels: which variables are kernels instead, a dictionary from their paths to how many of
            their leading axes are the rows of the matrix; see `kernels_of`. A depthwise kernel of
            shape `(height, width, channels, multiplier)` has 2 in `FactoredDepthwiseConv2D`.
        exclude: regular expressions; a variable in whose path one is found is not a kernel. Each
            must be found in the path of a variable.
        tolerance: 0 for the exact rule at every step. Otherwise what the rule needs of a kernel is
            kept until the kernel has moved by this fraction of its norm; the relative error of an
            update is then about the tolerance at depth 2, and about its 2/N-th power beyond; more
            if kernel and gradient move in the same few directions, as in the first steps. Of use
            where kernels move by much less than that in a step; below it, 0 is cheaper at depth 2.
        gradient_rank: rank that gradients are not expected to exceed, usually the batch size: the
            gradient of a dense layer's kernel has at most one dimension per row of the batch.
            Much below the kernel's smaller side it makes steps at depth 2 cheaper. Each gradient is
            checked, and those of higher rank are treated as without it; such are all gradients
            of a loss that has an L2 term of the kernel (unlike `weight_decay`).
        **kwargs: those of `keras.optimizers.SGD` (`clipnorm`, `use_ema`,
            `gradient_accumulation_steps`, `name`, …).

    Raises:
        ValueError: for arguments out of range and, when the optimizer is built, for patterns and
            paths that are not found. What `SGD` refuses is refused with its error.

    Example:

    >>> import keras, numpy as np
    >>> from keras_overparam import EndToEnd
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model.compile(EndToEnd(0.1, depth=3), loss="mse")
    >>> history = model.fit(np.eye(4), np.eye(4)[:, :3], epochs=5, verbose=0).history
    >>> history["loss"][-1] < history["loss"][0]
    True

    Reference:
        Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
        Overparameterization", ICML 2018, Theorem 1.
    """

    weight_decay: float | None

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        depth: int | dict[str, int] = 2,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        kernels: Mapping[str, int] | None = None,
        exclude: Sequence[str] = (),
        tolerance: float = 0.0,
        gradient_rank: int | None = None,
        **kwargs: Any,
    ) -> None:
        if "convolutions" in kwargs:
            raise ValueError(
                "`convolutions` went by the names of layers and is gone: pass "
                "kernels=kernels_of(model), which goes by what layers are. "
                f"Received: convolutions={kwargs['convolutions']!r}"
            )
        depth = _checked_depth(depth)
        kernels = _checked_kernels(kernels)
        exclude = _checked_patterns("exclude", exclude)
        tolerance = fraction("tolerance", tolerance)
        if gradient_rank is not None:
            gradient_rank = positive_integer("gradient_rank", gradient_rank)
        if weight_decay is not None:
            weight_decay = finite_number("weight_decay", weight_decay)
        super().__init__(
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            **kwargs,
        )
        self.depth = depth
        self.kernels = kernels
        self.exclude = exclude
        self.tolerance = tolerance
        self.gradient_rank = gradient_rank
        self._built_for: list[list[Any]] = []  # of each variable, its shape and `Treatment`
        self._treatments: list[Treatment] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Decide which variables are kernels, and create the optimizer's state.

        Args:
            variables: list of the model's trainable variables.
        """
        if self.built:
            return
        if [shape for shape, *_ in self._built_for] != [list(v.shape) for v in variables]:
            self._refuse_what_is_not_found(variables)
            self._built_for = [[list(v.shape), *self._treatment_by_path(v)] for v in variables]
        self._treatments = [Treatment(*how) for _, *how in self._built_for]
        super().build(variables)
        self._kept = [
            self._create_kept(variable, treatment)
            for variable, treatment in zip(variables, self._treatments, strict=True)
        ]
        for variable, treatment in zip(variables, self._treatments, strict=True):
            if treatment.depth > 1:
                _warn_if_stalled(variable, treatment.depth)

    def treatment_of(self, variable: keras.Variable) -> Treatment:
        """How a variable is trained.

        Args:
            variable: a variable of the model.

        Returns:
            A `Treatment`.
        """
        if self.built and self._var_key(variable) in self._trainable_variables_indices:
            return self._treatments[self._get_variable_index(variable)]
        return self._treatment_by_path(variable)

    def depth_of(self, variable: keras.Variable) -> int:
        """Depth of the rule by which a variable is trained.

        Args:
            variable: a variable of the model.

        Returns:
            N; 1, plain gradient descent, if it is no kernel.
        """
        return self.treatment_of(variable).depth

    def trained_by_the_rule(self) -> list[tuple[keras.Variable, Treatment]]:
        """The kernels that the optimizer was built for, of depths above 1, and their treatment.

        Returns:
            List of pairs.
        """
        pairs = zip(self._trainable_variables, self._treatments, strict=True)
        return [(variable, treatment) for variable, treatment in pairs if treatment.depth > 1]

    def _treatment_by_path(self, variable: keras.Variable) -> Treatment:
        path, rows = _path(variable), self._row_axes_by_path(variable)
        if not rows or any(re.search(pattern, path) for pattern in self.exclude):
            return PLAIN
        if isinstance(self.depth, int):
            return Treatment(rows, self.depth)
        depths = (depth for pattern, depth in self.depth.items() if re.search(pattern, path))
        return Treatment(rows, next(depths, 1))

    def _row_axes_by_path(self, variable: keras.Variable) -> int:
        """How many of a variable's axes are a kernel's rows, before any is excluded; or 0."""
        path, shape = _path(variable), tuple(variable.shape)
        if self.kernels is None:
            return row_axes(shape, path.rpartition("/")[-1])
        rows = self.kernels.get(path, 0)
        if rows and rows >= len(shape):
            raise ValueError(
                f"`kernels` has {path!r} with {rows} axes of rows, and it is of shape {shape}: at "
                "least one axis must be left for the columns."
            )
        return 0 if 0 in shape else rows

    def _refuse_what_is_not_found(self, variables: Sequence[keras.Variable]) -> None:
        """Refuse patterns, and paths of kernels, that are not found among the variables."""
        paths = [_path(variable) for variable in variables]
        for path in self.kernels or ():
            if path not in paths:
                raise _not_found("kernels", "path", path, "that is no variable's", paths)
        for pattern in self.exclude:
            if not any(re.search(pattern, path) for path in paths):
                raise _not_found("exclude", "pattern", pattern, "found in no variable's", paths)
        if isinstance(self.depth, dict):
            paths = [_path(variable) for variable in variables if self._is_kernel(variable)]
            for pattern in self.depth:
                if not any(re.search(pattern, path) for path in paths):
                    raise _not_found("depth", "pattern", pattern, "found in no kernel's", paths)

    def _is_kernel(self, variable: keras.Variable) -> bool:
        excluded = any(re.search(pattern, _path(variable)) for pattern in self.exclude)
        return not excluded and self._row_axes_by_path(variable) > 0

    def _create_kept(
        self, variable: keras.Variable, treatment: Treatment
    ) -> list[keras.Variable] | None:
        """State that the rule keeps of a kernel from step to step; `None` if there is none."""
        depth = treatment.depth
        if depth == 1:
            return None
        columns, rows = sorted(matrix_shape(variable.shape, treatment.row_axes))
        tall, square = (rows, columns), (columns, columns)
        if columns == 1:
            return None  # nothing to decompose
        if self.tolerance and depth == 2:
            shapes = [("basis", square), ("reference", tall), ("polar", tall), ("root", square)]
        elif self.tolerance:
            shapes = [("reference", tall), ("left", tall)]
            shapes += [(what, square) for what in ("coefficients", "right", "outer")]
        elif depth == 2 and columns >= TRACKED_FROM:
            shapes = [("basis", square)]
        else:
            return None
        name = re.sub("[/:]", "_", _path(variable))
        dtype = "float64" if variable.dtype == "float64" else "float32"
        return [
            self.add_variable(
                shape=shape,
                dtype=dtype,
                name=f"{name}_{what}",
                initializer="identity" if what == "basis" else "zeros",
            )
            for what, shape in shapes
        ]

    def update_step(self, gradient: Tensor, variable: Tensor, learning_rate: Tensor) -> None:
        """Precondition the gradient of a kernel, then step as `SGD` does.

        Args:
            gradient: gradient of the loss in the variable.
            variable: the variable.
            learning_rate: the present learning rate.
        """
        index = self._get_variable_index(variable)
        if self._treatments[index].depth > 1:
            gradient = self._preconditioned(index, variable, gradient)
        super().update_step(gradient, variable, learning_rate)

    def _preconditioned(self, index: int, variable: Tensor, gradient: Tensor) -> Tensor:
        """The rule's gradient of a kernel, in the kernel's own shape."""
        (rows, depth), kept = self._treatments[index], self._kept[index]
        shape = matrix_shape(variable.shape, rows)
        kernel = ops.reshape(ops.convert_to_tensor(variable), shape)
        gradient = ops.reshape(ops.convert_to_tensor(gradient), shape)
        if kept is None:
            update = end_to_end_gradient(kernel, gradient, depth)
        else:
            wide = kernel.shape[0] < kernel.shape[1]
            kernel, gradient = (
                ops.cast(ops.transpose(matrix) if wide else matrix, kept[0].dtype)
                for matrix in (kernel, gradient)
            )
            rule = self._rule_of_depth_two if depth == 2 else self._rule_of_more
            update = rule(kept, kernel, gradient, depth)
            update = ops.transpose(update) if wide else update
        return ops.reshape(update, variable.shape)

    def _rule_of_depth_two(
        self, kept: list[keras.Variable], kernel: Tensor, gradient: Tensor, _: int
    ) -> Tensor:
        """The rule by a root in a tracked basis, or by kept polar factors."""
        if self.tolerance:

            def polar_of(basis: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
                root = tracked_root(kernel, basis, self.tolerance)
                return root.basis, kernel, *polar_factors(root)

            _, _, polar, root = self._renewed(kept, kept[1], kernel, polar_of)
            full = functools.partial(precondition_by_polar, kernel, polar, root)
            thin = functools.partial(precondition_thin_by_polar, kernel, polar, root)
        else:
            root = tracked_root(kernel, ops.convert_to_tensor(kept[0]))
            self.assign(kept[0], root.basis)
            full = functools.partial(precondition_by_root, root)
            thin = functools.partial(precondition_thin_by_root, root)
        rank = self.gradient_rank
        if rank is None or 3 * (rank + OVERSAMPLED) > kernel.shape[-1]:
            return full(gradient)
        columns, rows, spanned = thin_gradient(gradient, rank)
        return ops.cond(spanned, lambda: thin((columns, rows)), lambda: full(gradient))

    def _rule_of_more(
        self, kept: list[keras.Variable], kernel: Tensor, gradient: Tensor, depth: int
    ) -> Tensor:
        """The rule by a kept preconditioner."""
        _, *parts = self._renewed(
            kept, kept[0], kernel, lambda *_: (kernel, *preconditioner(kernel, depth))
        )
        return precondition(Preconditioner(*parts), gradient)

    def _renewed(
        self,
        kept: list[keras.Variable],
        reference: Tensor,
        kernel: Tensor,
        new: Callable[..., tuple[Tensor, ...]],
    ) -> tuple[Tensor, ...]:
        """The kept state, renewed if the kernel has moved from its reference beyond tolerance."""
        values = [ops.convert_to_tensor(variable) for variable in kept]
        reference = ops.convert_to_tensor(reference)
        far = self.tolerance * frobenius_norm(reference)
        # Also if that overflows: what is kept of such a kernel must not stay.
        moved = ops.logical_not((frobenius_norm(kernel - reference) <= far) & ops.isfinite(far))
        values = ops.cond(moved, lambda: tuple(new(*values)), lambda: tuple(values))
        for variable, value in zip(kept, values, strict=True):
            self.assign(variable, value)
        return values

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Decay by Nλ: that of N factors, each decayed by λ."""
        if self.weight_decay is None:
            return
        decay = self.weight_decay
        depths = [self.depth_of(variable) for variable in variables]
        try:
            for depth in sorted(set(depths)):
                group = [v for v, n in zip(variables, depths, strict=True) if n == depth]
                if self._decays(group):
                    self.weight_decay = depth * decay
                    super()._apply_weight_decay(group)
        finally:
            self.weight_decay = decay

    def _decays(self, group: list[keras.Variable]) -> bool:
        """Whether there is one at least, which Keras wants on PyTorch.

        Elsewhere Keras is not asked: it remembers its answer by variable, and on TensorFlow asks
        again with a name that has the layer's in it.
        """
        return keras.backend.backend() != "torch" or any(map(self._use_weight_decay, group))

    def get_config(self) -> Config:
        """Arguments of the constructor, serializable, and what was decided by paths.

        Paths may be others in a loaded model: Keras leaves out names of models around a layer.
        """
        config = super().get_config() | {
            "depth": dict(self.depth) if isinstance(self.depth, dict) else self.depth,
            "kernels": None if self.kernels is None else dict(self.kernels),
            "exclude": list(self.exclude),
            "tolerance": self.tolerance,
            "gradient_rank": self.gradient_rank,
        }
        by_path = isinstance(self.depth, dict) or self.kernels or self.exclude
        decided = [[list(shape), *how] for shape, *how in self._built_for]
        return config | {"built_for": decided} if by_path and decided else config

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Mapping[str, Any] | None = None
    ) -> "EndToEnd":
        """An optimizer of a configuration, which treats variables of the same shapes as before.

        Args:
            config: dictionary, as `get_config` returns it.
            custom_objects: dictionary of classes by name, for a schedule of the learning rate.

        Returns:
            An `EndToEnd`, not built.
        """
        config = dict(config)
        if config.get("convolutions") is False:  # of a file written by an earlier version
            del config["convolutions"]
            config["exclude"] = [one for one in config["exclude"] if one not in EARLIER_EXCLUDE]
        built_for = config.pop("built_for", [])
        optimizer: EndToEnd = super().from_config(config, custom_objects)
        optimizer._built_for = built_for
        return optimizer


def _checked_depth(depth: int | dict[str, int]) -> int | dict[str, int]:
    if not isinstance(depth, dict):
        return positive_integer("depth", depth)
    if not all(isinstance(pattern, str) for pattern in depth):
        wanted = "a positive integer or a dictionary from regular expressions to positive integers"
        raise refusal("depth", wanted, depth)
    return {
        regular_expression("depth", pattern): positive_integer("depth", value)
        for pattern, value in depth.items()
    }


def _checked_patterns(name: str, patterns: Sequence[str]) -> list[str]:
    """A list of regular expressions, as JSON gives it back."""
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) for p in patterns):
        raise refusal(name, "a list of regular expressions", patterns)
    return [regular_expression(name, pattern) for pattern in patterns]


def _checked_kernels(kernels: Mapping[str, int] | None) -> dict[str, int] | None:
    if kernels is None:
        return None
    if not isinstance(kernels, Mapping) or not all(isinstance(path, str) for path in kernels):
        raise refusal("kernels", "None or a dictionary from paths to positive integers", kernels)
    return {path: positive_integer("kernels", rows) for path, rows in kernels.items()}


def _not_found(name: str, what: str, value: str, where: str, paths: Sequence[str]) -> ValueError:
    shown = ", ".join(map(repr, paths[:PATHS_SHOWN])) or "none"
    more = "" if len(paths) <= PATHS_SHOWN else f" and {len(paths) - PATHS_SHOWN} more"
    return ValueError(f"`{name}` has the {what} {value!r}, {where} path. There are: {shown}{more}.")


def _path(variable: keras.Variable) -> str:
    """The path of a Keras variable; the name of one of TensorFlow, which has no path."""
    return str(getattr(variable, "path", variable.name))


def matrix_shape(shape: Sizes, row_axes: int) -> tuple[int, int]:
    """Sizes of a kernel as a matrix.

    Args:
        shape: the kernel's own.
        row_axes: how many of its leading axes are rows.

    Returns:
        Pair of the numbers of rows and columns.
    """
    return math.prod(shape[:row_axes]), math.prod(shape[row_axes:])


def _warn_if_stalled(variable: keras.Variable, depth: int) -> None:
    """Say so if the rule will hardly move a kernel from where it starts."""
    value = known_values(variable)
    if value is None:
        return
    norm = float(np.linalg.norm(value.astype("float64")))
    largest = depth * norm ** (2 - 2 / depth)
    if largest < STALLED_BELOW:
        warnings.warn(
            f"The kernel {variable.path!r} starts at or near zero (norm {norm:.2g}): at depth "
            f"{depth} the end-to-end rule multiplies its gradient by at most {largest:.2g}, a "
            "saddle of the deep network too. Start it larger, for instance with a spectral norm of "
            f"{unit_step_norm(depth):.2g}, or name it in `exclude`.",
            stacklevel=3,
        )
