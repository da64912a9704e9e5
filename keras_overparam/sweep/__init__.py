"""Many deep linear networks trained at once, in one compiled loop."""

from keras_overparam.sweep.engine import (
    SweepResult,
    iterations_to,
    logarithmic_grid,
    sweep_linear_networks,
)

__all__ = ["SweepResult", "iterations_to", "logarithmic_grid", "sweep_linear_networks"]
