"""Layers whose kernel is trained as a product of factors."""

from keras_overparam.layers.factored_dense import FactoredDense
from keras_overparam.layers.factored_linear import FactoredLinear

__all__ = ["FactoredDense", "FactoredLinear"]
