"""What the README, the site and assets/ say is what the records say."""

import json

import pytest

import criteria
from experiments.mnist import other_results as network_results
from experiments.mnist import other_settings as networks
from experiments.mnist import results
from publishing import assets, benchmark_tables, ledger_tables
from running import records

TEXTS, _ = assets.rendered()
ASSETS = assets.ROOT / "assets"
MNIST = assets.room("mnist")
GROUPS, RATE_GROUPS = MNIST.groups(criteria.EPOCHS), MNIST.groups(criteria.TUNING_EPOCHS)
RESULTS = [result for group in GROUPS + RATE_GROUPS for result in group]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_everything_is_generated_from_the_records(path):
    assert path.read_text(encoding="utf-8") == TEXTS[path]


def test_at_least_three_seeds_of_ten_epochs_on_real_mnist():
    for group in GROUPS:
        assert len({result.settings.seed for result in group}) >= 3
        for result in group:
            assert result.settings.learning_rate == 0.01
            assert result.outcome["status"] == "finished"
            assert len(result.curves["objective"]) == 8593
    for result in RESULTS:
        assert result.start["data"]["notice"] is None
        assert result.start["data"]["order"] == "file"


def test_the_best_learning_rates_are_inside_their_grids_and_have_all_seeds():
    for group in RATE_GROUPS:
        grid = results.rate_grid(group)
        assert min(grid) < results.best_rate(grid) < max(grid)
        assert len({result.settings.seed for result in results.at_best_rate(group)}) >= 3


def test_other_networks_are_at_their_best_inside_both_grids_and_have_all_seeds():
    found = network_results.by_model(MNIST.others.results)
    assert len(found) >= 3
    for models in found.values():
        assert set(models) == set(networks.MODEL_NAMES)
        for group in models.values():
            best = network_results.at_best(group)
            assert len({result.settings.seed for result in best}) >= 3
            chosen = best[0].settings.learning_rate, best[0].settings.start_scale
            for axis, value in enumerate(chosen):
                tried = network_results.grid(group, axis)
                assert min(tried) < value < max(tried)
            assert {result.start["data"]["name"] for result in group} == {"mnist"}


def test_collapsing_a_trained_network_kept_its_outputs():
    for result in RESULTS:
        outcome = result.outcome
        assert outcome["collapsed_parameters"] == 1_663_370
        if outcome["status"] == "finished":
            assert outcome["collapsed_largest_difference"] <= 1e-4 * outcome["largest_logit"]


def test_nothing_else_is_in_the_folder_of_generated_parts():
    folder = assets.ROOT / "docs" / "generated"
    assert {path for path in TEXTS if path.parent == folder} == set(folder.iterdir())


def test_the_readmes_claims_are_of_the_ledger():
    rows = json.loads(TEXTS[ASSETS / "claims.json"])
    lines = ledger_tables.headlines(rows).splitlines()
    claims = [line.split(" | ")[0].removeprefix("| ") for line in lines[2:-2]]
    assert claims == list(ledger_tables.HEADLINES) and len(claims) <= 8
    for claim, line in zip(claims, lines[2:], strict=False):
        (row,) = [row for row in rows if row["claim"] == claim]
        assert row["measured"] in line and line.endswith(f"| **{row['verdict']}** |")


def test_a_missing_part_is_said():
    with pytest.raises(ValueError, match="must hold the generated part 'x' once, found 0"):
        assets.fill("nothing", "x", "content")


def test_the_tolerance_for_an_error_is_the_largest_that_keeps_it_throughout():
    rows = [
        {"tolerance": tolerance, "kept": {"largest": largest}}
        for tolerance, largest in [(0.1, 1e-5), (0.1, 1e-2), (0.01, 1e-5), (0.01, 1e-4)]
    ]
    assert "At a tolerance of 0.01 it stays below 0.001" in benchmark_tables._tolerance_for(
        1e-3, rows
    )
    assert "needs a tolerance below 0.01." in benchmark_tables._tolerance_for(1e-6, rows)


def test_a_target_is_judged_by_the_row_that_keeps_it_least(tmp_path):
    rows = [
        {"what": f"ratio, case {case}", "median": median, "quartiles": [0.9, 1.2]}
        for case, median in (("a", 1.0), ("b", 1.1))
    ]
    records.write_json(tmp_path / "benchmark_some.json", {"rows": rows})
    most = benchmark_tables.Target("it", "some", "ratio, .*", 1.05)
    assert most.measured(tmp_path)["what"] == "ratio, case b"
    assert not most.met(most.measured(tmp_path))
    least = benchmark_tables.Target("it", "some", "ratio, .*", 1.0, at_least=True)
    assert least.measured(tmp_path)["what"] == "ratio, case a"
    assert least.met(least.measured(tmp_path))
    with pytest.raises(ValueError, match="no row like 'speed'"):
        benchmark_tables.Target("it", "some", "speed", 1.0).measured(tmp_path)
