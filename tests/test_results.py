"""Numbers drawn from records: smoothing, final values, steps to a target, verdicts."""

import dataclasses
import gzip
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import criteria
from experiments.mnist import claims, figures, results
from experiments.mnist.settings import Settings
from running import records


def verdict(summary, original):
    steps = summary["steps_to_originals_objective"]["values"]
    return criteria.MNIST_CNN["acceleration"].verdict(steps, original)


def result_of(values, seed=0, depth=1):
    values = np.asarray(values, "float64")
    return results.Result(
        Settings(seed=seed, depth=depth),
        {"parameters": 5},
        [{"milliseconds_per_step": 80.0}],
        {"status": "finished", "test_error_percent": 1.0},
        {"objective": values, "cross_entropy": values / 4, "l2": values * 3 / 4},
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=350))
def test_smoothing_is_the_mean_of_the_last_steps(values):
    smoothed = result_of(values).smoothed("objective")
    expected = [np.mean(values[max(0, t - results.WINDOW + 1) : t + 1]) for t in range(len(values))]
    np.testing.assert_allclose(smoothed, expected, atol=1e-9)


def test_steps_to_a_target():
    result = result_of(np.linspace(1000, 1, 1000))
    target = result.smoothed("objective")[499]
    assert result.steps_to("objective", target) == 500
    assert result.steps_to("objective", 0.0) is None
    assert result.steps_to("objective", result.final("objective")) == 1000
    short = result_of([3.0, 2.0, 1.0])
    assert short.steps_to("objective", short.final("objective")) == 3


def test_a_dip_within_the_first_window_does_not_count():
    result = result_of([0.0] * 10 + [5.0] * 490)
    assert result.steps_to("objective", 1.0) is None


@pytest.mark.parametrize(
    ("factor", "expected"), [(20, "reproduced"), (2, "partly"), (0.5, "not reproduced")]
)
def test_verdict_follows_the_criterion(factor, expected):
    steps = np.arange(4000)
    originals = [result_of(np.exp(-steps / 2000), seed) for seed in (0, 1)]
    faster = [result_of(np.exp(-steps * factor / 2000), seed, 2) for seed in (0, 1)]
    _, summary = results.compare(originals, faster)
    assert verdict(summary, 4000) == expected


def test_summary_and_table():
    originals = [result_of([2.0, 1.0], 0), result_of([4.0, 3.0], 1)]
    summary = results.summarize(originals, originals)
    assert summary["objective"]["values"] == [1.5, 3.5]
    assert summary["objective"]["mean"] == 2.5
    assert summary["objective"]["standard_deviation"] == pytest.approx(math.sqrt(2))
    table = claims.table([summary])
    assert "| Objective, last 2 steps | 2.5 ± 1.414 |" in table
    assert "| Parameters | 5 |" in table


def test_a_target_never_reached_is_said_so():
    originals, others = [result_of([1.0] * 200)], [result_of([2.0] * 200, depth=2)]
    summaries = results.compare(originals, others)
    assert summaries[1]["steps_to_originals_objective"]["mean"] is None
    assert "never (by seed)" in claims.table(summaries)
    assert verdict(summaries[1], 200) == "not reproduced"


def test_tuned_networks_are_compared_at_their_own_best_rates(tmp_path):
    def group(depth, objectives):
        return [
            dataclasses.replace(
                result_of([objective] * 200, seed, depth),
                settings=Settings(depth=depth, seed=seed, learning_rate=rate),
            )
            for rate, objective in objectives.items()
            for seed in ((0, 1) if objective == min(objectives.values()) else (0,))
        ]

    groups = [
        group(1, {0.01: 3.0, 0.02: 2.0, 0.04: math.nan}),
        group(2, {0.005: 2.5, 0.01: 1.5, 0.02: 9.0}),
    ]
    original, overparameterized = results.summarize_tuned(groups)
    assert (original["learning_rate"], overparameterized["learning_rate"]) == (0.02, 0.01)
    assert original["objective"]["values"] == [2.0, 2.0]
    assert overparameterized["steps_to_originals_objective"]["values"] == [100, 100]
    assert "| Learning rate | 0.02 | 0.01 |" in claims.table([original, overparameterized])
    diverged = [group(1, {0.01: math.nan, 0.02: math.nan})]
    for some in (groups, diverged):
        figures.draw_rates(some, tmp_path / "rates.svg")
        assert "learning rate" in (tmp_path / "rates.svg").read_text()


def test_a_compressed_record_is_read_like_a_plain_one(tmp_path):
    record = records.Record(tmp_path)
    record.append("start", settings={"seed": 1})
    packed = tmp_path / "record.jsonl.gz"
    packed.write_bytes(gzip.compress(record.path.read_bytes()))
    assert records.Record.at(packed).lines() == record.lines()


@given(st.lists(st.floats(1e-30, 1e30), max_size=20))
def test_rounding_keeps_six_digits(values):
    np.testing.assert_allclose(records.rounded(values), values, rtol=1e-5)


def test_json_has_no_word_for_not_a_number():
    text = records.to_json({"a": [float("nan"), 1.0, (float("inf"),)]})
    assert text == '{"a": [null, 1.0, [null]]}'


def test_results_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        result_of([1.0]).start = {}
