"""The probe: fair, repeatable, and right where the answer is known."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_overparam import FactoredDense, LpLoss, probe, probing
from keras_overparam.probing import STARTS, Advice, Reasons, SpeedUp, Tuned

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(120, 6))
KERNEL = RANDOM.normal(size=6)


def test_depth_does_not_help_on_a_well_conditioned_quadratic():
    """From the smallest start, gradient descent at depth 1 is as fast as it can be."""
    shares = []
    data = FEATURES, FEATURES @ KERNEL
    settings = {"depths": [2], "iterations": 40, "replicates": 2}
    found = probe("mse", data, **settings, progress=shares.append)
    assert found.depth == 1
    assert found.expected.keys() == found.measured.keys() == {2}
    assert found.measured[2].value < 1.1
    assert found.horizon == 400
    assert sum(shares) == pytest.approx(1)
    assert found.reasons.plateau == pytest.approx(0.5, abs=0.1)
    assert found.reasons.conditioning < 5
    text = str(found)
    words = r"Stay with depth 1: depth 2 should train about (.+) times as fast \((.+) to (.+)\) as "
    (numbers,) = re.findall(words + "depth 1, over 400 iterations", text)
    np.testing.assert_allclose([float(n) for n in numbers], found.expected[2], rtol=0.05)
    assert found == probe(2, data, **settings, verbose=0)


def test_the_rates_are_inside_their_grid_wherever_that_has_to_reach():
    """Features scaled by 1e4 ask for rates 1e-8 times as high, and nothing else changes."""
    tuned = []
    for scale in (1.0, 1e4):
        one = Tuned(4, scale * FEATURES, FEATURES @ KERNEL, STARTS, 60, np.random.default_rng(0))
        one.kernels /= scale
        one.tune(1)
        tuned.append(one)
        assert one.inside
    assert tuned[0].rates[1] == pytest.approx(1e8 * tuned[1].rates[1], rel=1e-3)
    np.testing.assert_allclose(
        tuned[0].curves[1][-1].min(), tuned[1].curves[1][-1].min(), rtol=1e-2
    )


def test_a_grid_that_ends_too_low_is_said(monkeypatch):
    monkeypatch.setattr(probing, "OCTAVES", (-9, -6))
    monkeypatch.setattr(probing, "EXTENSIONS", 0)
    found = probe(4, (FEATURES, FEATURES @ KERNEL), depths=[2], iterations=20, replicates=2)
    assert not found.inside
    assert "others may be better" in str(found)


def test_separable_classes_are_learned_in_the_end():
    data = np.array([[1.0], [-1.0], [2.0], [-2.0]]), np.array([1, 0, 1, 0])
    found = probe("cross_entropy", data, depths=[2], iterations=30, replicates=2)
    assert found.depth == 1  # at high rates, one step does it
    assert found.reasons.growth > 1


def test_the_speed_up_counts_iterations_to_the_higher_of_the_lowest_losses():
    tuned = Tuned(2, FEATURES, FEATURES @ KERNEL, STARTS, 100, np.random.default_rng(0))
    times = np.maximum(tuned.grid, 1)
    tuned.curves = {1: (1.0 / times)[:, None], 2: (1.0 / times**2)[:, None]}
    assert tuned.speed_up(2) == pytest.approx(10, rel=0.05)  # 1/100 is there after 10
    tuned.curves[3] = tuned.curves[1] * 10
    assert tuned.speed_up(3) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("count", [2, 3, 11, 500])
def test_the_interval_is_that_of_prediction(count):
    """Four times in five it holds one more value of the same normal distribution."""
    values = np.random.default_rng(0).normal(1, 0.5, size=(4000, count + 1))
    ends = [probing._interval(row[:-1], 0.0) for row in values]
    inside = [
        low <= np.exp(row[-1]) <= high for row, (_, low, high) in zip(values, ends, strict=True)
    ]
    assert np.mean(inside) == pytest.approx(0.8 if count < 12 else 0.83, abs=0.02)


def two_heads():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    model.compile("sgd", "mse")
    return model


def head(activation, **kwargs):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3, activation)]
    )
    model.compile(**kwargs)
    return model


def test_the_head_of_a_model_is_probed_on_what_it_gets():
    classes = RANDOM.integers(0, 3, 120)
    inputs = FEATURES.astype("float32")
    model = head("softmax", loss="sparse_categorical_crossentropy")
    kind, features, targets = probing._linear_problem(model, (inputs, classes))
    body = keras.Model(model.inputs, model.layers[-1].input)
    assert kind == "cross_entropy"
    np.testing.assert_array_equal(features[:, :5], body.predict(inputs, verbose=0))
    np.testing.assert_array_equal(features[:, 5], 1)  # the bias
    np.testing.assert_array_equal(targets, classes)
    one_hot = probing._linear_problem("categorical_crossentropy", (features, np.eye(3)[classes]))
    np.testing.assert_array_equal(one_hot[2], classes)
    assert probe(model, (inputs, classes), depths=[2], iterations=8, replicates=2).depth in (1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "`loss` must be a power"),
        ({"loss": 1}, "`power` must be"),
        ({"depths": [1]}, "a depth above 1"),
        ({"depths": [0]}, "`depths` must be"),
        ({"replicates": 1}, "`replicates` must be at least 2"),
        ({"iterations": 4}, "`iterations` must be at least 8"),
        ({"horizon": 4}, "`horizon` must be at least 8"),
        ({"horizon": 9, "iterations": 10}, "at least `iterations`, which is 10"),
        ({"verbose": 2}, "`verbose` must be 0 or 1"),
        ({"starts": [0.0]}, "`starts` must be"),
        ({"examples": 0}, "`examples` must be"),
        ({"data": FEATURES}, "a pair"),
        ({"data": (FEATURES, KERNEL)}, r"Received: \d+ and \d+ rows"),
        ({"data": (FEATURES[0], KERNEL)}, "Received shapes"),
        ({"data": (0 * FEATURES, FEATURES @ KERNEL)}, "must be curved"),
        ({"loss": head(None, loss="hinge")}, "`loss` must be a power"),
        ({"loss": two_heads()}, "one output. Received: .* with 2"),
        ({"loss": head("relu", loss=LpLoss(4))}, "activation must be 'linear'"),
        ({"loss": head("linear", loss="categorical_crossentropy")}, "must be 'softmax'"),
    ],
)
def test_what_cannot_be_probed_is_said(changes, message):
    arguments = {"loss": 4, "data": (FEATURES, FEATURES @ KERNEL)} | changes
    with pytest.raises(ValueError, match=message):
        probe(**arguments)


def model_of(output, **kwargs):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, output(inputs))
    model.compile(**{"loss": "mse"} | kwargs)
    return model


class Doubled(keras.layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class DoubledModel(keras.Model):
    def call(self, inputs):
        return 2 * super().call(inputs)


class Subclassed(keras.Model):
    def __init__(self, head_first):
        super().__init__()
        if head_first:
            self.head = keras.layers.Dense(2)
        self.body = keras.layers.Dense(5)
        if not head_first:
            self.head = keras.layers.Dense(2)
        self.compile(loss="mse")
        self(FEATURES)

    def call(self, inputs):
        return self.head(self.body(inputs))


def doubled_model():
    inputs = keras.Input((6,))
    model = DoubledModel(inputs, keras.layers.Dense(2)(inputs))
    model.compile(loss="mse")
    return model


def used_before(inputs):
    dense = keras.layers.Dense(6)
    return dense(dense(inputs))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model_of(lambda x: ops.relu(keras.layers.Dense(2)(x))),
            "that of its last layer",
        ),
        (lambda: model_of(lambda x: 1000.0 * keras.layers.Dense(2)(x)), "that of its last layer"),
        (lambda: model_of(Doubled(2)), "that of its last layer"),
        (lambda: model_of(used_before), "that of its last layer"),
        (doubled_model, "that of its last layer"),
        (lambda: Subclassed(True), "functional or sequential"),
        (lambda: Subclassed(False), "functional or sequential"),
        (lambda: model_of(keras.layers.Dense(1)), "each of the 1 units of .* Received: 2"),
        (lambda: model_of(keras.layers.Dense(4)), "each of the 4 units of .* Received: 2"),
    ],
)
def test_a_model_that_is_not_the_problem_of_its_head_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        probe(make(), (FEATURES, FEATURES[:, :2]), depths=[2], iterations=8, replicates=2)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_regularizer": keras.regularizers.L2(10.0)},
        {"bias_constraint": "non_neg"},
        {"activity_regularizer": "l1"},
    ],
)
def test_penalties_of_the_head_are_left_out_aloud(options):
    model = model_of(keras.layers.Dense(2, name="top", **options))
    with pytest.warns(UserWarning, match="leaves out the regularizers and constraints of 'top'"):
        probing._linear_problem(model, (FEATURES, FEATURES[:, :2]))
    plain = model_of(keras.layers.Dense(2, name="top"))
    assert probing._linear_problem(plain, (FEATURES, FEATURES[:, :2]))[0] == 2


def test_a_factored_head_is_probed_and_its_classes_are_as_many_as_its_units():
    model = model_of(FactoredDense(3), loss=keras.losses.SparseCategoricalCrossentropy(True))
    classes = np.arange(120) % 3
    assert probing._linear_problem(model, (FEATURES, classes))[0] == "cross_entropy"
    for other in (classes % 2, classes + 1, np.eye(4)[classes + 1]):
        with pytest.raises(ValueError, match="each of the 3 units of"):
            probing._linear_problem(model, (FEATURES, other))


CATEGORICAL = keras.losses.CategoricalCrossentropy
SPARSE = keras.losses.SparseCategoricalCrossentropy


class Halved(keras.losses.MeanSquaredError):
    def call(self, y_true, y_pred):
        return super().call(y_true, y_pred) / 2


class Clipped(LpLoss):
    def call(self, y_true, y_pred):
        return ops.minimum(super().call(y_true, y_pred), 1)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (CATEGORICAL(label_smoothing=0.5), "without other options.*'label_smoothing': 0.5"),
        (CATEGORICAL(axis=0), "without other options.*'axis': 0"),
        (SPARSE(ignore_class=2), "without other options.*'ignore_class': 2"),
        (Halved(), "`loss` must be a power"),
        (Clipped(4), "`loss` must be a power"),
    ],
)
def test_a_loss_that_is_another_by_its_options_or_its_class_is_refused(loss, message):
    for given in (loss, model_of(keras.layers.Dense(3), loss=loss)):
        with pytest.raises(ValueError, match=message):
            probing._linear_problem(given, (FEATURES, np.arange(120) % 3))


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (CATEGORICAL(from_logits=True, reduction="sum", name="mine"), "cross_entropy"),
        (SPARSE(from_logits=True, reduction=None), "cross_entropy"),
        (keras.losses.MeanSquaredError(reduction="sum", name="mine"), 2),
        (LpLoss(4, name="mine", reduction="sum"), 4),
    ],
)
def test_a_loss_is_the_same_by_another_name_and_reduction(loss, kind):
    assert probing._kind(loss) == kind


@pytest.mark.parametrize("change", [0.5, 2.0])
def test_soft_targets_are_refused(change):
    """Not taken as the class of the largest."""
    targets = np.eye(3)[np.arange(120) % 3]
    targets[7] *= change
    with pytest.raises(ValueError, match="one-hot rows, without soft labels"):
        probing._linear_problem("cross_entropy", (FEATURES, targets))


@pytest.mark.parametrize("loss", [2, "cross_entropy"])
@pytest.mark.parametrize("convert", [np.asarray, list, ops.convert_to_tensor])
def test_booleans_are_the_classes_or_numbers_zero_and_one(loss, convert):
    labels = FEATURES[:, 0] > 0
    targets = probing._linear_problem(loss, (FEATURES, convert(labels)))[2]
    np.testing.assert_array_equal(targets, labels.astype(int))


QUICK = {"depths": [2], "iterations": 8, "replicates": 2, "starts": [1.0], "verbose": 0}
LINEAR = FEATURES @ KERNEL


@pytest.mark.parametrize(
    ("loss", "features", "targets", "message"),
    [
        ("cross_entropy", FEATURES, np.zeros(120), "targets to learn.*Received: 0 alone"),
        ("cross_entropy", FEATURES, np.ones(120), "targets to learn.*Received: 1 alone"),
        (2, FEATURES, np.zeros(120), "targets to learn.*Received: 0 alone"),
        (4, FEATURES, 1e-12 * LINEAR, "lower the loss"),
        (4, 1e8 * FEATURES, LINEAR, "lower the loss"),
        (4, FEATURES, 1e12 * LINEAR, "lower the loss"),
        (2, 1e20 * FEATURES, LINEAR, "must be curved"),
        (2, 1e-20 * FEATURES, LINEAR, "must be curved"),
        (100, FEATURES, 1e4 * LINEAR, "must be curved"),
        (2, FEATURES, 1e40 * LINEAR, "within the range of float32"),
    ],
)
def test_data_that_teach_nothing_or_overflow_are_refused_in_a_sentence(
    loss, features, targets, message
):
    """And without a warning of NumPy, which would be an error here."""
    with pytest.raises(ValueError, match=message):
        probe(loss, (features, targets), **QUICK)


def test_where_all_rates_diverge_at_a_depth_the_other_is_faster():
    """No warning of NumPy, which would be an error here."""
    found = probe(2, (FEATURES, 1e8 * LINEAR), **QUICK | {"iterations": 30})
    assert found.depth == 1
    assert found.measured[2].value < 1
    assert not found.inside


def test_reasons_are_the_same_for_targets_whose_gradients_squared_overflow():
    reasons = []
    for scale in (1.0, 2.0**27):
        one = Tuned(4, FEATURES, scale * LINEAR, [1.0], 30, np.random.default_rng(0))
        one.kernels *= scale
        one.tune(1)
        reasons.append(one.reasons())
    np.testing.assert_allclose(*reasons, rtol=1e-4)


def test_a_speed_up_in_words():
    assert str(SpeedUp(2.0, 1.0, 4.0)) == "2.00 (1.00–4.00)"


def test_the_answer_comes_first_and_then_the_other_depths():
    expected = {2: SpeedUp(2.53, 1.61, 3.94), 3: SpeedUp(1.5, 0.9, 2.0)}
    reasons = Reasons(0.7, 0.5, 10.0, 3.0)
    found = Advice(2, expected, expected, {}, {}, reasons, 1000, 10_000, True)
    assert str(found).splitlines()[0] == (
        "Depth 2 should train about 2.5 times as fast (1.6 to 3.9) as depth 1, over 10,000 "
        "iterations. Depth 3 should train about 1.5 times as fast (0.9 to 2)."
    )


def test_a_bar_shows_how_far_it_is_unless_that_is_not_wanted(capsys):
    arguments = {"depths": [2], "horizon": 9, "replicates": 2, "starts": [1.0]}
    found = probe(2, (FEATURES, FEATURES @ KERNEL), **arguments)
    assert (found.iterations, found.horizon) == (9, 9)  # no more than what it is asked about
    assert "4/4" in capsys.readouterr().out
    probe(2, (FEATURES, FEATURES @ KERNEL), **arguments, verbose=0)
    assert capsys.readouterr().out == ""
