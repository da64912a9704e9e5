"""Gradient descent by the end-to-end rule: the dynamics of a product without its factors."""

import math
import re
import warnings

import keras
from keras import ops

from keras_overparam.checks import positive_integer
from keras_overparam.end_to_end import (
    Preconditioner,
    end_to_end_gradient,
    precondition,
    preconditioner,
    unit_step_norm,
)

EXCLUDE = ("embeddings", "depthwise", r"/factor_\d+$")
STALLED_BELOW = 1e-2  # largest factor by which the rule multiplies a gradient, at a stalled start


@keras.saving.register_keras_serializable(package="keras_overparam")
class EndToEnd(keras.optimizers.SGD):
    """Trains each kernel as if it were a product of `depth` factors, without the factors.

    For a kernel `K` with gradient `G`, momentum 0 and weight decay λ (of each factor),

        K ← (1 − ηλN) K − η Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N},    j = 1 … N,

    which is what gradient descent on N balanced factors does to their product, up to terms of
    order η². All other variables get plain gradient descent. With momentum, the preconditioned
    gradient takes the place of the gradient; clipping, accumulation, loss scaling and averaging
    are Keras's own, and act before the rule (clipping) or after it (averaging).

    Which variables are kernels is decided once, when the optimizer is built: matrices, and on
    request convolution kernels, as matrices of shape `(receptive field · channels, filters)`.

    Args:
        learning_rate: η, a float or a schedule.
        depth: N, a positive integer for all kernels; or a dictionary from regular expressions to
            depths, in which the first that is found in a kernel's path counts, and kernels without
            one get plain gradient descent. Depth 1 is `keras.optimizers.SGD`.
        momentum: as in `SGD`.
        nesterov: as in `SGD`.
        weight_decay: λ. Kernels decay by Nλ, as they would through their factors; exclude variables
            with `exclude_from_weight_decay`.
        convolutions: whether kernels of more than two axes are trained by the rule too.
        exclude: regular expressions; a variable in whose path one is found is not a kernel. By
            default embeddings, depthwise convolutions and the factors of factored layers.
        tolerance: 0 for the exact rule at every step. Otherwise a kernel's preconditioner is kept
            until the kernel has moved by this fraction of its norm; the relative error of an
            update is then about the tolerance at depth 2, and at most about its 2/N-th power.
        **kwargs: those of `keras.optimizers.SGD` (`clipnorm`, `use_ema`,
            `gradient_accumulation_steps`, `name`, …).

    Raises:
        ValueError: for arguments out of range.

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

    def __init__(
        self,
        learning_rate=0.01,
        depth=2,
        momentum=0.0,
        nesterov=False,
        weight_decay=None,
        convolutions=False,
        exclude=EXCLUDE,
        tolerance=0.0,
        **kwargs,
    ):
        depth = _checked_depth(depth)
        if isinstance(exclude, str) or not all(isinstance(item, str) for item in exclude):
            raise ValueError(
                f"`exclude` must be a list of regular expressions. Received: exclude={exclude!r}"
            )
        if not 0 <= tolerance < 1:
            raise ValueError(
                f"`tolerance` must be at least 0 and below 1. Received: tolerance={tolerance!r}"
            )
        super().__init__(
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            **kwargs,
        )
        self.depth = depth
        self.convolutions = convolutions
        self.exclude = list(exclude)
        self.tolerance = tolerance

    def build(self, variables):
        """Decide which variables are kernels, and create the optimizer's state.

        Args:
            variables: list of the model's trainable variables.
        """
        if self.built:
            return
        super().build(variables)
        self._depths = [self._depth_of(variable) for variable in variables]
        self._kept = [
            self._create_kept(variable) if self.tolerance and depth > 1 else None
            for variable, depth in zip(variables, self._depths, strict=True)
        ]
        for variable, depth in zip(variables, self._depths, strict=True):
            if depth > 1:
                _warn_if_stalled(variable, depth)

    def _depth_of(self, variable):
        """Depth of the rule for a variable, 1 if it is no kernel."""
        path = variable.path
        rank = len(variable.shape)
        kernel = rank == 2 or (self.convolutions and rank > 2)
        if not kernel or any(re.search(pattern, path) for pattern in self.exclude):
            return 1
        if isinstance(self.depth, int):
            return self.depth
        return next((n for pattern, n in self.depth.items() if re.search(pattern, path)), 1)

    def _create_kept(self, variable):
        """State of a kept preconditioner: the kernel it is of, and its four parts."""
        rows, columns = _tall_shape(variable.shape)
        if columns == 1:
            return None  # nothing to decompose
        tall, square = (rows, columns), (columns, columns)
        shapes = [("reference", tall), ("left", tall)]
        shapes += [(what, square) for what in ("coefficients", "right", "outer")]
        name = variable.path.replace("/", "_")
        dtype = "float64" if variable.dtype == "float64" else "float32"
        return [
            self.add_variable(shape=shape, dtype=dtype, name=f"{name}_{what}")
            for what, shape in shapes
        ]

    def update_step(self, gradient, variable, learning_rate):
        """Precondition the gradient of a kernel, then step as `SGD` does.

        Args:
            gradient: gradient of the loss in the variable.
            variable: the variable.
            learning_rate: the present learning rate.
        """
        index = self._get_variable_index(variable)
        if self._depths[index] > 1:
            gradient = self._preconditioned(index, variable, gradient)
        super().update_step(gradient, variable, learning_rate)

    def _preconditioned(self, index, variable, gradient):
        """The rule's gradient of a kernel, in the kernel's own shape."""
        matrix_shape = (-1, variable.shape[-1])
        kernel = ops.reshape(ops.convert_to_tensor(variable), matrix_shape)
        gradient = ops.reshape(ops.convert_to_tensor(gradient), matrix_shape)
        depth, kept = self._depths[index], self._kept[index]
        if kept is None:
            update = end_to_end_gradient(kernel, gradient, depth)
        else:
            wide = kernel.shape[0] < kernel.shape[1]
            kernel, gradient = (
                ops.cast(ops.transpose(matrix) if wide else matrix, kept[0].dtype)
                for matrix in (kernel, gradient)
            )
            update = precondition(self._kept_preconditioner(kept, kernel, depth), gradient)
            update = ops.transpose(update) if wide else update
        return ops.reshape(update, variable.shape)

    def _kept_preconditioner(self, kept, kernel, depth):
        """The kept preconditioner, or a new one if the kernel has moved beyond the tolerance."""
        reference = ops.convert_to_tensor(kept[0])
        moved = ops.norm(kernel - reference) > self.tolerance * ops.norm(reference)
        state = ops.cond(
            moved,
            lambda: (kernel, *preconditioner(kernel, depth)),
            lambda: tuple(ops.convert_to_tensor(variable) for variable in kept),
        )
        for variable, value in zip(kept, state, strict=True):
            self.assign(variable, value)
        return Preconditioner(*state[1:])

    def _apply_weight_decay(self, variables):
        """Decay by Nλ: that of N factors, each decayed by λ."""
        if self.weight_decay is None:
            return
        decay = self.weight_decay
        depths = [self._depths[self._get_variable_index(variable)] for variable in variables]
        try:
            for depth in sorted(set(depths)):
                self.weight_decay = depth * decay
                super()._apply_weight_decay(
                    [v for v, n in zip(variables, depths, strict=True) if n == depth]
                )
        finally:
            self.weight_decay = decay

    def get_config(self):
        """Arguments of the constructor, serializable."""
        return super().get_config() | {
            "depth": dict(self.depth) if isinstance(self.depth, dict) else self.depth,
            "convolutions": self.convolutions,
            "exclude": list(self.exclude),
            "tolerance": self.tolerance,
        }


def _checked_depth(depth):
    if not isinstance(depth, dict):
        return positive_integer("depth", depth)
    if not all(isinstance(pattern, str) for pattern in depth):
        raise ValueError(
            "`depth` must be a positive integer or a dictionary from regular expressions to "
            f"positive integers. Received: depth={depth!r}"
        )
    return {pattern: positive_integer("depth", value) for pattern, value in depth.items()}


def _tall_shape(shape):
    """Sizes of a kernel as a matrix, the larger first."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    return max(rows, columns), min(rows, columns)


def _warn_if_stalled(variable, depth):
    """Say so if the rule will hardly move a kernel from where it starts."""
    try:
        norm = float(ops.norm(ops.reshape(ops.cast(variable.value, "float32"), (-1,))))
    except Exception:  # built while tracing, where variables have no values: nothing to look at
        return
    largest = depth * norm ** (2 - 2 / depth)
    if largest < STALLED_BELOW:
        warnings.warn(
            f"The kernel {variable.path!r} starts at or near zero (norm {norm:.2g}): at depth "
            f"{depth} the end-to-end rule multiplies its gradient by at most {largest:.2g}, a "
            "saddle of the deep network too. Start it larger, for instance with a spectral norm of "
            f"{unit_step_norm(depth):.2g}, or name it in `exclude`.",
            stacklevel=3,
        )
