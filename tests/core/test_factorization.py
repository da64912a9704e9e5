"""Chains of matrices: cheapest orders, balanced and identity factors, against brute force."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_overparam import (
    balanced_factors,
    balancedness_gap,
    chain_product,
    identity_factors,
    product_squared_norm,
    truncation_error,
)
from keras_overparam.factorization import (
    Plan,
    _squared_norm_split,
    application_plans,
    balanced_split,
    chain_sizes,
    factor_gradients,
    hidden_widths,
    plan_for,
)

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=7).map(tuple)
KERNELS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))


def random_kernel(shape_and_seed):
    rows, columns, seed = shape_and_seed
    return np.random.default_rng(seed).normal(size=(rows, columns))


def random_chain(sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=pair) for pair in itertools.pairwise(sizes)]


def every_chain_cost(sizes):
    """Costs of all parenthesizations, by brute force."""
    if len(sizes) == 2:
        return [0]
    return [
        left + right + sizes[0] * sizes[t] * sizes[-1]
        for t in range(1, len(sizes) - 1)
        for left in every_chain_cost(sizes[: t + 1])
        for right in every_chain_cost(sizes[t:])
    ]


def plan_cost(rows, boundaries, sizes):
    return sum(
        rows * sizes[start] * sizes[stop] + min(every_chain_cost(sizes[start : stop + 1]))
        for start, stop in itertools.pairwise(boundaries)
    )


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES, rows=st.integers(1, 200))
def test_the_plan_for_any_number_of_rows_costs_least(sizes, rows):
    plans = application_plans(sizes)
    chosen = max(plan for plan in plans if plan.from_rows <= rows)
    assert plan_cost(rows, chosen.boundaries, sizes) == min(every_chain_cost((rows, *sizes)))


@settings(deadline=None, max_examples=60)
@given(sizes=SIZES)
def test_plans_start_at_one_row_and_ascend_without_needless_ones(sizes):
    plans = application_plans(sizes)
    starts = [plan.from_rows for plan in plans]
    assert starts[0] == 1
    assert starts == sorted(set(starts))
    for before, plan in itertools.pairwise(plans):
        at = plan.from_rows
        costs = [plan_cost(at, p.boundaries, sizes) for p in (before, plan)]
        assert costs[1] < costs[0]
        earlier = [plan_cost(at - 1, p.boundaries, sizes) for p in (before, plan)]
        assert earlier[0] <= earlier[1]


def test_the_plan_for_a_number_of_rows():
    plans = application_plans((3136, 512, 512))
    rows = (0, 1, 2, 3136, 3137, 10**6)  # none, as in a batch of no examples
    assert [plan_for(plans, r).from_rows for r in rows] == [1, 1, 1, 1, 3137, 3137]
    assert plan_for([Plan(1, (0, 1, 2)), Plan(2, (0, 2))], 1).from_rows == 1


def test_of_two_orders_that_cost_the_same_the_one_for_more_rows_is_taken():
    # For one row, x @ A1 @ A2 and x @ (A1 @ A2) cost 12 each.
    assert application_plans((1, 3, 3)) == (Plan(1, (0, 2)),)


def test_a_very_long_chain_is_planned_at_once():
    plans = application_plans((64,) * 40)
    assert plans[0].boundaries == tuple(range(40))
    assert plans[-1].boundaries == (0, 39)


@settings(deadline=None, max_examples=50)
@given(sizes=SIZES)
def test_chain_product_is_the_product(sizes):
    factors = random_chain(sizes)
    expected = factors[0]
    for factor in factors[1:]:
        expected = expected @ factor
    np.testing.assert_allclose(chain_product(factors), expected, rtol=1e-10, atol=1e-10)


def test_chain_product_takes_tensors_and_leading_axes():
    factors = [np.ones((5, 2, 3), "float32"), np.full((5, 3, 4), 0.5, "float32")]
    assert chain_sizes(factors) == (2, 3, 4)
    product = chain_product([ops.convert_to_tensor(factor) for factor in factors])
    np.testing.assert_array_equal(ops.convert_to_numpy(product), np.full((5, 2, 4), 1.5))


def test_a_product_of_numpy_arrays_is_one_in_their_precision():
    factors = [np.full((2, 3), 1 / 3, np.longdouble), np.ones((3, 2), np.longdouble)]
    for chain in (factors, factors[:1]):
        product = chain_product(chain)
        assert isinstance(product, np.ndarray)
        assert product.dtype == np.longdouble


@pytest.mark.parametrize("shapes", [[], [(2, 3), (2, 3)], [(2, 2, 3), (3, 3, 2)]])
def test_factors_that_do_not_chain_are_an_error(shapes):
    with pytest.raises(ValueError, match="columns of each match the rows of the next. Received"):
        chain_sizes([np.ones(shape) for shape in shapes])


def value_and_gradients(function, arrays):
    """A scalar function of arrays and its gradients, by the backend's own differentiation."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.value_and_grad(lambda tensors: function(tensors))(arrays)
    if keras.backend.backend() == "torch":
        tensors = [ops.convert_to_tensor(array).requires_grad_() for array in arrays]
        value = function(tensors)
        value.backward()
        return value.detach(), [tensor.grad for tensor in tensors]
    import tensorflow as tf

    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(tensors)
    return value, tape.gradient(value, tensors)


