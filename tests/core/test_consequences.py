"""What follows from training a product: memory of gradients, and what regularizers can do."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_overparam import balanced_factors, chain_product, end_to_end_gradient, end_to_end_step
from keras_overparam.consequences import (
    constant_gradient_loop_integral,
    gradient_memory,
    induced_regularizer,
    loop_integral,
    trajectory_from_memory,
)

# On PyTorch, Keras multiplies in float32 whatever it is given.
FLOAT32 = keras.backend.backend() == "torch"
ROUNDING, RELATIVE, STEP = (1e-4, 1e-4, 1e-2) if FLOAT32 else (1e-9, 1e-6, 1e-5)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def vector_times_scalar(learning_rate, steps, power=4, seed=0):
    """Gradient descent over (w₁, ω₂) on an lp regression, and all it passes through."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(30, 3))
    targets = inputs @ np.array([1.0, -0.5, 0.3])
    vector, scalar = rng.normal(size=3), 0.7
    trajectory, gradients, scalars, slopes = [vector * scalar], [], [], []
    for _ in range(steps):
        residual = inputs @ (vector * scalar) - targets
        gradient = inputs.T @ (residual * np.abs(residual) ** (power - 2)) / len(inputs)
        gradients.append(gradient)
        scalars.append(scalar)
        slopes.append(gradient @ vector)
        vector, scalar = (
            vector - learning_rate * gradient * scalar,
            scalar - learning_rate * slopes[-1],
        )
        trajectory.append(vector * scalar)
    return map(np.array, (trajectory, gradients, scalars, slopes))


@pytest.mark.parametrize("power", [2, 4])
def test_memory_reconstructs_gradient_descent_up_to_the_square_of_the_step(power):
    rates = np.geomspace(1e-6, 1e-4, 5)
    errors = []
    for rate in rates:
        trajectory, gradients, scalars, slopes = vector_times_scalar(rate, 20, power)
        memory = gradient_memory(scalars, slopes, rate)
        found = numpy(trajectory_from_memory(trajectory[0], gradients, memory))
        errors.append(np.abs(found - trajectory).max())
    assert np.polyfit(np.log(rates), np.log(errors), 1)[0] == pytest.approx(2, abs=0.1)
    assert errors[0] < 1e-8


@given(steps=st.integers(1, 12), seed=st.integers(0, 1000))
def test_memory_is_the_recursion_written_out(steps, seed):
    rng = np.random.default_rng(seed)
    scalars, slopes = rng.uniform(0.5, 2, steps), rng.normal(size=steps)
    gradients, point = rng.normal(size=(steps, 2)), rng.normal(size=2)
    memory = gradient_memory(scalars, slopes, 0.1)
    assert np.all(np.triu(numpy(memory.weights)) == 0)
    found = numpy(trajectory_from_memory(point, gradients, memory))
    np.testing.assert_allclose(found[0], point)
    for time in range(steps):
        pull = 0.1 * slopes[time] / scalars[time]
        point = point - 0.1 * scalars[time] ** 2 * gradients[time] - pull * point
        np.testing.assert_allclose(found[time + 1], point, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("size", [2, 5])
def test_a_constant_gradient_has_the_closed_form(depth, size):
    slope, direction = np.random.default_rng(size).normal(size=(2, size))
    found = float(loop_integral(lambda w: 0 * w + slope, direction, 0.3, 1.2, depth))
    along = slope @ direction / np.linalg.norm(direction)
    expected = constant_gradient_loop_integral(along, 0.3, 1.2, depth)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (abs(found) < 1e-12) == (depth <= 2)


def quartic(points):
    """Gradient of an l4 regression on three points in the plane."""
    inputs = np.array([[1.0, 0.3], [-0.5, 1.0], [0.2, -0.7]])
    residual = points @ inputs.T - np.array([1.0, 0.5, -1.0])
    return residual**3 @ inputs / 3


def test_a_conservative_field_has_none():
    assert float(loop_integral(quartic, [1.0, 2.0], 0.3, 1.2, depth=1)) == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("depth", [3, 4, 8])
def test_no_regularizer_produces_the_rule(depth):
    at_zero = quartic(np.zeros((1, 2)))[0]
    sizes = 0.2 ** np.arange(1, 4)
    ratios = [
        float(loop_integral(quartic, at_zero, size / 2, size, depth))
        / constant_gradient_loop_integral(np.linalg.norm(at_zero), size / 2, size, depth)
        for size in sizes
    ]
    # Near the origin the gradient is constant and the closed form holds, ever better.
    assert ratios[-1] == pytest.approx(1, abs=0.05)
    assert np.all(np.diff(np.abs(np.array(ratios) - 1)) < 0)


def test_at_depth_two_a_loss_that_is_not_linear_shows_it_too():
    assert abs(float(loop_integral(quartic, [1.0, 2.0], 0.3, 1.2, depth=2))) > 0.01


def test_bad_depth_is_one_clear_sentence():
    with pytest.raises(ValueError, match="`depth` must be a positive integer. Received: depth=0"):
        loop_integral(quartic, [1.0, 0.0], 0.1, 1.0, 0)


SIZES = st.lists(st.integers(1, 6), min_size=3, max_size=6)


def random_factors(sizes, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=pair) for pair in itertools.pairwise(sizes)]


