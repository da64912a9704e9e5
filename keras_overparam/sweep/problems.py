"""Losses of linear models on data, for many kernels at once, and their gradients."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import one_of, real_array, refusal
from keras_overparam.losses import checked_power, lp, lp_slope
from keras_overparam.typing import Array, Precision, Tensor

LP = "lp"
CROSS_ENTROPY = "cross_entropy"


class LinearProblem(ABC):
    """The mean over examples of a loss of the outputs `X K`, for kernels along a leading axis.

    Attributes:
        features: `(n, inputs)`, float64.
        targets: `(n, outputs)`, float64.
        name: what tells problems on the same data apart.
        terms: number that the sum of all examples' losses is divided by.
    """

    name: str | float
    terms: int

    def __init__(self, features: npt.ArrayLike, targets: npt.ArrayLike, dtype: Precision) -> None:
        self.features = real_array("features", features).astype("float64")
        targets = real_targets(targets)
        self.targets = targets.reshape(len(targets), -1).astype("float64")
        if len(self.features) != len(self.targets):
            raise ValueError(
                "`features` and `targets` must have one row for each example. "
                f"Received: {len(self.features)} and {len(self.targets)} rows"
            )
        if self.features.ndim != 2 or targets.ndim > 2:
            raise ValueError(
                "`features` must be of shape `(n, inputs)` and `targets` of `(n, outputs)`. "
                f"Received shapes: {np.shape(features)} and {np.shape(targets)}"
            )
        self.dtype = dtype

    @property
    def kernel_shape(self) -> tuple[int, int]:
        """Inputs and outputs."""
        return self.features.shape[1], self.targets.shape[1]

    @property
    def operations_per_step(self) -> int:
        """Floating-point operations of one step of one configuration."""
        return 4 * self.features.size * self.targets.shape[1]

    def functions(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Gradients and losses of kernels `(C, inputs, outputs)`: two functions of tensors."""
        wide = self._tensor(self.features.T)
        tall = self._tensor(self.features / self.terms)
        aims = self._tensor(self.targets.T)
        rows, (inputs, outputs) = len(self.features), self.kernel_shape

        def predictions(kernels: Tensor) -> Tensor:
            flat = ops.reshape(ops.swapaxes(kernels, 1, 2), (-1, inputs))
            return ops.reshape(flat @ wide, (-1, outputs, rows))

        def gradient(kernels: Tensor) -> Tensor:
            slopes = self.slopes(predictions(kernels), aims)
            flat = ops.reshape(slopes, (-1, rows)) @ tall
            return ops.swapaxes(ops.reshape(flat, (-1, outputs, inputs)), 1, 2)

        def losses(kernels: Tensor) -> Tensor:
            # Not `ops.mean`, which computes in float32 on JAX.
            return self.sums(predictions(kernels), aims) / self.terms

        return gradient, losses

    def _tensor(self, array: Array) -> Tensor:
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, self.dtype)
        if not np.isfinite(cast).all():
            raise ValueError(
                "`features`, `targets` and their products must be within the range of "
                f"{self.dtype}. Received: up to {np.abs(array).max():.3g}"
            )
        return ops.convert_to_tensor(cast)

    @abstractmethod
    def slopes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Derivatives of the examples' losses in outputs `(C, outputs, n)`."""

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums of the examples' losses, of shape `(C,)`."""

    @abstractmethod
    def curvature_at_zero(self) -> float:
        """Largest second derivative of the loss at the kernel zero."""


