"""What becomes of the probe's records, and that every problem is what it says."""

import functools
import gzip
import json

import numpy as np
import pytest
from scipy.stats import beta

import probe as script
from experiments.probe import results as probe_results
from experiments.probe import runs
from experiments.probe.problems import PROBLEMS
from experiments.probe.runs import LOSSES
from publishing import assets

EMBEDDED = ("diabetes", "digits", "Linnerud", "iris", "wine", "breast cancer")


def outcome(depth, expected, full):
    """An outcome with the same speed-up from both starts."""
    reasons = {"plateau": 0.5, "alignment": 0.9, "conditioning": 2.0, "growth": 3.0}
    return {
        "advice": {"depth": depth, "expected": expected, "reasons": reasons, "inside": True},
        "full": {
            "speed_ups": {n: [v / 2, v * 2] for n, v in full.items()},
            "inside": False,
            "starts": {1: [0.01, 0.03]},
        },
    }


GOOD = outcome(2, {"2": [2.0, 1.5, 2.5], "3": [1.0, 0.5, 1.1]}, {"2": 2.0, "3": 1.2})
BAD = outcome(1, {"2": [1.0, 0.9, 1.1], "3": [1.0, 0.5, 1.5]}, {"2": 1.3, "3": 0.7})
NEAR = outcome(1, {"2": [1.0, 0.9, 1.2], "3": [1.0, 0.5, 1.5]}, {"2": 1.1, "3": 0.7})


def test_an_advice_holds_within_ten_percent_of_the_best():
    held = [probe_results.holds(o["advice"]["depth"], o) for o in (GOOD, BAD, NEAR)]
    assert held == [True, False, True]
    assert probe_results.within(GOOD) == {2: True, 3: False}
    assert not probe_results.holds(3, BAD)


def test_a_rate_has_the_exact_binomial_interval():
    low, high = beta.ppf(0.025, 3, 2), beta.ppf(0.975, 4, 1)
    assert probe_results.rate([True, True, False, True]) == f"3 of 4, 75% ({low:.0%}–{high:.0%})"


def test_the_table_counts_only_problems_that_the_probe_was_not_tuned_on():
    found = {"Ethanol, l4": GOOD, "wine, l4": BAD, "iris, l4": NEAR}
    table = probe_results.table(found)
    assert "| the probe's advice | 1 of 2, 50%" in table
    assert "| depth 2 always | 2 of 2, 100%" in table
    lines = table.splitlines()
    assert "Ethanol, l4 (tuned on)" in lines[-1]
    assert "2.00 (1.50–2.50) → 2.00 |" in lines[-1]
    assert "1.00 (0.50–1.10) → 1.20 **out**" in lines[-1]
    assert lines[-1].endswith("| 0.5 | 0.9 | 0.02 | at the edge |")
    assert "**no**" in next(line for line in lines if line.startswith("| wine"))


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name.startswith(EMBEDDED)])
def test_problems_of_scikit_learn(name):
    problem = PROBLEMS[name]
    features, targets = problem.load(None, None)
    assert len(features) == len(targets) >= 20
    if problem.loss == "cross-entropy":
        np.testing.assert_array_equal(features[:, -1], 1)
        assert set(targets) == set(range(targets.max() + 1))
    else:
        np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-9)
    assert problem.loss in LOSSES


def test_a_problem_is_probed_run_in_full_and_not_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    monkeypatch.setattr(runs, "DIRECTIONS", 1)
    monkeypatch.setattr(runs, "DEPTHS", (2,))
    monkeypatch.setattr(runs, "probe", functools.partial(runs.probe, replicates=2))
    arguments = ["--problems", "Linnerud, l2", "--horizon", "80", "--output", str(tmp_path)]
    script.main([*arguments, "--publish"])
    (path,) = (tmp_path / "assets" / "probe").iterdir()
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [line["kind"] for line in lines] == ["start", "outcome"]
    assert lines[0]["settings"] == {"problem": "Linnerud, l2", "horizon": 80, "iterations": 8}
    assert lines[1]["advice"]["horizon"] == 80
    assert set(lines[1]["full"]["speed_ups"]) == {"2"}
    table = probe_results.table(probe_results.load_all(path.parent))
    assert table in capsys.readouterr().out
    assert (tmp_path / "probe.png").stat().st_size > 10_000
    monkeypatch.setattr(runs, "probe", None)  # what is on record is not run again
    script.main(arguments)
    assert table in capsys.readouterr().out
