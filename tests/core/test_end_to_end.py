"""The end-to-end rule: its definition, its symmetries, and the factors that it stands for."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_overparam import (
    balanced_factors,
    chain_product,
    end_to_end_gradient,
    end_to_end_spectrum,
    end_to_end_step,
    step_and_momentum,
)
from keras_overparam.end_to_end import (
    polar_factors,
    precondition_by_polar,
    precondition_by_root,
    precondition_thin_by_polar,
    precondition_thin_by_root,
    solve_root,
    thin_gradient,
    tracked_root,
    unit_step_norm,
)
from keras_overparam.end_to_end.matrices import resolved
from keras_overparam.end_to_end.roots import root_nearly_diagonal

DEPTHS = st.integers(1, 8)
# A fixed choice of shapes: JAX compiles anew for each.
SHAPES = st.sampled_from([(1, 1), (5, 1), (1, 4), (2, 2), (6, 6), (9, 3), (3, 8)])
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-3, 1.0, 30.0])

# The docstring of `end_to_end_gradient` says "about 1e-6", here twice that at most.
WELL_CONDITIONED = 2e-6


def promised_at_a_million(depth):
    """Error in float32 that `end_to_end_gradient` promises at a condition number of 1e6."""
    return 1e-4 if depth == 2 else 1e-3 if depth <= 5 else 5e-3


def left_of_zero(dtype, depth):
    """What rounding leaves of a zero singular value comes back with its 2/N-th power."""
    return 3 * np.finfo(dtype).eps ** (2 / max(depth, 2))


def random_pair(shape, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=shape), rng.normal(size=shape)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def power(matrix, exponent):
    """Fractional power of a positive semidefinite matrix; exponent 0 is the identity."""
    if exponent == 0:
        return np.eye(len(matrix))
    values, vectors = np.linalg.eigh(matrix)
    values[values < 1e-13 * values.max()] = 0  # rounding, which a small exponent would magnify
    return (vectors * values**exponent) @ vectors.T


def textbook(kernel, gradient, depth):
    """The rule as the paper writes it, term by term in float64."""
    kernel, gradient = np.asarray(kernel, "float64"), np.asarray(gradient, "float64")
    return sum(
        power(kernel @ kernel.T, (depth - j) / depth)
        @ gradient
        @ power(kernel.T @ kernel, (j - 1) / depth)
        for j in range(1, depth + 1)
    )


def by_singular_values(kernel, gradient, depth):
    """The same from a full float64 SVD, which keeps small singular values that a Gram loses."""
    left, singular, right = np.linalg.svd(np.asarray(kernel, "float64"))
    rows, columns = (np.zeros(size) for size in kernel.shape)
    rows[: len(singular)] = columns[: len(singular)] = singular ** (2 / depth)
    weights = sum(
        np.multiply.outer(rows ** (depth - j), columns ** (j - 1)) for j in range(1, depth + 1)
    )
    return left @ (weights * (left.T @ np.asarray(gradient, "float64") @ right.T)) @ right


def relative_error(found, expected):
    return np.linalg.norm(numpy(found) - expected) / np.linalg.norm(expected)


def with_condition(shape, condition, seed=0):
    """A kernel whose singular values are spread evenly over decades."""
    left, _, right = np.linalg.svd(np.random.default_rng(seed).normal(size=shape), False)
    return (left * np.geomspace(1, 1 / condition, min(shape))) @ right


# The definition ---------------------------------------------------------------------------------


@given(shape=SHAPES, depth=DEPTHS, seed=SEEDS, scale=SCALES)
def test_the_rule_is_the_sum_of_fractional_powers(shape, depth, seed, scale):
    kernel, gradient = random_pair(shape, seed, scale)
    expected = by_singular_values(kernel, gradient, depth)
    found = numpy(end_to_end_gradient(kernel, gradient, depth))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("depth", range(1, 9))
@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20), (30, 1), (300, 100)])
def test_float32_is_close_to_the_textbook_in_float64(shape, depth):
    kernel = with_condition(shape, 10).astype("float32")
    gradient = random_pair(shape, 1)[1].astype("float32")
    found = end_to_end_gradient(kernel, gradient, depth)
    assert numpy(found).dtype == "float32"
    assert relative_error(found, textbook(kernel, gradient, depth)) < WELL_CONDITIONED


@pytest.mark.parametrize("depth", [2, 3, 5, 8])
@pytest.mark.parametrize("shape", [(7, 12), (300, 100), (80, 200), (128, 128)])
def test_float32_at_condition_number_a_million(shape, depth):
    kernel = with_condition(shape, 1e6).astype("float32")
    gradient = random_pair(shape, 1)[1].astype("float32")
    found = end_to_end_gradient(kernel, gradient, depth)
    error = relative_error(found, by_singular_values(kernel, gradient, depth))
    assert error < promised_at_a_million(depth)


@pytest.mark.parametrize("depth", [2, 3, 8])
@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rank_deficient_kernels(shape, depth, rank, dtype):
    rng = np.random.default_rng(rank)
    kernel = (rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))).astype(dtype)
    gradient = rng.normal(size=shape).astype(dtype)
    found = numpy(end_to_end_gradient(kernel, gradient, depth))
    expected = by_singular_values(kernel, gradient, depth)
    assert np.all(np.isfinite(found))
    tolerance = left_of_zero(dtype, depth) * max(np.abs(expected).max(), 1e-30)
    np.testing.assert_allclose(found, expected, atol=max(tolerance, 1e-6), rtol=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_repeated_singular_values(depth):
    kernel, gradient = 2 * np.eye(5)[:, :3], random_pair((5, 3), 0)[1]
    expected = by_singular_values(kernel, gradient, depth)
    np.testing.assert_allclose(end_to_end_gradient(kernel, gradient, depth), expected, atol=1e-10)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e12])
@pytest.mark.parametrize("shape", [(6, 4), (5, 1)])
@pytest.mark.parametrize("depth", [2, 3, 8])
def test_never_not_a_number(scale, shape, depth):
    kernel, gradient = (a.astype("float32") for a in random_pair(shape, 3, scale))
    assert np.all(np.isfinite(numpy(end_to_end_gradient(kernel, gradient, depth))))


@pytest.mark.parametrize("scale", [1e-25, 1e15])
@pytest.mark.parametrize("shape", [(6, 4), (5, 1)])
@pytest.mark.parametrize("depth", [2, 3])
def test_kernels_whose_squares_float32_cannot_hold(scale, shape, depth):
    kernel, gradient = (a.astype("float32") for a in random_pair(shape, 3))
    expected = scale ** (2 - 2 / depth) * by_singular_values(kernel, gradient, depth)
    found = end_to_end_gradient(np.float32(scale) * kernel, gradient, depth)
    assert np.linalg.norm(numpy(found) / np.abs(expected).max()) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_several_kernels_are_each_as_accurate_as_one(depth):
    kernels = [with_condition((60, 40), 10.0**c, seed=c) for c in (6, 1, 5)]
    kernels = np.stack([scale * k for scale, k in zip((1, 1e-3, 10), kernels, strict=True)])
    kernels, gradients = kernels.astype("float32"), random_pair((3, 60, 40), 1)[1].astype("float32")
    found = numpy(end_to_end_gradient(kernels, gradients, depth))
    for index in range(3):
        expected = by_singular_values(kernels[index], gradients[index], depth)
        assert relative_error(found[index], expected) < promised_at_a_million(depth)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("spoiled", [False, True])
def test_kernels_do_not_depend_on_their_neighbours(depth, spoiled):
    """Neither on neighbours of other scales nor on one that is not a number."""
    scales = np.array([1e-20, 1.0, 1e15])[:, None, None]  # (1e-20)^{2 − 2/5} is no zero
    shape = (12, 7)
    kernels = scales * np.stack([with_condition(shape, 1e6, seed=seed) for seed in range(3)])
    kernels, gradients = kernels.astype("float32"), random_pair((3, *shape), 1)[1].astype("float32")
    if spoiled:
        kernels[1, 0, 0] = np.nan
    found = numpy(end_to_end_gradient(kernels, gradients, depth))
    assert np.isfinite(found).all(axis=(1, 2)).tolist() == [True, not spoiled, True]
    for index in (0, 2):  # as accurate as alone; not the same, for rounding differs with the shape
        expected = by_singular_values(kernels[index], gradients[index], depth)
        assert relative_error(found[index], expected) < promised_at_a_million(depth)


def test_only_the_smaller_side_is_decomposed_and_a_vector_not_at_all(monkeypatch):
    sizes, eigh = [], keras.ops.linalg.eigh
    monkeypatch.setattr(
        keras.ops.linalg, "eigh", lambda matrix: (sizes.append(matrix.shape[-1]), eigh(matrix))[1]
    )
    cases = [
        ((3, 8), 2, 3),
        ((3, 8), 3, 3),
        ((1, 8, 3), 3, 3),
        ((5, 1), 3, None),
        ((1, 4), 2, None),
    ]
    for shape, depth, side in cases:
        sizes.clear()
        kernel, gradient = random_pair(shape, 0)
        found = numpy(end_to_end_gradient(kernel, gradient, depth))
        flat = [a.reshape(shape[-2:]) for a in (found, kernel, gradient)]
        assert relative_error(flat[0], by_singular_values(*flat[1:], depth)) < 1e-6
        assert set(sizes) == ({side} if side else set())


def test_zero_is_a_saddle_but_for_depth_one():
    gradient = np.ones((4, 3))
    zero = np.zeros((4, 3))
    np.testing.assert_array_equal(numpy(end_to_end_gradient(zero, gradient, 1)), gradient)
    for depth in (2, 5):
        np.testing.assert_array_equal(numpy(end_to_end_gradient(zero, gradient, depth)), zero)


# In a tracked basis ------------------------------------------------------------------------------


def basis_of(kernel):
    return np.linalg.eigh(kernel.astype("float64").T @ kernel)[1].astype(kernel.dtype)


def moved_by(kernel, fraction, rank, seed=2):
    """A kernel moved by a fraction of its norm, in a direction of some rank."""
    rng = np.random.default_rng(seed)
    rows, columns = kernel.shape
    step = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    step *= fraction * np.linalg.norm(kernel) / np.linalg.norm(step)
    return (kernel + step).astype(kernel.dtype), step


def updates(kernel, basis, gradient):
    """The rule of depth 2 in a basis, both ways, and whether the basis was kept."""
    kernel, basis, gradient = map(keras.ops.convert_to_tensor, (kernel, basis, gradient))
    root = tracked_root(kernel, basis)
    polar, right = polar_factors(root)
    kept = np.array_equal(numpy(root.basis), numpy(basis))
    by_polar = precondition_by_polar(kernel, polar, right, gradient)
    return (precondition_by_root(root, gradient), by_polar), kept


@pytest.mark.parametrize("shape", [(60, 40), (48, 48)])
@pytest.mark.parametrize("condition", [10, 1e3, 1e6])
@pytest.mark.parametrize("rank", [1, 40])
def test_a_basis_is_kept_only_while_it_is_accurate(shape, condition, rank):
    before = with_condition(shape, condition).astype("float32")
    basis, kept_at = basis_of(before), []
    for fraction in np.geomspace(1e-6, 1, 7):
        kernel, step = moved_by(before, fraction, rank)
        for gradient in (random_pair(shape, 1)[1], step):
            gradient = gradient.astype("float32")
            found, kept = updates(kernel, basis, gradient)
            expected = by_singular_values(kernel, gradient, 2)
            # A gradient along the kernel's own last step can be small where the kernel is unsure.
            for update in found:
                assert relative_error(update, expected) < 1e-4
        kept_at += [fraction] * kept
    assert max(kept_at, default=0) < 0.1
    assert kept_at or condition > 10


def test_tracking_in_double_precision_is_as_accurate_as_that():
    before = with_condition((30, 20), 10)
    for fraction, rank in itertools.product([1e-5, 1e-4, 1e-3], [1, 20]):
        kernel, gradient = moved_by(before, fraction, rank)
        found, _ = updates(kernel, basis_of(before), gradient)
        assert relative_error(found[0], by_singular_values(kernel, gradient, 2)) < 1e-8


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e12])
@pytest.mark.parametrize("basis", ["identity", "zero", "not a number"])
def test_no_basis_makes_the_update_not_a_number(scale, basis):
    kernel, gradient = (a.astype("float32") for a in random_pair((9, 6), 3, scale))
    basis = {
        "identity": np.eye(6),
        "zero": np.zeros((6, 6)),
        "not a number": np.full((6, 6), np.nan),
    }[basis].astype("float32")
    found, _ = updates(kernel, basis, gradient)
    for update in found:
        assert np.all(np.isfinite(numpy(update)))


@pytest.mark.parametrize("shape", [(20, 12), (12, 12)])
def test_tracking_kernels_with_rows_and_columns_of_zeros(shape):
    before = random_pair(shape, 0)[0].astype("float32")
    before[:, :3] = before[:2] = 0
    kernel = (1 + 1e-3 * np.sign(before)) * before
    gradient = random_pair(shape, 1)[1].astype("float32")
    found, kept = updates(kernel.astype("float32"), basis_of(before), gradient)
    assert kept
    for update in found:
        assert relative_error(update, by_singular_values(kernel, gradient, 2)) < 1e-4


def test_tracking_with_leading_axes():
    kernels, gradients = random_pair((3, 6, 4), 0)
    bases = np.stack([basis_of(kernel) for kernel in kernels])
    for moved in (0.0, 0.5):
        there = kernels + moved * gradients
        root = tracked_root(*map(keras.ops.convert_to_tensor, (there, bases)))
        found = numpy(precondition_by_root(root, keras.ops.convert_to_tensor(gradients)))
        for index in range(3):
            expected = by_singular_values(there[index], gradients[index], 2)
            np.testing.assert_allclose(found[index], expected, rtol=1e-7, atol=1e-9)


def test_a_tolerance_keeps_a_basis_that_is_less_accurate():
    before = with_condition((30, 20), 10).astype("float32")
    kernel, _ = moved_by(before, 0.03, 20)
    gradient = random_pair((30, 20), 1)[1].astype("float32")
    kernel, basis, gradient = map(keras.ops.convert_to_tensor, (kernel, basis_of(before), gradient))
    for tolerance, kept, error in [(0.0, False, 1e-5), (0.01, True, 0.01)]:
        root = tracked_root(kernel, basis, tolerance)
        assert np.array_equal(numpy(root.basis), numpy(basis)) == kept
        found = precondition_by_root(root, gradient)
        assert relative_error(found, by_singular_values(numpy(kernel), numpy(gradient), 2)) < error


def near_diagonal(size, coupling, scale, seed):
    """A positive definite matrix, diagonal but for a coupling of that size."""
    rng = np.random.default_rng(seed)
    off = np.triu(rng.normal(size=(size, size)), 1)
    return scale * (np.diag(rng.uniform(1, 2, size)) + coupling * (off + off.T))


def test_the_estimated_error_of_a_root_is_what_it_says_and_what_it_is():
    exact = np.stack([near_diagonal(12, 0.003, scale, seed) for seed, scale in enumerate((0.1, 3))])
    gram = exact @ exact
    diagonal, coupling, errors = map(numpy, root_nearly_diagonal(keras.ops.convert_to_tensor(gram)))
    for index in range(2):
        d = np.sqrt(np.diag(gram[index]))
        sums, identity = np.add.outer(d, d), np.eye(12)
        first = gram[index] * (1 - identity) / sums
        rest = gram[index] - (np.diag(d) + first) @ (np.diag(d) + first)
        ratio = np.linalg.norm(first / np.sqrt(np.outer(d, d)))
        typical = np.sqrt(np.mean(d**2))
        estimate = errors[index].item()
        assert estimate == pytest.approx(ratio * np.linalg.norm(rest / sums) / typical, rel=1e-6)
        found = np.diag(diagonal[index, 0]) + coupling[index]
        true = np.linalg.norm(found - exact[index]) / typical
        assert 0.02 < true / estimate < 2


def test_a_root_of_what_is_far_from_diagonal_has_no_estimate():
    matrix = near_diagonal(12, 0.2, 1, 0)
    error = root_nearly_diagonal(keras.ops.convert_to_tensor(matrix @ matrix))[2]
    assert not np.isfinite(numpy(error)).any()


def test_singular_values_below_twice_the_resolution_are_zero():
    eps = np.finfo("float32").eps
    singular = np.array([[[1, 2.5 * eps, 1.5 * eps]], [[1e-9, 1e-15, 0]]], "float32")
    values, inverses = map(numpy, resolved(keras.ops.convert_to_tensor(singular)))
    np.testing.assert_array_equal(values > 0, [[[1, 1, 0]], [[1, 1, 0]]])
    np.testing.assert_array_equal(values[values > 0], singular[values > 0])
    np.testing.assert_allclose(inverses * singular, values > 0, rtol=1e-6)


def test_a_root_is_solved_to_second_order_in_its_coupling():
    kernel = keras.ops.convert_to_tensor(random_pair((6, 4), 0)[0])
    root = tracked_root(kernel, keras.ops.eye(4, dtype="float64"))
    couplings = np.geomspace(1e-3, 1e-2, 4)
    errors = []
    for coupling in couplings:
        matrix = near_diagonal(4, coupling, 1, 0)
        d = np.diag(matrix)
        near = root._replace(
            diagonal=keras.ops.convert_to_tensor(d[None]),
            coupling=keras.ops.convert_to_tensor(matrix - np.diag(d)),
        )
        found = solve_root(near, keras.ops.eye(4, dtype="float64"))
        errors.append(np.linalg.norm(numpy(found) - np.linalg.inv(matrix)))
    assert np.polyfit(np.log(couplings), np.log(errors), 1)[0] == pytest.approx(3, abs=0.1)


# Gradients of low rank ---------------------------------------------------------------------------


def of_rank(rank, shape, noise=0.0, scale=1.0):
    """A gradient of some rank, its singular values over three decades, and noise."""
    rng = np.random.default_rng(rank)
    left = rng.normal(size=(shape[0], rank)) * np.geomspace(1, 1e-3, max(rank, 1))[:rank]
    matrix = left @ rng.normal(size=(rank, shape[1]))
    other = rng.normal(size=shape)
    matrix = matrix + noise * np.linalg.norm(matrix) / np.linalg.norm(other) * other
    return keras.ops.convert_to_tensor((scale * matrix).astype("float32"))


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e20])
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_a_gradient_of_low_rank_is_a_product_of_thin_matrices(rank, scale):
    gradient = of_rank(rank, (60, 40), scale=scale)
    columns, rows, spanned = thin_gradient(gradient, 5)
    assert bool(spanned)
    assert columns.shape[-1] < 40
    difference = np.abs(numpy(columns) @ numpy(rows).T - numpy(gradient)).max()
    assert difference <= 1e-5 * np.abs(numpy(gradient)).max()
    kernel, _ = random_pair((60, 40), 3)
    kernel = keras.ops.convert_to_tensor(kernel.astype("float32"))
    root = tracked_root(kernel, keras.ops.eye(40))
    polar, right = polar_factors(root)
    expected = by_singular_values(numpy(kernel), numpy(gradient), 2)
    for found in (
        precondition_thin_by_root(root, (columns, rows)),
        precondition_thin_by_polar(kernel, polar, right, (columns, rows)),
    ):
        assert np.linalg.norm(numpy(found) - expected) <= 2e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(("rank", "noise"), [(5, 1e-4), (20, 0.0), (40, 0.0)])
def test_a_gradient_of_higher_rank_is_recognized(rank, noise):
    assert not bool(thin_gradient(of_rank(rank, (60, 40), noise), 5)[-1])


def test_gradients_of_low_rank_with_leading_axes():
    kernels, _ = random_pair((2, 3, 30, 20), 3)
    left, right = random_pair((2, 3, 30, 2), 4)[0], random_pair((2, 3, 2, 20), 5)[0]
    gradients, kernels = (
        keras.ops.convert_to_tensor(left @ right),
        keras.ops.convert_to_tensor(kernels),
    )
    columns, rows, spanned = thin_gradient(gradients, 2)
    assert numpy(spanned).shape == ()
    assert bool(spanned)
    root = tracked_root(kernels, keras.ops.eye(20, dtype="float64") + 0 * kernels[..., :20, :])
    polar, right = polar_factors(root)
    for found in (
        precondition_thin_by_root(root, (columns, rows)),
        precondition_thin_by_polar(kernels, polar, right, (columns, rows)),
        precondition_by_polar(kernels, polar, right, gradients),
    ):
        for index in itertools.product(range(2), range(3)):
            expected = by_singular_values(numpy(kernels)[index], numpy(gradients)[index], 2)
            np.testing.assert_allclose(numpy(found)[index], expected, rtol=1e-7, atol=1e-8)


def test_a_gradient_of_low_rank_in_a_tracked_basis():
    before = with_condition((60, 40), 10).astype("float32")
    kernel = keras.ops.convert_to_tensor(moved_by(before, 1e-3, 40)[0])
    root = tracked_root(kernel, keras.ops.convert_to_tensor(basis_of(before)))
    assert np.linalg.norm(numpy(root.coupling)) > 1e-4  # not yet singular vectors
    columns, rows, _ = thin_gradient(of_rank(5, (60, 40)), 5)
    expected = by_singular_values(numpy(kernel), numpy(columns) @ numpy(rows).T, 2)
    assert relative_error(precondition_thin_by_root(root, (columns, rows)), expected) < 1e-5


def test_one_gradient_of_higher_rank_among_several_is_recognized():
    gradients = np.stack([numpy(of_rank(rank, (60, 40))) for rank in (5, 20, 0)])
    assert not bool(thin_gradient(keras.ops.convert_to_tensor(gradients), 5)[-1])


# Symmetries -------------------------------------------------------------------------------------


@given(shape=SHAPES, depth=DEPTHS, seed=SEEDS)
def test_transposition_and_rotation(shape, depth, seed):
    kernel, gradient = random_pair(shape, seed)
    update = numpy(end_to_end_gradient(kernel, gradient, depth))
    np.testing.assert_allclose(
        end_to_end_gradient(kernel.T, gradient.T, depth), update.T, rtol=1e-7, atol=1e-9
    )
    left, right = (np.linalg.qr(random_pair((size, size), seed)[1])[0] for size in shape)
    rotated = end_to_end_gradient(left @ kernel @ right, left @ gradient @ right, depth)
    np.testing.assert_allclose(rotated, left @ update @ right, rtol=1e-6, atol=1e-7)


@given(shape=SHAPES, depth=DEPTHS, seed=SEEDS)
def test_linear_in_the_gradient_and_homogeneous_in_the_kernel(shape, depth, seed):
    kernel, gradient = random_pair(shape, seed)
    other = random_pair(shape, seed + 1)[1]
    update = numpy(end_to_end_gradient(kernel, gradient, depth))
    both = end_to_end_gradient(kernel, 2 * gradient - other, depth)
    expected = 2 * update - numpy(end_to_end_gradient(kernel, other, depth))
    np.testing.assert_allclose(both, expected, rtol=1e-7, atol=1e-8)
    scaled = end_to_end_gradient(3 * kernel, gradient, depth)
    np.testing.assert_allclose(scaled, 3 ** (2 - 2 / depth) * update, rtol=1e-7, atol=1e-8)


@given(size=st.integers(2, 12), depth=DEPTHS, seed=SEEDS)
def test_one_output_formula_is_the_matrix_formula(size, depth, seed):
    kernel, gradient = random_pair((size, 1), seed)
    column = numpy(end_to_end_gradient(kernel, gradient, depth))
    # Two copies side by side are a rank-one matrix: the kernel turned into its first column.
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    matrix = numpy(
        end_to_end_gradient(
            np.hstack([kernel, 0 * kernel]) @ turn,
            np.hstack([gradient, 0 * gradient]) @ turn,
            depth,
        )
    )
    tolerance = left_of_zero("float64", depth) * np.abs(column).max()
    np.testing.assert_allclose((matrix @ turn.T)[:, :1], column, rtol=1e-5, atol=tolerance)
    step, momentum = map(numpy, step_and_momentum(kernel, gradient, depth))
    np.testing.assert_allclose(step * (gradient + momentum), column, rtol=1e-10)
    norm = np.linalg.norm(kernel)
    np.testing.assert_allclose(step.item(), norm ** (2 - 2 / depth), rtol=1e-10)
    projection = kernel * (kernel.T @ gradient) / norm**2
    np.testing.assert_allclose(momentum, (depth - 1) * projection, rtol=1e-8, atol=1e-10)


def test_leading_axes():
    kernels, gradients = random_pair((2, 3, 6, 4), 0)
    found = numpy(end_to_end_gradient(kernels, gradients, 3))
    for index in itertools.product(range(2), range(3)):
        expected = by_singular_values(kernels[index], gradients[index], 3)
        np.testing.assert_allclose(found[index], expected, rtol=1e-7, atol=1e-9)
    columns = numpy(end_to_end_gradient(kernels[..., :1], gradients[..., :1], 3))
    expected = by_singular_values(kernels[1, 2][:, :1], gradients[1, 2][:, :1], 3)
    np.testing.assert_allclose(columns[1, 2], expected, rtol=1e-9)


# The spectrum -----------------------------------------------------------------------------------


@given(shape=SHAPES, depth=DEPTHS, seed=SEEDS)
def test_spectrum(shape, depth, seed):
    kernel, _ = random_pair(shape, seed)
    eigenvalues, left, right = map(numpy, end_to_end_spectrum(kernel, depth))
    assert eigenvalues.shape == shape
    for r, s in {(0, 0), (shape[0] - 1, 0), (0, shape[1] - 1), (shape[0] - 1, shape[1] - 1)}:
        vector = np.outer(left[:, r], right[:, s])
        image = by_singular_values(kernel, vector, depth)
        np.testing.assert_allclose(image, eigenvalues[r, s] * vector, rtol=1e-6, atol=1e-8)


def test_spectra_of_several_kernels():
    kernels, _ = random_pair((2, 3, 5, 4), 0)
    found = map(numpy, end_to_end_spectrum(kernels, 3))
    for whole, one in zip(found, end_to_end_spectrum(kernels[1, 2], 3), strict=True):
        assert whole.shape == (2, 3, *one.shape)
        np.testing.assert_allclose(np.abs(whole[1, 2]), np.abs(numpy(one)), rtol=1e-9, atol=1e-12)


# What it stands for -----------------------------------------------------------------------------


def factored_step(kernel, gradient, learning_rate, depth, width, weight_decay=0.0):
    """Product after one step of gradient descent on balanced factors."""
    factors = balanced_factors(kernel, depth, width)
    moved = []
    for index, factor in enumerate(factors):
        before = np.eye(kernel.shape[0])
        for other in factors[:index]:
            before = before @ other
        after = np.eye(factor.shape[1])
        for other in factors[index + 1 :]:
            after = after @ other
        slope = before.T @ gradient @ after.T + weight_decay * factor
        moved.append(factor - learning_rate * slope)
    return chain_product(moved)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_gradient_descent_on_factors_is_the_rule_up_to_the_square_of_the_step(depth, weight_decay):
    kernel, gradient = random_pair((6, 4), depth)
    rates = np.geomspace(1e-5, 1e-3, 5)
    differences = [
        np.linalg.norm(
            factored_step(kernel, gradient, rate, depth, None, weight_decay)
            - numpy(end_to_end_step(kernel, gradient, rate, depth, weight_decay))
        )
        for rate in rates
    ]
    slope = np.polyfit(np.log(rates), np.log(differences), 1)[0]
    assert slope == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_hidden_widths_do_not_matter(depth):
    target = random_pair((6, 3), 7)[0]
    ends = []
    for width in (3, 4, 9):
        factors = balanced_factors(random_pair((6, 3), 8)[0], depth, width)
        for _ in range(200):
            product = chain_product(factors)
            moved = []
            for index, factor in enumerate(factors):
                before = chain_product([np.eye(6), *factors[:index]])
                after = chain_product([*factors[index + 1 :], np.eye(3)])
                moved.append(factor - 0.01 * before.T @ (product - target) @ after.T)
            factors = moved
        ends.append(chain_product(factors))
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-9, atol=1e-11)


def test_a_step_decays_only_if_asked_to():
    kernel, gradient = random_pair((5, 3), 0)
    update = numpy(end_to_end_gradient(kernel, gradient, 3))
    np.testing.assert_allclose(end_to_end_step(kernel, gradient, 0.1, 3), kernel - 0.1 * update)


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_less_than_float32_is_computed_in_float32(dtype):
    kernel, gradient = (np.round(3 * a).astype(dtype) for a in random_pair((5, 3), 0))
    for found in (
        end_to_end_gradient(kernel, gradient, 2),
        step_and_momentum(kernel[:, :1], gradient[:, :1], 2)[1],
        end_to_end_spectrum(kernel, 2).eigenvalues,
        end_to_end_step(kernel, gradient, 0.1, 2),
    ):
        assert numpy(found).dtype == "float32"
    found = end_to_end_gradient(kernel, gradient, 2)
    assert relative_error(found, by_singular_values(kernel, gradient, 2)) < 1e-5


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_unit_step_norm(depth):
    kernel = unit_step_norm(depth) * np.eye(3)
    largest = numpy(end_to_end_spectrum(kernel, depth).eigenvalues).max()
    assert largest == pytest.approx(1.0)


# Errors -----------------------------------------------------------------------------------------


def test_bad_arguments_are_one_clear_sentence():
    kernel = np.ones((3, 2))
    for call in (
        lambda: end_to_end_gradient(kernel, kernel, 0),
        lambda: step_and_momentum(kernel[:, :1], kernel[:, :1], 0),
        lambda: end_to_end_spectrum(kernel, 0),
    ):
        with pytest.raises(
            ValueError, match="^`depth` must be a positive integer. Received: depth=0"
        ):
            call()
    with pytest.raises(ValueError, match=r"must have the same shape. Received: \(3, 2\) and \(2,"):
        end_to_end_gradient(kernel, kernel.T, 2)
    with pytest.raises(ValueError, match=r"must have one output or one input. Received: kernel of"):
        step_and_momentum(kernel, kernel, 2)
    with pytest.raises(ValueError, match=r"Received: kernel of shape \(1, 3, 2\)"):
        step_and_momentum(kernel[None], kernel[None], 2)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("kernel", lambda wrong, right: end_to_end_gradient(wrong, right, 2)),
        ("gradient", lambda wrong, right: end_to_end_gradient(right, wrong, 2)),
        ("kernel", lambda wrong, right: end_to_end_spectrum(wrong, 2)),
        ("learning_rate", lambda wrong, right: end_to_end_step(right, right, wrong, 2)),
        ("weight_decay", lambda wrong, right: end_to_end_step(right, right, 0.1, 2, wrong)),
    ],
)
def test_the_argument_that_is_wrong_is_named(name, call):
    with pytest.raises(ValueError, match=f"^`{name}` must be .* Received: {name}='two'"):
        call("two", np.ones((3, 2)))
