"""Other networks: the same function at the start, tuned fairly, compared without bias."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import other_networks
from experiments.mnist import other_results as network_results
from experiments.mnist import other_settings as networks
from experiments.mnist import results, tuning, tutorial_cnn
from experiments.mnist.other_settings import Settings

IMAGES = np.random.default_rng(0).integers(0, 256, size=(8, 28, 28, 1), dtype=np.uint8)


@pytest.mark.parametrize("network", networks.TITLES)
def test_all_models_of_a_network_begin_as_the_same_function(network):
    built = {
        factored: Settings(network=network, factored=factored, seed=3).build_network((28, 28, 1))
        for factored in networks.MODEL_NAMES
    }
    expected = tutorial_cnn.logits(built["none"], IMAGES)
    counts = {factored: model.count_params() for factored, model in built.items()}
    assert counts["none"] < counts["dense"] < counts["all"]
    for model in built.values():
        np.testing.assert_allclose(tutorial_cnn.logits(model, IMAGES), expected, atol=1e-5)
    other = Settings(network=network, seed=4).build_network((28, 28, 1))
    assert np.abs(tutorial_cnn.logits(other, IMAGES) - expected).max() > 1e-3


def test_the_scale_multiplies_every_kernel():
    networks_of = [Settings(start_scale=scale).build_network((28, 28, 1)) for scale in (1.0, 2.0)]
    for one, two in zip(*(network.trainable_weights for network in networks_of), strict=True):
        np.testing.assert_allclose(2 * np.asarray(one), np.asarray(two), rtol=1e-6)


def test_any_shape_of_images_and_the_sizes_of_the_original_papers():
    assert Settings(network="lenet5").build_network((28, 28, 1)).count_params() == 61_706
    assert Settings(network="keras_example").build_network((28, 28, 1)).count_params() == 34_826
    assert Settings(network="resnet8").build_network((32, 32, 3)).output_shape == (None, 10)


def test_depth_is_forgotten_where_nothing_is_factored():
    assert Settings(depth=3) == Settings(depth=2)
    assert Settings(factored="all", depth=3).run_name != Settings(factored="all").run_name


@settings(deadline=None)
@given(st.floats(-4, 4), st.floats(-3, 3), st.floats(-0.5, 0.5))
def test_rate_and_scale_are_best_inside_both_grids(rate, scale, slant):
    def final(tried_rate, tried_scale):
        x, y = math.log2(tried_rate) - rate, math.log2(tried_scale) - scale
        return x**2 + y**2 + slant * x * y

    best = tuning.tune_with_scale(final, 1.0)
    for neighbour in (0.5, 2.0):
        assert final(*best) <= final(best[0] * neighbour, best[1])
        assert final(*best) <= final(best[0], best[1] * neighbour)


def fake(settings, objective):
    objective = np.asarray(objective, "float64")
    outcome = {"test_error_percent": 1.0, "status": "finished"}
    start = {"parameters": 10}
    return results.Result(settings, start, [], outcome, dict.fromkeys(results.METRICS, objective))


def falling(speed, steps=1000):
    return np.exp(-speed * np.arange(steps) / steps)


def test_the_speed_up_is_that_of_the_curves_and_a_model_is_as_fast_as_itself():
    original, fast = ([fake(Settings(), falling(speed))] for speed in (1.0, 2.0))
    assert network_results.speed_up(original, original) == [1.0]
    # The first mean over 100 steps that is as low comes a little after half the steps.
    assert network_results.speed_up(fast, original)[0] == pytest.approx(1000 / 525, rel=0.02)
    assert network_results.speed_up(original, fast)[0] == pytest.approx(525 / 1000, rel=0.02)


def test_noise_does_not_make_a_model_faster_than_itself():
    noise = 0.2 * np.random.default_rng(0).standard_normal(1000)
    noisy = [fake(Settings(), falling(1.0) + noise)]
    assert network_results.speed_up(noisy, noisy) == [1.0]


def all_runs(speeds):
    """Runs of a network by what is factored: a grid at seed 0, the best at seeds 1 and 2."""
    found = []
    for factored, speed in speeds.items():
        for rate, scale, seed in [
            *((rate, 1.0, 0) for rate in (0.01, 0.02, 0.04)),
            *((0.02, scale, 0) for scale in (0.5, 2.0)),
            *((0.02, 1.0, seed) for seed in (1, 2)),
        ]:
            off = abs(math.log2(rate / 0.02)) + abs(math.log2(scale))
            settings = Settings(
                "lenet5", factored, learning_rate=rate, start_scale=scale, seed=seed
            )
            found.append(fake(settings, falling(speed / (1 + off))))
    return found


@pytest.mark.parametrize(
    ("dense", "verdicts"),
    [
        (1.0, ["not reproduced", "reproduced"]),
        (1.3, ["reproduced", "reproduced"]),
        (2.0, ["reproduced", "partly"]),
        (5.0, ["reproduced", "not reproduced"]),
    ],
)
def test_verdicts_follow_the_criteria(dense, verdicts):
    rows = network_results.summary(all_runs({"none": 1.0, "dense": dense, "all": 1.0}))
    assert [row["factored"] for row in rows] == ["none", "dense", "all"]
    assert all(row["learning_rate"] == 0.02 and row["seeds"] == [0, 1, 2] for row in rows)
    found = network_results.verdicts(rows, tutorials=np.array([2.9, 3.0, 3.1]))
    assert [row["verdict"] for row in found] == verdicts
    assert "LeNet-5" in found[0]["measured"]
    assert network_results.table(rows).count("\n") == 4


def test_the_command_on_embedded_digits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning, "MOST_VALUES", 1)
    arguments = ["--networks", "lenet5", "--dataset", "digits", "--epochs", "1", "--seeds", "0"]
    other_networks.main([*arguments, "--output", str(tmp_path)])
    out = capsys.readouterr()
    assert (tmp_path / "networks.png").stat().st_size > 10_000
    assert "| LeNet-5 | convolutions factored too |" in out.out
    assert "NOT MNIST" in out.err
    with pytest.raises(SystemExit, match="--publish wants MNIST"):
        other_networks.main([*arguments, "--output", str(tmp_path), "--publish"])
