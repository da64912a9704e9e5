"""The core's tests pass on other backends, and held to the instructions of older processors."""

import pytest


@pytest.mark.parametrize("name", ["jax", "torch", "avx2"])
def test_the_core_passes_its_tests(name, log_of):
    assert " passed" in log_of(name)
