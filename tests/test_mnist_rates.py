"""Tuning the learning rate: fair, bounded, and best inside the grid."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnist_rates
from experiments.mnist import results, tuning
from experiments.mnist.settings import Settings


@given(st.floats(-7, 5), st.floats(0.1, 3))
def test_the_best_rate_is_inside_the_grid_and_near_the_true_one(log_best, curvature):
    grid = tuning.tune(lambda rate: curvature * (math.log2(rate / 0.01) - log_best) ** 2, 0.01)
    best = results.best_rate(grid)
    assert min(grid) < best < max(grid)
    assert abs(math.log2(best / 0.01) - log_best) <= 0.5 + 1e-9
    steps = np.diff(np.log2(sorted(grid)))
    np.testing.assert_allclose(steps, 1.0)


def test_rates_that_diverge_are_worse_than_any_other():
    tried = []

    def final(rate):
        tried.append(rate)
        return math.nan if rate > 0.003 else 1 / rate

    grid = tuning.tune(final, 0.01)
    assert results.best_rate(grid) == 0.0025
    assert min(grid) == 0.00125
    assert len(tried) == len(set(tried)) == len(grid)


@pytest.mark.parametrize("slope", [-1, 1, 0])
def test_the_search_ends_where_there_is_no_best_rate(slope):
    assert len(tuning.tune(lambda rate: slope * rate, 0.01)) <= tuning.MOST_VALUES


def test_each_network_gets_its_grid_at_the_first_seed_and_its_best_rate_at_all():
    ran = []

    def fake(settings):
        ran.append((settings.learning_rate, settings.seed))
        objective = np.full(5, abs(math.log(settings.learning_rate / 0.02)))
        curves = {name: objective for name in results.METRICS}
        return results.Result(settings, {}, [], {}, curves)

    group = tuning.tuned(Settings(), SimpleNamespace(seeds=[3, 4, 5]), fake)
    assert ran == [(0.01, 3), (0.02, 3), (0.04, 3), (0.02, 4), (0.02, 5)]
    assert list(results.rate_grid(group)) == [0.01, 0.02, 0.04]
    assert [r.settings.seed for r in results.at_best_rate(group)] == [3, 4, 5]


def test_the_command_on_embedded_digits(tmp_path, capsys):
    arguments = ["--models", "original", "--dataset", "digits", "--epochs", "1"]
    mnist_rates.main([*arguments, "--output", str(tmp_path)])
    out = capsys.readouterr()
    assert (tmp_path / "rates.png").stat().st_size > 10_000
    assert "| Learning rate |" in out.out
    assert "NOT MNIST" in out.err
    assert len(list(tmp_path.glob("digits-original-*"))) >= 3
