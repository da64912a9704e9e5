"""Hypothesis settings: JAX compiles for each shape and each branch, so it gets fewer examples."""

import keras
from hypothesis import settings

settings.register_profile("compiled", deadline=None, max_examples=8)
settings.register_profile("eager", deadline=None, max_examples=40)
settings.load_profile("compiled" if keras.backend.backend() == "jax" else "eager")