def squared_norms(factors):
    return sum(np.sum(factor**2) for factor in factors)


@given(sizes=SIZES, seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_induced_regularizer_is_the_least_sum_of_squares(sizes, seed, scale):
    factors = random_factors(sizes, seed)
    kernel, depth = scale**2 * chain_product(factors), len(factors)
    least = float(induced_regularizer(kernel, depth))
    balanced = balanced_factors(kernel, depth, width=min(sizes))
    assert squared_norms(balanced) == pytest.approx(least, rel=RELATIVE)
    for first, last in ((scale, scale), (scale**2, 1), (1, scale**2)):
        others = [first * factors[0], *factors[1:-1], last * factors[-1]]
        assert squared_norms(others) >= least * (1 - RELATIVE)


def test_the_induced_regularizer_at_depth_one_two_and_without_end():
    kernels = np.random.default_rng(0).normal(size=(3, 5, 2)) @ np.ones((2, 4))
    kernels[2] = 0
    for depth, expected in (
        (1, np.sum(kernels**2, axis=(-2, -1))),
        (2, 2 * np.linalg.norm(kernels, "nuc", axis=(-2, -1))),
        (10**4, 10**4 * np.linalg.matrix_rank(kernels)),
    ):
        found = numpy(induced_regularizer(kernels, depth))
        np.testing.assert_allclose(found, expected, rtol=1e-3 if depth > 2 else 1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (2, 5)])
def test_the_rule_turns_its_gradient_into_decay_by_n(depth, shape):
    kernel = np.random.default_rng(depth).normal(size=shape)
    slopes = np.zeros(shape)
    for index in np.ndindex(shape):  # central differences
        step = np.zeros(shape)
        step[index] = STEP
        higher, lower = (induced_regularizer(kernel + way * step, depth) for way in (1, -1))
        slopes[index] = (float(higher) - float(lower)) / (2 * STEP)
    pulled = numpy(end_to_end_gradient(kernel, slopes / 2, depth))
    np.testing.assert_allclose(pulled, depth * kernel, rtol=10 * STEP, atol=10 * STEP)


@pytest.mark.parametrize("sizes", [(3, 4, 2), (5, 2, 6, 3), (2, 2, 2, 2, 2, 2)])
def test_decay_of_any_factors_is_n_times_as_much_end_to_end(sizes):
    factors, decay = random_factors(sizes, seed=4), 0.3
    kernel, depth = chain_product(factors), len(factors)
    rates = np.geomspace(1e-2, 1e-1, 4)
    differences = [
        np.linalg.norm(
            chain_product([factor - rate * decay * factor for factor in factors])
            - numpy(end_to_end_step(kernel, 0 * kernel, rate, depth, decay))
        )
        for rate in rates
    ]
    assert np.polyfit(np.log(rates), np.log(differences), 1)[0] == pytest.approx(2, abs=0.1)