def around(index, factors):
    """Products of the factors before one of them, and of those after it."""
    before, after = np.eye(factors[0].shape[0]), np.eye(factors[index].shape[1])
    for factor in factors[:index]:
        before = before @ factor
    for factor in factors[index + 1 :]:
        after = after @ factor
    return before, after


@pytest.mark.parametrize("sizes", [(6, 4), (5, 3, 4), (2, 7, 1, 3)])
def test_gradients_in_the_factors_are_those_of_the_chain_rule(sizes):
    chains = [random_chain(sizes, seed) for seed in range(2)]
    gradient = np.random.default_rng(2).normal(size=(2, sizes[0], sizes[-1]))
    found = factor_gradients([np.stack(factors) for factors in zip(*chains, strict=True)], gradient)
    assert len(found) == len(sizes) - 1
    for (index, gradients), which in itertools.product(enumerate(found), range(2)):
        before, after = around(index, chains[which])
        expected = before.T @ gradient[which] @ after.T
        np.testing.assert_allclose(gradients[which], expected, rtol=1e-9, atol=1e-12)


@given(sizes=SIZES)
def test_squared_norm_of_a_product_and_its_gradients(sizes):
    factors = random_chain(sizes)
    value, gradients = value_and_gradients(
        lambda tensors: 3.0 * product_squared_norm(tensors), factors
    )
    product = np.linalg.multi_dot(factors) if len(factors) > 1 else factors[0]
    # On PyTorch, Keras multiplies in float32 whatever it is given.
    rounding = 1e-4 if keras.backend.backend() == "torch" else 1e-9
    np.testing.assert_allclose(value, 3 * np.sum(product**2), rtol=rounding)
    for index, gradient in enumerate(gradients):
        before, after = around(index, factors)
        expected = 6 * before.T @ product @ after.T
        atol = rounding * abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=rounding, atol=atol)


@pytest.mark.parametrize("sizes", [(6, 1, 6), (10, 10, 10), (7, 3), (100, 90, 2, 90)])
def test_the_squared_norm_either_way(sizes):
    factors = random_chain(sizes)
    value = float(product_squared_norm(factors))
    assert value == pytest.approx(np.sum(chain_product(factors) ** 2), rel=1e-6)


def test_the_squared_norm_forms_the_product_only_where_that_is_cheaper():
    assert _squared_norm_split((3136, 512, 512)) == 1
    assert _squared_norm_split((512, 1, 512)) == 1
    assert _squared_norm_split((10, 10, 10)) is None
    assert _squared_norm_split((7, 3)) is None
    assert _squared_norm_split((100, 90, 2, 90)) == 2


