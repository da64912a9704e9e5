"""Float64 stays float64, where `keras.ops` would compute in float32 on some backends."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_overparam import (
    balancedness_gap,
    chain_product,
    end_to_end_gradient,
    end_to_end_step,
    factorization,
    product_squared_norm,
    truncation_error,
)
from keras_overparam.consequences import gradient_memory, trajectory_from_memory
from keras_overparam.precision import frobenius_norm, matmul, maximum
from keras_overparam.sweep.problems import Regression

RNG = np.random.default_rng(0)
A, B, G = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4))
VALUES, SLOPES = RNG.normal(size=(2, 6))
REGRESSION = Regression(RNG.normal(size=(30, 5)), RNG.normal(size=(30, 4)), 4, "float64")
RESIDUALS = REGRESSION.features @ G - REGRESSION.targets


def tensors(*arrays):
    return [ops.convert_to_tensor(array) for array in arrays]


def path(weights):
    """A trajectory of depth 2 and what it is remembered by."""
    memory = gradient_memory(VALUES, VALUES[::-1], learning_rate=0.1)
    return trajectory_from_memory(np.zeros(1), weights[:, None], memory)


# What is computed, and the same by NumPy.
CASES = {
    "product": (lambda: chain_product(tensors(A, B)), A @ B),
    "matmul": (lambda: matmul(*tensors(A, B)), A @ B),
    "norm": (lambda: frobenius_norm(*tensors(G)), np.linalg.norm(G)),
    "maximum": (lambda: maximum(*tensors(G, -G)), np.abs(G)),
    "gradients": (lambda: factorization.factor_gradients([A, B], G)[0], G @ B.T),
    "squared norm": (lambda: product_squared_norm([A, B]), np.sum((A @ B) ** 2)),
    "balancedness": (
        lambda: balancedness_gap([A, B]),
        np.linalg.norm(A.T @ A - B @ B.T),
    ),
    "rule": (lambda: end_to_end_gradient(np.eye(3), B[:, :3], 3), 3 * B[:, :3]),
    "step": (
        lambda: end_to_end_step(np.eye(3), B[:, :3], 1e-3, 2, 0.1),
        (1 - 2e-4) * np.eye(3) - 2e-3 * B[:, :3],
    ),
    "truncation": (lambda: truncation_error(G, 1), np.linalg.norm(np.linalg.svd(G)[1][1:])),
    "slopes": (
        lambda: REGRESSION.functions()[0](ops.convert_to_tensor(G[None])),
        (REGRESSION.features.T @ RESIDUALS**3 / REGRESSION.terms)[None],
    ),
}


@pytest.fixture(autouse=True)
def double_precision():
    if keras.backend.standardize_dtype(ops.zeros(1, "float64").dtype) != "float64":
        pytest.skip("JAX has no float64 without jax_enable_x64")


@pytest.mark.parametrize("name", CASES)
def test_float64_in_is_float64_out(name):
    compute, expected = CASES[name]
    found = ops.convert_to_numpy(compute())
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_trajectory_is_summed_in_float64():
    found = ops.convert_to_numpy(path(SLOPES))
    small = ops.convert_to_numpy(path(1e-9 * SLOPES))
    assert found.dtype == "float64"
    np.testing.assert_allclose(1e9 * (small - small[0]), found - found[0], rtol=1e-6)


def test_maximum_is_not_a_number_where_one_is_not():
    a, b = np.array([1.0, np.nan, 2.0]), np.array([3.0, 1.0, np.nan])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(maximum(*tensors(a, b))), [3, np.nan, np.nan]
    )
