"""The lp loss of the paper's regressions, `1/p · mean |x·w − y|^p`."""

import numbers
from typing import Any

import keras
from keras import ops

from keras_overparam.typing import Config, Tensor


@keras.saving.register_keras_serializable(package="keras_overparam")
class LpLoss(keras.losses.Loss):
    """The lp loss `1/p · mean |prediction − target|^p`.

    At `p = 2` this is half the mean squared error. Above 2 its gradient fades near the optimum
    faster than linearly, which is where depth can help gradient descent; at 2 it cannot, by the
    paper's analysis.

    Args:
        power: p, a number ≥ 2. Even integers are the smooth ones, and the cheapest.
        name: of the loss.
        **kwargs: those of `keras.losses.Loss` (`reduction`, `dtype`).

    Raises:
        ValueError: for a power below 2.

    Input shapes:
        Targets and predictions `(…, outputs)`; the loss of an example is a mean over its outputs.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import LpLoss
    >>> float(LpLoss(4)(np.array([[1.0], [0.0]]), np.array([[3.0], [0.0]])))
    2.0

    Reference:
        Arora, Cohen & Hazan 2018, Section 3 and Equation 1.
    """

    def __init__(self, power: float = 4, name: str = "lp_loss", **kwargs: Any) -> None:
        self.power = checked_power(power)
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Losses of the examples."""
        y_pred = ops.convert_to_tensor(y_pred)
        return ops.mean(lp(y_pred - ops.cast(y_true, y_pred.dtype), self.power), axis=-1)

    def get_config(self) -> Config:
        """What makes an equal loss."""
        return {**super().get_config(), "power": self.power}


def checked_power(power: float) -> float:
    """The power, an integer where it is one.

    Raises:
        ValueError: if it is not a number ≥ 2.
    """
    if isinstance(power, bool) or not isinstance(power, numbers.Real) or not 2 <= power < 1e3:
        raise ValueError(f"`power` must be a number of at least 2. Received: power={power!r}")
    return int(power) if power == int(power) else float(power)


def lp(residuals: Tensor, power: float) -> Tensor:
    """`|r|^p / p`, elementwise.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.losses import lp
    >>> lp(np.array([-2.0, 1.0]), 4).__array__().tolist()
    [4.0, 0.25]
    """
    if power % 2 == 0:
        return _integer_power(residuals, power) / power
    return ops.abs(residuals) ** power / power


def lp_slope(residuals: Tensor, power: float) -> Tensor:
    """Derivative of `|r|^p / p` in r, `r |r|^{p−2}`, elementwise.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.losses import lp_slope
    >>> lp_slope(np.array([-2.0, 1.0]), 4).__array__().tolist()
    [-8.0, 1.0]
    """
    if power % 2 == 0:
        return _integer_power(residuals, power - 1)
    residuals = ops.convert_to_tensor(residuals)
    return residuals * ops.abs(residuals) ** (power - 2)


def _integer_power(base: Tensor, exponent: float) -> Tensor:
    """A positive integer power by repeated squaring: many times faster than a real power."""
    result = None
    while exponent:
        if exponent % 2:
            result = base if result is None else result * base
        base, exponent = base * base, exponent // 2
    return result