@settings(deadline=None, max_examples=60)
@given(case=KERNELS, depth=st.integers(1, 6), extra=st.integers(0, 4))
def test_balanced_factors_multiply_to_the_kernel_and_are_balanced(case, depth, extra):
    kernel = random_kernel(case)
    width = min(kernel.shape) + extra
    factors = balanced_factors(kernel, depth, width)
    assert chain_sizes(factors) == hidden_widths(*kernel.shape, depth, width)
    np.testing.assert_allclose(chain_product(factors), kernel, rtol=1e-9, atol=1e-12)
    for a, b in itertools.pairwise(factors):
        np.testing.assert_allclose(a.T @ a, b @ b.T, atol=1e-10)


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("condition", [1.0, 1e3, 0.9e5, 1.1e5, 1e7, np.inf])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25)])
def test_float32_kernels_are_split_as_accurately_as_float32_holds(shape, condition, depth):
    """By the Gram matrix where that is accurate enough: see the bound on the condition number."""
    rng = np.random.default_rng(0)
    size = min(shape)
    left, right = (np.linalg.qr(rng.normal(size=(rows, size)))[0] for rows in shape)
    singular = np.geomspace(1, 1 / condition, size) if condition < np.inf else np.arange(size) > 9
    kernel = ((left * singular) @ right.T).astype("float32")
    factors = balanced_split(kernel, hidden_widths(*shape, depth), np)
    assert {factor.dtype.name for factor in factors} == {"float64"}
    rounding = np.finfo("float32").eps
    np.testing.assert_allclose(chain_product(factors), kernel, atol=1e-13)
    for a, b in itertools.pairwise(factors):
        assert np.abs(a.T @ a - b @ b.T).max() < rounding
    expected = np.linalg.svd(kernel.astype("float64"), compute_uv=False) ** (1 / depth)
    found = np.linalg.svd(factors[0], compute_uv=False)
    np.testing.assert_allclose(found, expected, atol=rounding)


@settings(deadline=None, max_examples=40)
@given(case=KERNELS, depth=st.integers(2, 5), width=st.integers(1, 9))
def test_a_narrow_balanced_factorization_is_the_closest_kernel_of_its_rank(case, depth, width):
    kernel = random_kernel(case)
    rank = min(width, *kernel.shape)
    product = chain_product(balanced_factors(kernel, depth, width))
    lost = np.linalg.svd(kernel, compute_uv=False)[rank:]  # Eckart & Young
    np.testing.assert_allclose(
        np.linalg.norm(product - kernel), np.linalg.norm(lost), rtol=1e-8, atol=1e-9
    )


@settings(deadline=None, max_examples=60)
@given(case=KERNELS, depth=st.integers(2, 5), widths=st.lists(st.integers(1, 12), min_size=4))
def test_the_truncation_error_is_the_distance_of_the_product(case, depth, widths):
    kernel = random_kernel(case)
    for width in (None, widths[0], np.int64(widths[0]), widths[: depth - 1]):
        product = chain_product(balanced_factors(kernel, depth, width))
        error = truncation_error(kernel, width)
        np.testing.assert_allclose(
            error, np.linalg.norm(product - kernel), rtol=1e-8, atol=1e-12 * np.linalg.norm(kernel)
        )
        relative = truncation_error(kernel, width, relative=True)
        np.testing.assert_allclose(relative, error / np.linalg.norm(kernel), rtol=1e-12)
        if width is None or np.min(width) >= min(kernel.shape):
            assert error == 0


@settings(deadline=None, max_examples=40)
@given(case=KERNELS, width=st.integers(1, 9), seed=st.integers(0, 1000))
def test_no_factors_of_that_width_come_closer(case, width, seed):
    kernel = random_kernel(case)
    best = chain_product(balanced_factors(kernel, 2, width))
    left = np.random.default_rng(seed).normal(size=(kernel.shape[0], width))
    closest = left @ np.linalg.lstsq(left, kernel)[0]  # the best second factor for that first one
    for other in (closest, 0 * kernel, 0.9 * best):
        assert np.linalg.norm(other - kernel) >= truncation_error(kernel, width) - 1e-12


def test_truncation_errors_of_many_kernels_and_of_low_rank():
    kernels = np.random.default_rng(3).normal(size=(3, 2, 6, 4))
    errors = truncation_error(kernels, 2)
    assert errors.shape == (3, 2)
    assert errors[1, 0] == truncation_error(kernels[1, 0], 2)
    low = kernels[..., :2] @ kernels[..., :2, :]
    np.testing.assert_allclose(truncation_error(low, 2, relative=True), 0, atol=1e-14)
    assert truncation_error(np.zeros((3, 3)), 1, relative=True) == 0
    small = 1e-3 * np.diag([4.0, 3.0])
    np.testing.assert_allclose(truncation_error(small, 1, relative=True), 0.6)


def test_a_width_out_of_range_is_one_clear_sentence():
    with pytest.raises(ValueError, match="`width` must be a positive integer. Received: width=0"):
        truncation_error(np.eye(3), [2, 0])


def test_balanced_factors_of_zero_and_of_repeated_singular_values():
    for kernel in (np.zeros((4, 3)), np.eye(4), np.ones((3, 5))):
        factors = balanced_factors(kernel, depth=3)
        np.testing.assert_allclose(chain_product(factors), kernel, atol=1e-12)


