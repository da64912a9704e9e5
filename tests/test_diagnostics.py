"""What is measured of factored kernels, against independent computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_overparam import balanced_factors, end_to_end_gradient, end_to_end_spectrum
from keras_overparam.diagnostics import (
    agreement,
    effective_rank,
    first_order_change,
    momentum_share,
    preconditioner_extremes,
    relative_balancedness_gap,
    rule_change,
    singular_vectors,
)
from keras_overparam.factorization import factor_gradients

SHAPES = [(7, 4), (4, 7), (6, 6), (8, 1), (1, 5), (1, 1)]


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def rule_by_matrix_powers(kernel, gradient, depth):
    """The rule's sum, term by term; powers of `K Kᵀ` and `Kᵀ K` from a full decomposition of K."""
    left, singular, right = np.linalg.svd(kernel)

    def power(vectors, exponent):
        values = np.zeros(len(vectors))
        values[: len(singular)] = np.where(singular > 1e-12 * singular.max(), singular, 0.0)
        return (vectors * values ** (2 * exponent)) @ vectors.T

    return sum(
        power(left, (depth - j) / depth) @ gradient @ power(right.T, (j - 1) / depth)
        for j in range(1, depth + 1)
    )


def unbalanced(factors):
    """Other factors of the same product."""
    factors = list(factors)
    for j in range(len(factors) - 1):
        size = factors[j].shape[1]
        mix = np.eye(size) + 0.3 * random((size, size), 2 + j) / np.sqrt(size)
        factors[j : j + 2] = factors[j] @ mix, np.linalg.solve(mix, factors[j + 1])
    return factors


def changes_of(factors, gradient):
    return [np.asarray(change, "float64") for change in factor_gradients(factors, gradient)]


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_are_those_of_a_decomposition(shape):
    kernel = random(shape)
    left, singular, right = singular_vectors(kernel)
    np.testing.assert_allclose(singular, np.linalg.svd(kernel, compute_uv=False), rtol=1e-9)
    np.testing.assert_allclose((left * singular) @ right.T, kernel, atol=1e-12)
    identity = np.eye(min(shape))
    np.testing.assert_allclose(left.T @ left, identity, atol=1e-9)
    np.testing.assert_allclose(right.T @ right, identity, atol=1e-12)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_singular_values_that_are_not_resolved_are_zero(shape):
    columns = random((shape[0], 2)) @ random((2, shape[1]), 1)
    left, singular, right = singular_vectors(columns)
    assert (singular > 0).tolist() == [True, True, False, False]
    np.testing.assert_allclose((left * singular) @ right.T, columns, atol=1e-12)
    assert singular_vectors(np.zeros(shape))[1].tolist() == [0.0] * 4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("balanced", [True, False])
def test_the_rules_change_is_found_from_the_factors_changes(shape, depth, balanced):
    kernel, gradient = random(shape), random(shape, 1)
    factors = [np.asarray(f, "float64") for f in balanced_factors(kernel, depth)]
    if not balanced:
        factors = unbalanced(factors)
    found = rule_change(factors, changes_of(factors, gradient))
    expected = rule_by_matrix_powers(kernel, gradient, depth)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_balanced_factors_move_by_the_rule_to_first_order_and_others_do_not(depth):
    kernel, gradient = random((6, 4)), random((6, 4), 1)
    balanced = [np.asarray(f, "float64") for f in balanced_factors(kernel, depth)]
    for factors, same in ((balanced, True), (unbalanced(balanced), False)):
        changes = changes_of(factors, gradient)
        cosine, distance = agreement(
            first_order_change(factors, changes), rule_change(factors, changes)
        )
        assert (distance < 1e-5) == (cosine > 1 - 1e-9) == same


def test_the_distance_of_a_finite_step_is_proportional_to_its_size():
    factors = [np.asarray(f, "float64") for f in balanced_factors(random((6, 4)), 3)]
    gradients = changes_of(factors, random((6, 4), 1))
    distances = []
    for rate in (1e-3, 5e-4, 2.5e-4):
        changes = [-rate * gradient for gradient in gradients]
        later = np.linalg.multi_dot([f + c for f, c in zip(factors, changes, strict=True)])
        moved = later - np.linalg.multi_dot(factors)
        distances.append(agreement(moved, rule_change(factors, changes))[1])
    np.testing.assert_allclose(np.divide(distances[:-1], distances[1:]), 2.0, rtol=0.05)


def test_a_rank_that_the_width_limits_is_no_obstacle():
    factors = [random((6, 2)), random((2, 5), 1)]
    gradient = random((6, 5), 2)
    found = rule_change(factors, changes_of(factors, gradient))
    expected = rule_by_matrix_powers(factors[0] @ factors[1], gradient, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(1, 6), st.integers(0, 100))
def test_extremes_are_those_of_the_whole_spectrum(shape, depth, seed):
    kernel = random(shape, seed)
    singular = singular_vectors(kernel)[1]
    eigenvalues = np.asarray(end_to_end_spectrum(kernel, depth).eigenvalues)
    smallest, largest = preconditioner_extremes(singular, shape, depth)
    assert largest == pytest.approx(eigenvalues.max(), rel=1e-4)
    # The larger side's null space holds the smallest, except at depth 1.
    assert smallest == pytest.approx(eigenvalues.min(), rel=1e-3, abs=1e-5)


@settings(deadline=None)
@given(st.integers(1, 20), st.floats(1e-3, 1e3))
def test_the_effective_rank_counts_equal_values_at_any_scale(count, scale):
    assert effective_rank([scale] * count + [0.0] * 3) == pytest.approx(count)


def test_the_effective_rank_of_nothing_is_zero_and_else_between_bounds():
    assert effective_rank([0.0, 0.0]) == 0.0
    values = np.geomspace(1, 1e-3, 10)
    assert 1 < effective_rank(values) < 10
    assert effective_rank(values) == pytest.approx(
        np.prod((values / values.sum()) ** -(values / values.sum()))
    )


def test_the_relative_gap_does_not_depend_on_the_scale():
    factors = [random((5, 3)), random((3, 4), 1)]
    gap = relative_balancedness_gap(factors)
    assert gap == pytest.approx(relative_balancedness_gap([7 * f for f in factors]), rel=1e-5)
    balanced = [np.asarray(f, "float64") for f in balanced_factors(random((5, 4)), 3)]
    assert relative_balancedness_gap(balanced) < 1e-6 < gap
    assert relative_balancedness_gap([np.ones((2, 2))]) == 0.0
    assert relative_balancedness_gap([np.zeros((2, 2)), np.zeros((2, 2))]) == 0.0


@pytest.mark.parametrize("shape", [(6, 1), (1, 6)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_momentums_share_is_that_of_the_rules_two_parts(shape, depth):
    kernel, gradient = random(shape), random(shape, 1)
    change = -0.01 * np.asarray(end_to_end_gradient(kernel, gradient, depth), "float64")
    direction = kernel / np.linalg.norm(kernel)
    momentum = (depth - 1) * np.sum(direction * gradient) * direction
    expected = np.linalg.norm(momentum) / np.linalg.norm(gradient + momentum)
    assert momentum_share(kernel, change, depth) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_agreement_of_nothing_is_not_a_number():
    assert np.isnan(agreement(np.zeros(3), np.ones(3))).all()
    assert np.isnan(agreement(np.ones(3), np.zeros(3))).all()
    assert agreement([1.0, 0.0], [0.0, 2.0]) == (0.0, pytest.approx(np.sqrt(5) / 2))
