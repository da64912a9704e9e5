"""Hypothesis settings: JAX compiles for each shape and each branch, so it gets fewer examples.

And JAX shows the CPU as two devices, for what is spread over several. On NumPy, mutants are tested.
"""

import os

import keras
from hypothesis import Phase, settings

if keras.backend.backend() == "jax":  # read when JAX is first asked for a device
    two_devices = "--xla_force_host_platform_device_count=2"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {two_devices}"
settings.register_profile("compiled", deadline=None, max_examples=5)
settings.register_profile("eager", deadline=None, max_examples=40)
# One failure is enough; the simplest is not asked for.
settings.register_profile("mutants", settings.get_profile("eager"), phases=[Phase.generate])
settings.load_profile({"jax": "compiled", "numpy": "mutants"}.get(keras.backend.backend(), "eager"))
if keras.backend.backend() == "numpy":  # Keras has it compute in float32, which is its choice alone
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
