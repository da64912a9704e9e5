"""Sweeps: the mathematics, divergence, records, checkpoints, refusals, on every backend."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from keras_overparam import EndToEnd, end_to_end_step, sweep_linear_networks
from keras_overparam.sweep import SweepResult, logarithmic_grid
from keras_overparam.sweep import engine as sweep

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))
Y = X @ RNG.normal(size=4) + 0.1 * RNG.normal(size=20)
MANY = X @ RNG.normal(size=(4, 3))
RATES = np.array([0.02, 0.05, 0.1])


def start_of(*sizes, count=3, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    shapes = pairwise(sizes)
    return [scale * rng.normal(size=(count, *shape)) for shape in shapes]


def product_of(factors):
    product = factors[0]
    for factor in factors[1:]:
        product = product @ factor
    return product


def descend(features, targets, factors, rate, steps, power):
    """One configuration as one would write it down, in NumPy: losses and factors."""
    factors = [np.array(factor, "float64") for factor in factors]
    targets = targets.reshape(len(targets), -1)
    losses = []
    for step in range(steps + 1):
        residuals = features @ product_of(factors) - targets
        losses.append(np.mean(np.abs(residuals) ** power) / power)
        if step == steps:
            return losses, factors
        slopes = np.sign(residuals) * np.abs(residuals) ** (power - 1) / residuals.size
        gradient = features.T @ slopes
        gradients = []
        for index in range(len(factors)):
            before, after = factors[:index], factors[index + 1 :]
            left = product_of([np.eye(features.shape[1]), *before])
            right = product_of([*after, np.eye(targets.shape[1])])
            if index == len(factors) - 1:
                right = np.eye(targets.shape[1])
            gradients.append(left.T @ gradient @ right.T)
        factors = [a - rate * g for a, g in zip(factors, gradients, strict=True)]


# The mathematics --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "power"),
    [
        ((4, 1), 2),
        ((4, 1, 1), 4),
        ((4, 1, 1, 1), 2.5),
        ((4, 3), 3),
        ((4, 8, 6, 3), 2),
        ((4, 5, 3), 6),
    ],
)
def test_trajectories_are_those_of_gradient_descent_written_down(sizes, power):
    targets = Y if sizes[-1] == 1 else MANY
    factors, rates = start_of(*sizes), RATES / power**2
    result = sweep_linear_networks(X, targets, factors, "sgd", rates, [1, 2, 30], power)
    assert result.iterations.tolist() == [0, 1, 2, 30]
    assert not result.diverged.any()
    for index, rate in enumerate(rates):
        own = [factor[index] for factor in factors]
        losses, ends = descend(X, targets, own, rate, 30, power)
        np.testing.assert_allclose(
            result.losses[:, index], np.array(losses)[[0, 1, 2, 30]], rtol=2e-4, atol=1e-6
        )
        for found, end in zip(result.factors, ends, strict=True):
            np.testing.assert_allclose(found[index], end, rtol=1e-3, atol=1e-4)


def test_more_features_than_examples():
    factors = start_of(4, 1)
    result = sweep_linear_networks(X[:3], Y[:3], factors, "sgd", RATES, [20])
    losses, _ = descend(X[:3], Y[:3], [factors[0][1]], RATES[1], 20, 2)
    np.testing.assert_allclose(result.losses[:, 1], [losses[0], losses[20]], rtol=1e-4)


@pytest.mark.parametrize(("depth", "outputs"), [(2, 1), (3, 3)])
def test_the_rule_is_end_to_end_step_iterated(depth, outputs):
    targets = Y[:, None] if outputs == 1 else MANY
    (start,) = start_of(4, outputs)
    result = sweep_linear_networks(X, targets, [start], EndToEnd(depth=depth), RATES, [5], 4)
    for index, rate in enumerate(RATES):
        kernel = start[index]
        for _ in range(5):
            gradient = X.T @ (X @ kernel - targets) ** 3 / targets.size
            kernel = np.asarray(end_to_end_step(kernel, gradient, rate, depth))
        np.testing.assert_allclose(result.factors[0][index], kernel, rtol=1e-3, atol=1e-4)


def test_configurations_do_not_see_their_neighbours():
    factors = start_of(4, 1, 1)
    optimizer = keras.optimizers.Adam()
    together = sweep_linear_networks(X, Y, factors, optimizer, RATES, [40], 4)
    others = [np.concatenate([f[2:], -5 * f[:2]]) for f in factors]
    elsewhere = sweep_linear_networks(X, Y, others, optimizer, RATES[[2, 0, 1]], [40], 4)
    np.testing.assert_allclose(together.losses[:, 2], elsewhere.losses[:, 0], rtol=1e-5)
    for a, b in zip(together.factors, elsewhere.factors, strict=True):
        np.testing.assert_allclose(a[2], b[0], rtol=1e-5, atol=1e-7)


def test_arguments_are_left_alone():
    factors = [np.float32(factor) for factor in start_of(4, 1)]
    before = factors[0].copy()
    factors[0].flags.writeable = False
    optimizer = keras.optimizers.SGD(0.3)
    result = sweep_linear_networks(X, Y, factors, optimizer, RATES, [3])
    np.testing.assert_array_equal(factors[0], before)
    assert not np.shares_memory(result.factors[0], factors[0])
    assert float(optimizer.learning_rate) == pytest.approx(0.3)


def test_the_loss_scale_of_an_optimizer_does_not_matter():
    ends = [
        sweep_linear_networks(X, Y, start_of(4, 1), keras.optimizers.SGD(**arguments), RATES, [3])
        for arguments in ({}, {"loss_scale_factor": 8.0})
    ]
    np.testing.assert_array_equal(*(end.losses for end in ends))


# Divergence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("worth", [np.inf, 0])
def test_what_diverges_is_frozen_and_reported_and_the_others_go_on(worth, monkeypatch):
    monkeypatch.setattr(sweep, "RECOMPILATION", worth)
    factors, iterations = start_of(4, 1, 1), [5, 20, 60]
    optimizer = keras.optimizers.Adam()
    rates = np.array([0.01, 1e15, 0.05])
    result = sweep_linear_networks(X, Y, factors, optimizer, rates, iterations, 4)
    assert result.diverged.tolist() == [False, True, False]
    assert result.steps[[0, 2]].tolist() == [60, 60] and result.steps[1] < 60
    assert np.isinf(result.losses[1:, 1]).all()
    assert np.isfinite(result.losses[:, [0, 2]]).all()
    assert all(np.isfinite(factor).all() for factor in result.factors)
    sound = [factor[[0, 2]] for factor in factors]
    alone = sweep_linear_networks(X, Y, sound, optimizer, rates[[0, 2]], iterations, 4)
    np.testing.assert_allclose(result.losses[:, [0, 2]], alone.losses, rtol=1e-5)
    for a, b in zip(result.factors, alone.factors, strict=True):
        np.testing.assert_allclose(a[[0, 2]], b, rtol=1e-5, atol=1e-7)


def test_it_keeps_the_last_finite_parameters():
    factors = start_of(4, 1, count=1)
    whole = sweep_linear_networks(X, Y, factors, "sgd", [10.0], [200], 4)
    last = int(whole.steps[0])
    assert 0 < last < 200
    short = sweep_linear_networks(X, Y, factors, "sgd", [10.0], [last], 4)
    np.testing.assert_array_equal(short.factors[0], whole.factors[0])


def test_a_matrix_rule_survives_a_diverging_neighbour():
    (start,) = start_of(4, 3, count=2)
    result = sweep_linear_networks(X, MANY, [start], EndToEnd(depth=2), [0.01, 1e3], [40], 4)
    alone = sweep_linear_networks(X, MANY, [start[:1]], EndToEnd(depth=2), [0.01], [40], 4)
    assert result.diverged.tolist() == [False, True]
    np.testing.assert_allclose(result.losses[:, :1], alone.losses, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_all_may_diverge(count, tmp_path):
    arguments = X, Y, start_of(4, 1, count=count), "sgd", np.full(count, 1e9), [50, 100], 4
    results = [  # the second starts at the checkpoint of the first
        sweep_linear_networks(*arguments, checkpoint=tmp_path / "sweep.npz") for _ in range(2)
    ]
    for result in results:
        assert result.diverged.all()
        assert np.isinf(result.losses[1:]).all()
        assert np.isfinite(result.losses[0]).all()
        assert np.isfinite(result.factors[0]).all()


# Records ----------------------------------------------------------------------------------------


def test_iterations_to_a_target():
    iterations = np.array([0, 1, 10, 100, 1000])
    columns = np.array(
        [
            [1.0, 1.0, 1e-2, 1e-4, 1e-6],  # iterations^-2 from 1 on
            [1.0, 1.0, 1.0, 1.0, 1.0],
            [1e-5, 1.0, 1.0, 1.0, 1e-9],
            [1.0, 1e-3, np.inf, np.inf, np.inf],
            [np.inf, np.inf, np.inf, np.inf, np.inf],
            [1.0, 1.0, 1.0, 1e-3, 0.0],
        ]
    )
    result = SweepResult(iterations, columns.T, np.full(6, 1000), [])
    expected = [10**1.5, np.inf, 0, 1, np.inf, 100]
    np.testing.assert_allclose(result.iterations_to(1e-3), expected)
    exact = result.iterations_to(np.array([1e-4, 1.0, 1e-5, 1e-3, 1.0, 0.0]))
    np.testing.assert_allclose(exact, [100, 0, 0, 1, np.inf, 1000])
    assert result.iterations_to(1e-7)[0] == np.inf


def test_an_integer_is_recorded_on_a_logarithmic_grid():
    calls = []
    result = sweep_linear_networks(X, Y, start_of(4, 1), "sgd", RATES, 700, progress=calls.append)
    np.testing.assert_array_equal(result.iterations, logarithmic_grid(700))
    assert sum(calls) == 700 and max(calls) <= sweep.PIECE
    assert (np.diff(result.losses, axis=0) <= 1e-6).all()


# Checkpoints ------------------------------------------------------------------------------------


class Interruption(Exception):
    pass


def test_a_resumed_sweep_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.Clock, "rang", lambda clock: True)
    path = tmp_path / "sweep.npz"

    def run(checkpoint=None, progress=None):
        factors = start_of(4, 1, 1)
        optimizer = keras.optimizers.Adam(beta_1=0.8)
        return sweep_linear_networks(
            X, Y, factors, optimizer, RATES, [3, 30, 60], 4, "float32", checkpoint, progress
        )

    calls = []

    def interrupt(steps):
        calls.append(steps)
        if len(calls) == 3:  # after 30 iterations are on disk
            raise Interruption

    with pytest.raises(Interruption):
        run(path, interrupt)
    assert path.exists()
    resumed, whole = run(path), run()
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    np.testing.assert_array_equal(resumed.steps, whole.steps)
    for a, b in zip(resumed.factors, whole.factors, strict=True):
        np.testing.assert_array_equal(a, b)
    finished = run(path, lambda steps: pytest.fail("nothing was left to do"))
    np.testing.assert_array_equal(finished.losses, whole.losses)
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.npz"]


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path):
    path = tmp_path / "sweep.npz"

    def run(rates=RATES, optimizer="adamax"):
        sweep_linear_networks(X, Y, start_of(4, 1), optimizer, rates, [2], checkpoint=path)

    run()
    whole = path.read_bytes()
    for other in ({"rates": 2 * RATES}, {"optimizer": "nadam"}):
        with pytest.raises(ValueError, match="is of another sweep; remove it, or name another"):
            run(**other)
    np.save(tmp_path / "array.npy", np.zeros(3))
    broken = [whole[:200], whole[:-1000], b"", b"text", (tmp_path / "array.npy").read_bytes()]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged \(.*\); remove it to start again"):
            run()


# Devices ----------------------------------------------------------------------------------------

# JAX has two of them in these tests; elsewhere both parts are trained on one.
DEVICES = ["cpu:0", "cpu:1" if keras.backend.backend() == "jax" else "cpu:0"]


def test_devices_share_the_configurations(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.Clock, "rang", lambda clock: True)
    monkeypatch.setattr(sweep, "RECOMPILATION", 0)  # what diverges leaves two to be shared anew
    path, rates = tmp_path / "sweep.npz", np.array([0.01, 1e25, 0.05])

    def run(devices, checkpoint=None, progress=None):
        arguments = X, Y, start_of(4, 1), keras.optimizers.SGD(momentum=0.5), rates, [2, 30]
        return sweep_linear_networks(
            *arguments, checkpoint=checkpoint, progress=progress, devices=devices
        )

    def interrupt(steps):
        calls.append(steps)
        if len(calls) == 2:  # after two iterations are on disk
            raise Interruption

    whole = run(None)
    assert whole.diverged.tolist() == [False, True, False]
    for before, after in ((DEVICES, None), (None, [*DEVICES, "cpu:0"])):
        calls = []
        with pytest.raises(Interruption):
            run(before, path, interrupt)
        shared = run(after, path, calls.append)
        assert calls == [2, 28, 28]
        np.testing.assert_array_equal(shared.steps, whole.steps)
        np.testing.assert_allclose(shared.losses, whole.losses, rtol=1e-5)
        for a, b in zip(shared.factors, whole.factors, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        path.unlink()


def test_each_part_is_on_its_device():
    made = sweep._Sweep(X, Y, start_of(4, 1), "adam", RATES, [3], 2, "float32", DEVICES)
    together = made._trainer()
    together.advance(0, 3)
    assert together.steps().tolist() == [3, 3, 3]
    for name, trainer, count in zip(DEVICES, together.trainers, (2, 1), strict=True):
        assert len(trainer.steps()) == count
        for tensor in keras.tree.flatten(trainer.carry):
            device = str(tensor.device).lower()
            assert device.endswith(name) or device == "cpu"  # PyTorch has one


@pytest.mark.parametrize("devices", [[], ["cpu:0", "cpu:7"], ["cpu:0", "nonsense"], [None]])
def test_devices_that_are_not_there_are_refused(devices):
    with pytest.raises(ValueError, match=r"must be a list of devices that the backend has.*found:"):
        sweep_linear_networks(X, Y, start_of(4, 1), "sgd", RATES, [1], devices=devices)


@pytest.mark.parametrize("devices", ["cpu", 3])
def test_devices_are_a_list(devices):
    with pytest.raises(ValueError, match=f"must be a list of names of devices.*{devices}"):
        sweep_linear_networks(X, Y, start_of(4, 1), "sgd", RATES, [1], devices=devices)


# Refusals ---------------------------------------------------------------------------------------

OPTIMIZERS = keras.optimizers


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda: OPTIMIZERS.AdamW(), "no weight decay"),
        (lambda: OPTIMIZERS.AdamW(weight_decay=1e-6), "no weight decay"),
        (lambda: OPTIMIZERS.SGD(clipnorm=1.0), "no clipping by norms"),
        (lambda: OPTIMIZERS.SGD(clipnorm=1e6), "no clipping by norms"),
        (lambda: OPTIMIZERS.SGD(global_clipnorm=1.0), "no clipping by norms"),
        (lambda: OPTIMIZERS.Muon(), "elementwise, proportional"),
        (lambda: OPTIMIZERS.Lamb(), "no layer-wise rates"),
        (lambda: OPTIMIZERS.Ftrl(), "proportional to the learning rate"),
        (lambda: OPTIMIZERS.ScheduleFreeAdamW(weight_decay=0.0), "independent of the variable"),
        (
            lambda: OPTIMIZERS.SGD(OPTIMIZERS.schedules.ExponentialDecay(0.1, 10, 0.5)),
            "have a learning rate that is a number",
        ),
        (lambda: OPTIMIZERS.SGD(use_ema=True), "neither average nor accumulate"),
        (lambda: OPTIMIZERS.SGD(gradient_accumulation_steps=2), "neither average nor accumulate"),
        (lambda: EndToEnd(depth=2, weight_decay=0.1), "no weight decay"),
        (lambda: EndToEnd(depth={".*": 2}), "`EndToEnd` must have one depth here"),
        (lambda: EndToEnd(depth=3, tolerance=0.9), "leave out tolerance. Received: tolerance=0.9"),
        (lambda: EndToEnd(depth=3, exclude=["."], gradient_rank=2), "out exclude, gradient_rank"),
        (lambda: EndToEnd(depth=3, kernels={"nothing": 1}), "leave out kernels"),
    ],
)
def test_other_optimizers_are_refused(optimizer, message):
    with pytest.raises(ValueError, match=message):
        sweep_linear_networks(X, Y, start_of(4, 1), optimizer(), RATES, [1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": X[:, 0]}, "`features` must be of shape"),
        ({"targets": Y[:-1]}, r"one row for each example. Received: \d+ and \d+ rows"),
        (
            {"features": np.where(X > 1, np.nan, X)},
            "`features` must be a non-empty array",
        ),
        ({"targets": np.full(20, np.inf)}, "`targets` must be a non-empty array of finite"),
        ({"factors": start_of(5, 1)}, "chain from 4 inputs to 1 outputs"),
        ({"factors": start_of(4, 2)}, "chain from 4 inputs to 1 outputs"),
        ({"factors": start_of(4, 1, count=2)}, "leading axis of"),
        ({"factors": [np.zeros((4, 1))]}, "leading axis of"),
        ({"factors": [np.zeros(4)]}, "at least two axes"),
        ({"factors": []}, "non-empty list"),
        ({"factors": [np.zeros((3, 4, 2)), np.zeros((3, 1, 1))]}, "chain from 4 inputs"),
        ({"learning_rates": 0.1}, "`learning_rates` must be a non-empty array"),
        ({"optimizer": EndToEnd(depth=2), "factors": start_of(4, 1, 1)}, "hold one array"),
        ({"iterations": 0}, "`iterations` must be a positive integer"),
        ({"iterations": 1.5}, "`iterations` must be a positive integer"),
        ({"iterations": True}, "`iterations` must be a positive integer"),
        ({"iterations": [0]}, "goes on from the start"),
        ({"iterations": []}, "`iterations` must be a non-empty array"),
        ({"iterations": [2, 1]}, "increasing list"),
        ({"iterations": [-1, 1]}, "increasing list"),
        ({"power": 1}, "`power` must be a number of at least 2"),
        ({"dtype": "float16"}, "`dtype` must be one of 'float32', 'float64'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    arguments = {"features": X, "targets": Y, "factors": start_of(4, 1), "optimizer": "sgd"}
    arguments |= {"learning_rates": RATES, "iterations": [1]}
    with pytest.raises(ValueError, match=message):
        sweep_linear_networks(**(arguments | changes))


def test_double_precision_is_double_or_refused():
    factors = start_of(4, 1)
    double = keras.ops.zeros(1, "float64").dtype
    if keras.backend.standardize_dtype(double) != "float64":  # JAX without jax_enable_x64
        with pytest.raises(ValueError, match="without float64"):
            sweep_linear_networks(X, Y, factors, "adam", RATES, [1], dtype="float64")
        return
    result = sweep_linear_networks(X, Y, factors, "sgd", RATES, [200], dtype="float64")
    losses, ends = descend(X, Y, [factors[0][2]], RATES[2], 200, 2)
    np.testing.assert_allclose(result.losses[-1, 2], losses[-1], rtol=1e-12)
    np.testing.assert_allclose(result.factors[0][2], ends[0], rtol=1e-12)
