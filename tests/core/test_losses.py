"""The lp loss: values, slopes, and what Keras asks of a loss."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_overparam import LpLoss
from keras_overparam.losses import checked_power, lp, lp_slope

RNG = np.random.default_rng(0)
TARGETS, PREDICTIONS = RNG.normal(size=(2, 7, 3)).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("power", [2, 2.5, 3, 4, 6, 7, 8])
def test_values_and_slopes(power):
    residuals = RNG.normal(size=(5, 4))
    np.testing.assert_allclose(
        numpy(lp(residuals, power)), np.abs(residuals) ** power / power, rtol=1e-5
    )
    expected = np.sign(residuals) * np.abs(residuals) ** (power - 1)
    np.testing.assert_allclose(numpy(lp_slope(residuals, power)), expected, rtol=1e-5)


@pytest.mark.parametrize("power", [2, 2.5, 3, 6])
def test_slopes_are_the_numeric_derivatives(power):
    residuals = np.array([-1.7, -0.3, 0.0, 0.4, 2.1])
    up, down = (numpy(lp((residuals + s).astype("float32"), power)) for s in (1e-2, -1e-2))
    slope = numpy(lp_slope(residuals.astype("float32"), power))
    np.testing.assert_allclose(slope, (up - down) / 2e-2, rtol=5e-3, atol=2e-2)


@pytest.mark.parametrize("power", [2, 2.5, 3, 4])
def test_zero_residuals_have_zero_loss_and_slope(power):
    assert numpy(lp(np.zeros(2), power)).tolist() == [0, 0]
    assert numpy(lp_slope(np.zeros(2), power)).tolist() == [0, 0]


def test_at_two_it_is_half_the_mean_squared_error():
    expected = numpy(keras.losses.MeanSquaredError()(TARGETS, PREDICTIONS)) / 2
    np.testing.assert_allclose(numpy(LpLoss(2)(TARGETS, PREDICTIONS)), expected, rtol=1e-6)


def test_reduction_and_sample_weights_are_those_of_keras():
    each = numpy(LpLoss(3, reduction="none")(TARGETS, PREDICTIONS))
    assert each.shape == (7,)
    weights = np.arange(7, dtype="float32")
    weighted = numpy(LpLoss(3)(TARGETS, PREDICTIONS, sample_weight=weights))
    np.testing.assert_allclose(weighted, np.mean(weights * each), rtol=1e-5)


@pytest.mark.parametrize("power", [2, 3.5, 4.0, np.int64(6), np.float32(2.5)])
def test_it_survives_serialization(power):
    loss = LpLoss(power, name="mine", reduction="sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, LpLoss)
    assert again.get_config() == loss.get_config()
    assert again.power == power
    np.testing.assert_array_equal(
        numpy(again(TARGETS, PREDICTIONS)), numpy(loss(TARGETS, PREDICTIONS))
    )


def test_integer_targets_are_cast():
    assert float(LpLoss(4)(np.array([[1]]), np.array([[3.0]], "float32"))) == 4.0


@pytest.mark.parametrize("power", [1, 1.99, 0, -4, True, "4", None, float("nan"), float("inf")])
def test_other_powers_are_refused(power):
    with pytest.raises(ValueError, match="`power` must be a number of at least 2. Received: power"):
        LpLoss(power)


def test_whole_powers_are_integers():
    assert [type(checked_power(p)) for p in (4, 4.0, np.int64(4), 4.5)] == [int, int, int, float]
