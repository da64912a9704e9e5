"""Experiments on linear regression: settings, runs, tuning, speed-ups, the ledger, the scripts."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

import all as all_experiments
import claims as claims_script
import criteria
import gas_sensor as script
from experiments.consequences import claims as consequences_claims
from experiments.consequences import runs as consequences
from experiments.gas_sensor import claims, figures
from experiments.gas_sensor import figures as sweep_figures
from experiments.gas_sensor import models as sweep_experiments
from experiments.gas_sensor import results as sweep_results
from experiments.gas_sensor import runs as sweep_runs
from experiments.gas_sensor.results import Result, speed_up, speed_up_to_target
from experiments.gas_sensor.settings import FIRST_RATES, Settings
from publishing import assets
from running import records

LEDGER = assets.ledger()
SWEEPS = assets.room("gas_sensor").sweeps


def small_data(rows=40, inputs=3):
    random = np.random.default_rng(0)
    features = random.normal(size=(rows, inputs))
    target = features @ np.arange(1.0, inputs + 1) + 0.1 * random.normal(size=rows)
    text = {"name": "small", "source": "random", "digest": "0", "notice": None}
    return SimpleNamespace(features=features, target=target, **text)


def small(**changes):
    return Settings(**{"iterations": 60, "seeds": (0, 1), "dataset": "small"} | changes)


def result(curves, rates=(0.1,), seeds=2, iterations=(0, 1, 10, 100)):
    losses = np.broadcast_to(np.array(curves, float)[:, None], (len(rates), seeds, len(iterations)))
    settings = small(iterations=iterations[-1])
    return Result(None, settings, {}, np.array(rates), np.array(iterations), losses, True)


def test_a_run_finds_the_best_rate_inside_its_grid_and_is_not_repeated(tmp_path):
    # Rates that start far too low: the grid must be extended upwards.
    settings, data = small(power=2), small_data()
    low = range(-60, -60 + FIRST_RATES)
    object.__setattr__(settings, "first_rates", lambda: list(low))
    record = sweep_runs.run(settings, data, tmp_path)
    found = sweep_results.load(tmp_path)
    assert len(record.of_kind("rates")) > 1
    assert found.inside
    assert found.rates[0] < found.rates[found.best] < found.rates[-1]
    assert np.all(np.diff(found.rates) > 0)
    before = record.path.read_bytes()
    sweep_runs.run(settings, data, tmp_path)
    assert record.path.read_bytes() == before
    assert not list(tmp_path.glob("*.npz"))


def test_a_run_is_what_gradient_descent_does(tmp_path):
    settings, data = small(depth=2, iterations=20), small_data()
    sweep_runs.run(settings, data, tmp_path)
    found = sweep_results.load(tmp_path)
    first, last = (a[1] for a in sweep_runs.starting_factors(settings, 3))
    rate = found.rates[found.best]
    for _ in range(20):
        residuals = data.features @ (first @ last) - data.target[:, None]
        slope = data.features.T @ residuals**3 / len(residuals)
        first, last = first - rate * slope @ last.T, last - rate * first.T @ slope
    loss = np.mean((data.features @ (first @ last) - data.target[:, None]) ** 4) / 4
    assert found.curves[1, -1] == pytest.approx(loss, rel=2e-4)


def test_a_run_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    settings, data = small(power=2), small_data()
    whole = sweep_runs.run(settings, data, tmp_path / "whole")
    train_part, parts = sweep_runs.train_part, []

    def interrupted(*arguments):
        parts.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_runs, "train_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep_runs.run(settings, data, tmp_path / "cut")
    monkeypatch.setattr(sweep_runs, "train_part", train_part)
    cut = sweep_runs.run(settings, data, tmp_path / "cut")
    rates = [[line["losses"] for line in record.of_kind("rates")] for record in (whole, cut)]
    assert rates[0] == rates[1]


def test_a_figure_of_nothing_but_divergence(tmp_path):
    found = [result([[math.inf] * 4]), result([[1.0, *[math.inf] * 3]])]
    sweep_figures.draw("adam", found, tmp_path / "adam.svg")
    assert "final loss" in (tmp_path / "adam.svg").read_text()


def test_an_unfinished_record_is_not_a_result(tmp_path):
    with pytest.raises(ValueError, match="holds no finished run; run its command again"):
        sweep_results.load(tmp_path)


def test_settings_that_differ_have_other_names_and_depth_one_has_no_start():
    base = small()
    changes = [{"power": 2}, {"depth": 2}, {"optimizer": "adam"}, {"scale": 1}, {"seeds": (3,)}]
    names = {dataclasses.replace(base, **change).run_name for change in [{}, *changes]}
    assert len(names) == 6
    assert small(start="identity", width=7) == base


@pytest.mark.parametrize("start", ["balanced", "independent", "identity", "near_zero"])
def test_starts_have_the_stated_scale(start):
    settings = small(depth=3, start=start, scale=0.2, width=2, seeds=tuple(range(300)))
    factors = sweep_runs.starting_factors(settings, 4)
    products = np.linalg.norm(factors[0] @ factors[1] @ factors[2], axis=(1, 2))
    if start == "near_zero":
        for factor in factors:
            assert np.std(factor) == pytest.approx(0.2, rel=0.1)
    elif start == "independent":
        assert np.sqrt(np.mean(products**2)) == pytest.approx(0.2, rel=0.3)
    else:
        np.testing.assert_allclose(products, 0.2)


def test_speed_ups():
    base = result([[8, 4, 2, 1]])
    fast = result([[8, 2, 1, 0.5]])
    np.testing.assert_allclose(speed_up(fast, base), 10)
    np.testing.assert_allclose(speed_up(base, fast), 0.1)
    np.testing.assert_allclose(speed_up(base, base), 1)
    assert speed_up_to_target(fast, base) == pytest.approx(10)
    assert speed_up_to_target(base, fast) == 0
    np.testing.assert_allclose(speed_up(result([[8, 9, np.inf, np.inf]]), base), 0)


def test_a_rate_at_which_a_seed_diverges_is_not_the_best():
    found = result([[8, 4, 2, 1], [8, 1, 0.1, 0.01]], rates=(0.1, 0.2), seeds=3)
    losses = found.losses.copy()
    losses[1, 2, -1] = np.inf
    assert dataclasses.replace(found, losses=losses).best == 0
    assert found.best == 1


@pytest.mark.parametrize("experiment", sweep_experiments.WHAT)
def test_experiments_are_published_with_five_seeds_and_the_best_rate_inside(experiment):
    for settings in sweep_experiments.models(experiment, Settings()):
        found = SWEEPS[settings]
        assert len(settings.seeds) >= 5
        assert len(found.rates) >= 30
        assert found.start["data"]["notice"] is None
        assert found.inside, settings
        assert found.rates[0] < found.rates[found.best] < found.rates[-1]


def test_the_published_ledger_is_that_of_the_records():
    text = (assets.ROOT / "assets" / "claims.json").read_text(encoding="utf-8")
    assert json.loads(text) == json.loads(records.to_json(LEDGER))


def test_every_claim_has_a_criterion_a_measurement_and_a_verdict():
    assert len(LEDGER) >= 20
    for row in LEDGER:
        assert row["criterion"] and any(c.isdigit() for c in row["measured"])
        assert row["verdict"] in criteria.VERDICTS
    stated = [row["criterion"] for row in LEDGER]
    given = (criteria.GAS_SENSOR, criteria.CONSEQUENCES, criteria.END_TO_END_RULE)
    given = {**given[0], **given[1], **given[2], **criteria.OTHER_NETWORKS, **criteria.MNIST_CNN}
    assert {criterion.text for criterion in given.values()} == set(stated)


def test_verdicts_follow_the_records():
    base, sweeps = result([[8, 4, 2, 1]]), {}
    for faster, verdict in ((3.0, criteria.REPRODUCED), (1.0, criteria.NOT)):
        better = result([[8, 4 / faster, 2 / faster, 1 / faster]])
        for settings in sweep_experiments.models("start", Settings()):
            sweeps[settings] = better if settings.depth > 1 else base
        assert claims.acceleration(sweeps)["verdict"] == verdict
        sweeps[Settings(optimizer="adagrad")] = base
        assert claims.beats(sweeps, "AdaGrad", ("adagrad",))["verdict"] == verdict
    wrong = [{"depth": d, "integral": 2.0, "closed_form": 1.0} for d in (1, 3, 4)]
    assert consequences_claims.no_regularizer(wrong)["verdict"] == criteria.NOT


def test_the_script_runs_redraws_and_says_when_there_is_nothing_to_redraw(tmp_path, capsys):
    output = ["--dataset", "diabetes", "--output", str(tmp_path), "--seeds", "0", "1"]
    short = [*output, "--iterations", "4", "--experiments", "l2"]
    with pytest.raises(SystemExit, match="holds no finished runs"):
        script.main([*short, "--plot-only"])
    script.main(short)
    assert "loss" in capsys.readouterr().out
    figure = tmp_path / "gas_sensor_l2.png"
    assert figure.stat().st_size > 10_000
    figure.unlink()
    script.main([*short, "--plot-only"])
    assert figure.exists()
    summary = json.loads((tmp_path / "gas_sensor_l2.json").read_text())
    assert len(summary) == 6
    with pytest.raises(SystemExit, match="wants the gas sensor data"):
        script.main([*short, "--plot-only", "--publish"])


def test_redrawing_finds_the_published_records_of_every_experiment(monkeypatch):
    drawn, written = {}, []
    monkeypatch.setattr(figures, "draw", lambda experiment, *rest: drawn.update({experiment: rest}))
    monkeypatch.setattr(assets, "write", lambda texts: written.extend(texts))
    script.main(["--redraw"])
    assert list(drawn) == list(sweep_experiments.WHAT)
    for (results, path), summary in zip(drawn.values(), written, strict=True):
        assert results
        assert path.parent == assets.ROOT / "assets"
        assert summary == path.with_suffix(".json")


def test_consequences_on_small_data(tmp_path):
    data = small_data()
    found = consequences.measure(data, [0])
    assert found["memory"]["error"][0] < 0.05
    loops = {one["depth"]: one["integral"] for one in found["loops"]["integrals"]}
    assert abs(loops[1]) < 1e-9 * abs(loops[3])


def test_one_command_runs_everything_with_the_same_options(monkeypatch):
    calls = {}
    for module in (all_experiments.gas_sensor, all_experiments.consequences):
        name = module.__name__
        monkeypatch.setattr(module, "main", lambda a, name=name: calls.update({name: a}))
    for name in ("end_to_end_rule", "claims"):
        module = getattr(all_experiments, name)
        monkeypatch.setattr(module, "main", lambda a, name=name: calls.update({name: a}))
    all_experiments.main(["--dataset", "diabetes", "--output", "there", "--iterations", "7"])
    for name in ("gas_sensor", "consequences", "end_to_end_rule"):
        arguments = " ".join(calls[name])
        assert "--dataset diabetes" in arguments
        assert f"--output there/{name}" in arguments
        assert "--publish" not in arguments
    assert "--experiments all" in " ".join(calls["gas_sensor"])
    assert calls["claims"] == []


def test_the_ledger_is_printed(capsys):
    claims_script.main([])
    printed = capsys.readouterr().out
    for row in LEDGER:
        assert row["claim"] in printed
        assert row["measured"] in printed