def test_balanced_factors_take_leading_axes():
    kernels = np.random.default_rng(1).normal(size=(3, 2, 6, 4))
    factors = balanced_factors(kernels, depth=3, width=5)
    assert factors[1].shape == (3, 2, 5, 5)
    np.testing.assert_allclose(chain_product(factors), kernels, atol=1e-10)


@settings(deadline=None, max_examples=60)
@given(case=KERNELS, depth=st.integers(1, 6), extra=st.integers(0, 3))
def test_identity_factors_multiply_to_exactly_the_kernel(case, depth, extra):
    kernel = random_kernel(case)
    factors = identity_factors(kernel, depth, min(kernel.shape) + extra)
    np.testing.assert_array_equal(chain_product(factors), kernel)


@settings(deadline=None, max_examples=40)
@given(case=KERNELS, depth=st.integers(2, 5), width=st.integers(1, 9))
def test_narrow_identity_factors_keep_the_first_columns_or_rows(case, depth, width):
    kernel = random_kernel(case)
    kept = kernel.copy()
    if kernel.shape[0] >= kernel.shape[1]:
        kept[:, width:] = 0
    else:
        kept[width:] = 0
    np.testing.assert_array_equal(chain_product(identity_factors(kernel, depth, width)), kept)


@given(sizes=SIZES)
def test_balancedness_gap_is_the_largest_norm(sizes):
    factors = random_chain(sizes)
    norms = [np.linalg.norm(a.T @ a - b @ b.T) for a, b in itertools.pairwise(factors)]
    gap = balancedness_gap([factor.astype("float32") for factor in factors])
    np.testing.assert_allclose(np.asarray(gap), max(norms, default=0.0), rtol=1e-4, atol=1e-4)


def test_identity_factors_take_leading_axes_and_are_separate():
    kernels = np.random.default_rng(1).normal(size=(3, 2, 4, 6))
    factors = identity_factors(kernels, depth=3, width=5)
    for index, one in enumerate(identity_factors(kernels[2, 1], depth=3, width=5)):
        np.testing.assert_array_equal(factors[index][2, 1], one)
        factors[index][0, 0] = 0  # writable, and nobody else's
        np.testing.assert_array_equal(factors[index][2, 1], one)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    ("dtype", "wide"), [("float16", "float32"), ("float32",) * 2, ("float64",) * 2]
)
def test_factors_are_in_the_precision_of_the_kernel(dtype, wide, depth):
    kernel = np.ones((4, 3), dtype)
    assert {factor.dtype.name for factor in balanced_factors(kernel, depth)} == {wide}
    assert {factor.dtype.name for factor in identity_factors(kernel, depth)} == {dtype}
    assert truncation_error(kernel, 1).dtype == "float64"


def test_balancedness_gaps_of_several_chains():
    chains = [random_chain((4, 3, 5, 2), seed) for seed in range(6)]
    stacked = [
        np.stack(parts).reshape(2, 3, *parts[0].shape) for parts in zip(*chains, strict=True)
    ]
    gaps = ops.convert_to_numpy(balancedness_gap(stacked))
    expected = [ops.convert_to_numpy(balancedness_gap(factors)) for factors in chains]
    np.testing.assert_allclose(gaps, np.reshape(expected, (2, 3)), rtol=1e-12)
    assert balancedness_gap(chains[0][:1]) == 0


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("kernel", lambda wrong, right: balanced_factors(wrong, 2)),
        ("depth", lambda wrong, right: balanced_factors(right, wrong)),
        ("kernel", lambda wrong, right: identity_factors(wrong, 2)),
        ("depth", lambda wrong, right: identity_factors(right, wrong)),
        ("kernel", lambda wrong, right: truncation_error(wrong, 1)),
        ("relative", lambda wrong, right: truncation_error(right, 1, wrong)),
        ("factors", lambda wrong, right: chain_product([right, np.full((2, 2), wrong)])),
        ("factors", lambda wrong, right: balancedness_gap([right, wrong])),
        ("factors", lambda wrong, right: chain_sizes(7)),
    ],
)
def test_the_argument_that_is_wrong_is_named(name, call):
    with pytest.raises(ValueError, match=f"^`{name}` must be [^N].* Received: {name}="):
        call("two", np.ones((3, 2)))


def test_what_is_no_matrix_does_not_chain():
    with pytest.raises(ValueError, match=r"Received shapes: \[\(3, 2\), \(\)\]"):
        chain_sizes([np.ones((3, 2)), "two"])
