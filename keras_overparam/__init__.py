"""Overparameterized linear maps for Keras: same function class, other optimization dynamics.

Reference: Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
Overparameterization", ICML 2018.
"""

from keras_overparam._version import __version__
from keras_overparam.callbacks import FactorMonitor
from keras_overparam.conversion import collapse, overparameterize
from keras_overparam.end_to_end import (
    end_to_end_gradient,
    end_to_end_spectrum,
    end_to_end_step,
    step_and_momentum,
)
from keras_overparam.factorization import (
    balanced_factors,
    balancedness_gap,
    chain_product,
    identity_factors,
    product_squared_norm,
    truncation_error,
)
from keras_overparam.kernels import kernels_of
from keras_overparam.layers import (
    FactoredConv1D,
    FactoredConv2D,
    FactoredConv3D,
    FactoredDense,
    FactoredDepthwiseConv2D,
    FactoredEinsumDense,
    FactoredLinear,
    FactoredMultiHeadAttention,
)
from keras_overparam.losses import LpLoss
from keras_overparam.optimizers import EndToEnd
from keras_overparam.probing import probe
from keras_overparam.sweep import sweep_linear_networks

__all__ = [
    "EndToEnd",
    "FactorMonitor",
    "FactoredConv1D",
    "FactoredConv2D",
    "FactoredConv3D",
    "FactoredDense",
    "FactoredDepthwiseConv2D",
    "FactoredEinsumDense",
    "FactoredLinear",
    "FactoredMultiHeadAttention",
    "LpLoss",
    "__version__",
    "balanced_factors",
    "balancedness_gap",
    "chain_product",
    "collapse",
    "end_to_end_gradient",
    "end_to_end_spectrum",
    "end_to_end_step",
    "identity_factors",
    "kernels_of",
    "overparameterize",
    "probe",
    "product_squared_norm",
    "step_and_momentum",
    "sweep_linear_networks",
    "truncation_error",
]
