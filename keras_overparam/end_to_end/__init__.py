"""The end-to-end update rule: the paper's equations in `theorem`, and what makes them fast."""

from keras_overparam.end_to_end.roots import (
    Root,
    decomposed_root,
    polar_factors,
    precondition_by_polar,
    precondition_by_root,
    precondition_thin_by_polar,
    precondition_thin_by_root,
    solve_root,
    tracked_root,
)
from keras_overparam.end_to_end.theorem import (
    Preconditioner,
    Spectrum,
    end_to_end_gradient,
    end_to_end_spectrum,
    end_to_end_step,
    precondition,
    preconditioner,
    step_and_momentum,
    unit_step_norm,
)
from keras_overparam.end_to_end.thin import (
    OVERSAMPLED,
    Thin,
    thin_gradient,
)

__all__ = [
    "OVERSAMPLED",
    "Preconditioner",
    "Root",
    "Spectrum",
    "Thin",
    "decomposed_root",
    "end_to_end_gradient",
    "end_to_end_spectrum",
    "end_to_end_step",
    "polar_factors",
    "precondition",
    "precondition_by_polar",
    "precondition_by_root",
    "precondition_thin_by_polar",
    "precondition_thin_by_root",
    "preconditioner",
    "solve_root",
    "step_and_momentum",
    "thin_gradient",
    "tracked_root",
    "unit_step_norm",
]