class Regression(LinearProblem):
    """lp regression, `1/p · mean |X K − Y|^p`."""

    def __init__(
        self, features: npt.ArrayLike, targets: npt.ArrayLike, power: float, dtype: Precision
    ) -> None:
        super().__init__(features, targets, dtype)
        self.power = self.name = power
        self.terms = self.targets.size
        self.through_gram = power == 2 and len(self.features) > self.features.shape[1]

    @property
    def operations_per_step(self) -> int:
        """Floating-point operations of one step of one configuration."""
        if self.through_gram:
            return 2 * self.features.shape[1] ** 2 * self.targets.shape[1]
        return super().operations_per_step

    def functions(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Gradients and losses of kernels; for p = 2 at a cost without the number of examples."""
        gradient, losses = super().functions()
        if not self.through_gram:
            return gradient, losses
        gram = self._tensor(self.features.T @ self.features / self.terms)
        moment = self._tensor(self.targets.T @ self.features / self.terms)

        def through_gram(kernels: Tensor) -> Tensor:
            return ops.swapaxes(ops.swapaxes(kernels, 1, 2) @ gram - moment, 1, 2)

        return through_gram, losses

    def slopes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Derivatives of the examples' losses in outputs."""
        return lp_slope(outputs - targets, self.power)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums of the examples' losses."""
        return ops.sum(lp(outputs - targets, self.power), axis=(1, 2))

    def curvature_at_zero(self) -> float:
        """Largest second derivative of the loss at the kernel zero."""
        with np.errstate(over="ignore"):
            weights = (self.power - 1) * np.abs(self.targets) ** (self.power - 2)
        if not np.isfinite(weights).all():
            return float("inf")
        norms = [np.linalg.norm(np.sqrt(w)[:, None] * self.features, 2) for w in weights.T]
        return float(max(norms) ** 2 / self.terms)


class Classification(LinearProblem):
    """Classification by softmax: mean cross-entropy of integer classes, in nats."""

    name = CROSS_ENTROPY

    def __init__(self, features: npt.ArrayLike, targets: npt.ArrayLike, dtype: Precision) -> None:
        super().__init__(features, _one_hot(targets), dtype)
        self.terms = len(self.features)

    def slopes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Derivatives of the examples' losses in outputs."""
        return ops.softmax(outputs, axis=1) - targets

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums of the examples' losses."""
        return ops.sum(ops.logsumexp(outputs, axis=1) - ops.sum(outputs * targets, axis=1), axis=1)

    def curvature_at_zero(self) -> float:
        """Largest second derivative of the loss at the kernel zero."""
        # The softmax's Hessian at equal outputs is (1 − 1 1ᵀ / k) / k.
        return float(np.linalg.norm(self.features, 2) ** 2 / (self.terms * self.targets.shape[1]))


def real_targets(targets: npt.ArrayLike) -> Array:
    """Targets as an array of finite numbers, where False is 0 and True is 1, as for Keras."""
    with contextlib.suppress(TypeError, ValueError, RuntimeError):  # `real_array` refuses these
        array = np.asarray(targets)
        if array.dtype == bool:
            return real_array("targets", array.astype("int64"))
    return real_array("targets", targets)


def _one_hot(targets: npt.ArrayLike) -> Array:
    """Rows of the identity for integer classes."""
    classes = real_targets(targets)
    flat = classes.reshape(-1)
    if flat.size != len(classes) or not np.all((flat >= 0) & (flat == np.rint(flat))):
        raise refusal("targets", "of a cross-entropy, classes 0, 1, … of shape `(n,)`", targets)
    return np.eye(int(flat.max()) + 1)[flat.astype(int)]


def linear_problem(
    features: npt.ArrayLike, targets: npt.ArrayLike, loss: str, power: float, dtype: Precision
) -> LinearProblem:
    """The problem of a loss, see `sweep_linear_networks`.

    Args:
        features: array of shape `(n, inputs)`.
        targets: array of shape `(n,)` or `(n, outputs)`; integer classes for a cross-entropy.
        loss: `"lp"` or `"cross_entropy"`.
        power: p ≥ 2 of an lp loss.
        dtype: of the computation.

    Raises:
        ValueError: for another loss, or data that do not fit it.
    """
    one_of("loss", loss, (LP, CROSS_ENTROPY))
    if loss == LP:
        return Regression(features, targets, checked_power(power), dtype)
    return Classification(features, targets, dtype)
