"""Losses of linear models: gradients and curvatures beside explicit sums in float64."""

import numpy as np
import pytest
from keras import ops

from keras_overparam.sweep.problems import CROSS_ENTROPY, LP, linear_problem

CASES = [(LP, 2), (LP, 2.5), (LP, 4), (CROSS_ENTROPY, 2)]


def data(loss, rows=7, inputs=3, outputs=2):
    random = np.random.default_rng(0)
    features = random.normal(size=(rows, inputs))
    if loss == CROSS_ENTROPY:
        return features, np.arange(rows) % outputs
    return features, random.normal(size=(rows, outputs))


def explicit_loss(kernel, features, targets, loss, power):
    """The definition, example by example."""
    total = 0.0
    for row, target in zip(features, targets, strict=True):
        outputs = row @ kernel
        if loss == CROSS_ENTROPY:
            total += np.log(np.sum(np.exp(outputs))) - outputs[target]
        else:
            total += np.sum(np.abs(outputs - target) ** power) / power / len(target)
    return total / len(features)


def derivative(function, point, step=1e-6):
    """Central differences, along every entry of a point."""
    moves = step * np.eye(point.size).reshape(point.size, *point.shape)
    slopes = [(function(point + move) - function(point - move)) / (2 * step) for move in moves]
    return np.array(slopes).reshape(*point.shape, *np.shape(slopes[0]))


@pytest.mark.parametrize(("loss", "power"), CASES)
def test_losses_and_gradients_are_those_of_the_definition(loss, power):
    features, targets = data(loss)
    problem = linear_problem(features, targets, loss, power, "float64")
    gradient, losses = problem.functions()
    kernels = np.random.default_rng(1).normal(size=(4, *problem.kernel_shape))
    tensors = ops.convert_to_tensor(kernels, "float64")

    def explicit(kernel):
        return explicit_loss(kernel, features, targets, loss, power)

    np.testing.assert_allclose(ops.convert_to_numpy(losses(tensors)), [*map(explicit, kernels)])
    slopes = [derivative(explicit, kernel) for kernel in kernels]
    np.testing.assert_allclose(ops.convert_to_numpy(gradient(tensors)), slopes, atol=1e-8)


@pytest.mark.parametrize(("loss", "power"), CASES)
def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian(loss, power):
    features, targets = data(loss)
    problem = linear_problem(features, targets, loss, power, "float64")
    zero = np.zeros(problem.kernel_shape)

    def slope(kernel):
        return derivative(lambda k: explicit_loss(k, features, targets, loss, power), kernel, 1e-4)

    hessian = derivative(slope, zero, 1e-3).reshape(zero.size, zero.size)
    assert problem.curvature_at_zero() == pytest.approx(
        np.linalg.eigvalsh(hessian)[-1], rel=1e-3 if power != 2.5 else 2e-2
    )


@pytest.mark.parametrize("targets", [[0.5, 1.0], [-1, 0], [[0, 1], [1, 0]], [np.nan, 1]])
def test_classes_are_integers_from_zero_on(targets):
    with pytest.raises(ValueError, match="`targets` must be.* Received: targets="):
        linear_problem(np.ones((2, 3)), targets, CROSS_ENTROPY, 2, "float32")


def test_other_losses_are_refused():
    with pytest.raises(ValueError, match="`loss` must be.*Received: loss='hinge'"):
        linear_problem(np.ones((2, 3)), [0, 1], "hinge", 2, "float32")
