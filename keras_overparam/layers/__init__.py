"""Layers whose kernel is trained as a product of factors."""

from keras_overparam.layers.factored_attention import FactoredMultiHeadAttention
from keras_overparam.layers.factored_conv import (
    FactoredConv1D,
    FactoredConv2D,
    FactoredConv3D,
    FactoredDepthwiseConv2D,
)
from keras_overparam.layers.factored_dense import FactoredDense
from keras_overparam.layers.factored_einsum_dense import FactoredEinsumDense
from keras_overparam.layers.factored_kernel import FactoredKernel
from keras_overparam.layers.factored_linear import FactoredLinear

__all__ = [
    "FactoredConv1D",
    "FactoredConv2D",
    "FactoredConv3D",
    "FactoredDense",
    "FactoredDepthwiseConv2D",
    "FactoredEinsumDense",
    "FactoredKernel",
    "FactoredLinear",
    "FactoredMultiHeadAttention",
]
