"""From a plain model to an overparameterized one and back, without changing what it computes."""

from keras_overparam.conversion.converting import collapse, overparameterize

__all__ = ["collapse", "overparameterize"]
