"""Linear networks beside the end-to-end rule: mathematics, command line, published results."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import criteria
import end_to_end_rule
from experiments import starts
from experiments.end_to_end_rule import claims as rule_verdicts
from experiments.end_to_end_rule import figures, job
from experiments.end_to_end_rule import networks as linear_networks
from experiments.end_to_end_rule import results as rule_results
from experiments.end_to_end_rule import runs as rule_runs
from experiments.end_to_end_rule.settings import Settings
from keras_overparam import balancedness_gap, chain_product
from publishing import assets
from running import records

SMALL = linear_networks.random_matrix_problem(rows=30, inputs=5, outputs=3)
QUICK = ["--dataset", "diabetes", "--depths", "3", "--iterations", "20", "--seeds", "0", "1"]


def settings(**changes):
    given = {"problem": "matrix", "depth": 2, "widths": (3, 6), "learning_rate": 0.01}
    given |= {"iterations": 200, "dataset": "random", "seeds": (0, 1), **changes}
    return Settings(**given)


def difference(**changes):
    """Largest relative difference of the kernels of networks and rule on the small problem."""
    return np.max(rule_runs.follow(SMALL, settings(**changes))["difference"])


def problem_of_power(power):
    random = np.random.default_rng(1)
    return linear_networks.Problem(random.normal(size=(7, 4)), random.normal(size=(7, 2)), power)


@pytest.mark.parametrize("power", [2, 4])
def test_the_gradient_is_the_derivative_of_the_loss(power):
    problem = problem_of_power(power)
    kernels = tf.constant(np.random.default_rng(2).normal(size=(3, 2, 4, 2)))
    with tf.GradientTape() as tape:
        tape.watch(kernels)
        residuals = problem.features @ kernels - problem.targets
        losses = tf.reduce_sum(residuals**power, axis=(-2, -1)) / (power * 7)
    np.testing.assert_allclose(problem.loss(kernels), losses, rtol=1e-12)
    expected = tape.gradient(losses, kernels)
    np.testing.assert_allclose(problem.gradient(kernels), expected, rtol=1e-10)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gradients_in_the_factors_are_those_of_automatic_differentiation(depth):
    random = np.random.default_rng(0)
    shapes = [(2, 4, 3), *[(2, 3, 3)] * (depth - 2), (2, 3, 5)] if depth > 1 else [(2, 4, 5)]
    factors = [tf.constant(random.normal(size=shape)) for shape in shapes]
    gradient = tf.constant(random.normal(size=(2, 4, 5)))
    with tf.GradientTape() as tape:
        tape.watch(factors)
        value = tf.reduce_sum(chain_product(factors) * gradient)
    found = linear_networks.factor_gradients(factors, gradient)
    for one, expected in zip(found, tape.gradient(value, factors), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-10)


@pytest.mark.parametrize("depth", [2, 3])
def test_one_step_differs_at_second_order_of_the_rate(depth):
    steps = [
        difference(depth=depth, iterations=1, learning_rate=rate, start_norm=1.0)
        for rate in (0.01, 0.005)
    ]
    assert steps[0] / steps[1] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_fixed_time_differs_at_first_order_of_the_rate(depth):
    base, halved = (difference(depth=depth, start_norm=0.5, halvings=h) for h in (0, 1))
    assert 0 < base < 0.05
    assert base / halved == pytest.approx(2, rel=0.05)


def test_halving_keeps_the_recorded_times():
    base, halved = settings(), settings(halvings=1)
    assert base.recorded_iterations[0] == 0
    assert base.recorded_iterations[-1] == base.iterations
    times = [s.step_size * np.array(s.recorded_iterations) for s in (base, halved)]
    np.testing.assert_allclose(*times)
    assert base.run_name != halved.run_name


@pytest.mark.parametrize("depth", [2, 3])
def test_from_a_balanced_start_the_width_is_irrelevant(depth):
    outcome = rule_runs.follow(SMALL, settings(depth=depth, widths=(3, 5, 20)))
    assert np.shape(outcome["loss"]) == (3, 2, len(outcome["iterations"]))
    assert np.shape(outcome["rule_loss"])[0] == 1
    assert np.max(outcome["width_difference"]) < 1e-12


def test_at_depth_one_the_rule_is_gradient_descent():
    assert difference(depth=1) < 1e-13


def test_a_balanced_start_is_balanced_and_its_kernel_independent_of_depth_and_width():
    kernels, rounding = [], 32 * np.finfo("float64").eps  # of sums of eight products at most
    for depth, width in ((2, 3), (2, 8), (3, 5)):
        factors = starts.balanced_start((5, 3), depth, width, 0.01, [0, 1])
        assert np.max(balancedness_gap(factors)) < rounding * 0.01 ** (2 / depth)
        kernels.append(chain_product(factors))
    np.testing.assert_allclose(np.linalg.norm(kernels[0], axis=(-2, -1)), 0.01)
    np.testing.assert_allclose(kernels[1:], [kernels[0]] * 2, atol=rounding * 0.01)


@pytest.mark.parametrize(("depth", "width"), [(2, 1), (2, 10), (3, 10)])
def test_an_independent_start_has_the_norm_asked_for_on_average(depth, width):
    factors = starts.independent_start((20, 4), depth, width, 0.01, range(4000))
    squares = np.sum(chain_product(factors) ** 2, axis=(-2, -1))
    error = squares.std() / np.sqrt(len(squares))
    assert abs(squares.mean() - 1e-4) < 4 * error
    deviations = [np.std(factor) for factor in factors]
    np.testing.assert_allclose(deviations, deviations[0], rtol=0.03)


def test_independent_factors_become_relatively_balanced():
    outcome = rule_runs.follow(SMALL, settings(start="independent", iterations=1500))
    assert np.shape(outcome["rule_loss"])[0] == 2
    assert np.min(outcome["imbalance"]["start"]) > 0.1
    assert np.max(outcome["imbalance"]["end"]) < 0.1


@pytest.mark.parametrize("power", [2, 4])
def test_a_run_that_diverges_is_recorded_as_such(power, tmp_path):
    problem = SMALL if power == 2 else problem_of_power(4)
    outcome = rule_runs.follow(problem, settings(learning_rate=100.0, start_norm=10.0))
    assert outcome["status"] == "diverged"
    record = records.Record(tmp_path)
    record.append("outcome", **outcome)
    losses = [*np.ravel(record.outcome()["loss"]), *np.ravel(record.outcome()["rule_loss"])]
    assert None in losses


def result_with(losses, iterations):
    curves = {"loss": np.array([[losses]], float)}
    return rule_results.Result(None, settings(), {}, {}, np.array(iterations), curves)


def test_iterations_to_half_the_loss_are_interpolated_on_log_scales():
    iterations = [0, 1, 10, 100, 1000]
    power_law = result_with([8.0, 4.5, 4.5, 1.125, 1.0], iterations).halved_at("loss")
    expected = 10 * 10 ** (np.log(4.5 / 4) / np.log(4))
    np.testing.assert_allclose(power_law, [[expected]])
    assert result_with([8.0, 3.0, 2.0, 1.0, 1.0], iterations).halved_at("loss") == 1
    assert np.isinf(result_with([8.0, 7.0, 6.0, 5.0, 4.1], iterations).halved_at("loss"))


def made_up(difference=0.005, halved=0.0025, widths=1e-9, ratio=1.0, halved_at=(100.0, 100.0)):
    """Summaries as of `rule_results.summarize`, with the numbers that verdicts are about."""
    balanced = {"largest_difference": difference, "largest_difference_at_half_rate": halved}
    independent = [
        {"network_over_rule": {"median": ratio}, "loss_halved_at": {"median": at}}
        for at in halved_at
    ]
    deep = {"depth": 2, "balanced": balanced | {"largest_width_difference": widths}}
    shallow = {"depth": 1, "balanced": {"largest_difference": 0.0}}
    return [shallow, deep | {"independent": independent}]


@pytest.mark.parametrize(
    ("changes", "row", "verdict"),
    [
        ({}, 0, "reproduced"),
        ({"difference": 0.02, "halved": 0.01}, 0, "partly"),
        ({"halved": 0.0045}, 0, "not reproduced"),
        ({"difference": 0.2, "halved": 0.1}, 0, "not reproduced"),
        ({}, 1, "reproduced"),
        ({"widths": 1e-5}, 1, "not reproduced"),
        ({"ratio": 0.92}, 2, "reproduced"),
        ({"ratio": 0.55}, 2, "partly"),
        ({"ratio": 2.1}, 2, "not reproduced"),
        ({"ratio": np.inf}, 2, "not reproduced"),
        ({"halved_at": (100.0, 95.0)}, 3, "reproduced"),
        ({"halved_at": (100.0, 180.0)}, 3, "partly"),
        ({"halved_at": (100.0, np.inf)}, 3, "not reproduced"),
        ({"halved_at": (np.inf, np.inf)}, 3, "not reproduced"),
        ({}, 4, "reproduced"),
    ],
)
def test_verdicts_follow_the_criteria(changes, row, verdict):
    assert rule_verdicts.verdicts(made_up(**changes))[row]["verdict"] == verdict


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Folder of a few iterations of every problem on the embedded data."""
    folder = tmp_path_factory.mktemp("out")
    end_to_end_rule.main([*QUICK, "--output", str(folder)])
    return folder


def test_the_command_leaves_records_figure_and_summary(output):
    runs = sorted(path.parent.name for path in output.glob("*/record.jsonl"))
    assert len(runs) == 3 * (1 + 3)
    assert (output / "end_to_end_rule.png").stat().st_size > 10_000
    summary = json.loads((output / "end_to_end_rule.json").read_text("utf-8"))
    assert len(summary["verdicts"]) == len(criteria.END_TO_END_RULE)
    assert "NOT THE ETHANOL PROBLEM" in summary["notice"]
    record = records.Record(output / runs[0])
    assert [line["kind"] for line in record.lines()] == ["start", "outcome"]
    assert "NOT THE ETHANOL PROBLEM" in record.of_kind("start")[0]["data"]["notice"]


def test_finished_runs_are_not_repeated(output, capsys):
    before = {path: path.read_bytes() for path in output.glob("*/record.jsonl")}
    figure = (output / "end_to_end_rule.png").read_bytes()
    end_to_end_rule.main([*QUICK, "--output", str(output)])
    out = capsys.readouterr()
    assert "NOT THE ETHANOL PROBLEM" in out.err
    assert "| Claim | Measured | Verdict |" in out.out
    assert {path: path.read_bytes() for path in before} == before
    end_to_end_rule.main([*QUICK, "--output", str(output), "--plot-only"])
    assert (output / "end_to_end_rule.png").read_bytes() == figure


def test_only_the_asked_for_runs_are_repeated(output):
    before = {path: path.read_bytes() for path in output.glob("*/record.jsonl")}
    again = ["--problems", "l2", "--again"]
    end_to_end_rule.main([*QUICK, "--output", str(output), *again])
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    names = {path.parent.name.rsplit("-", 1)[0] for path in changed}
    deep = "diabetes-l2-depth3"
    assert names == {
        "diabetes-l2-depth1-balanced",
        f"{deep}-balanced",
        f"{deep}-balanced-halved",
        f"{deep}-independent",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot-only", "--seeds", "7"], "holds no finished runs of these settings"),
        (["--publish"], "--publish wants the gas sensor data"),
    ],
)
def test_problems_are_said_in_a_sentence(output, arguments, message):
    before = sorted((ASSETS / "end_to_end_rule").iterdir())
    with pytest.raises(SystemExit, match=message):
        end_to_end_rule.main([*QUICK, "--output", str(output), *arguments])
    assert sorted((ASSETS / "end_to_end_rule").iterdir()) == before


def test_depth_one_is_not_asked_for(capsys):
    with pytest.raises(SystemExit):
        end_to_end_rule.main(["--depths", "1", "2"])
    assert "--depths must be at least 2" in capsys.readouterr().err


ASSETS = assets.ROOT / "assets"
PUBLISHED = rule_results.load_all(ASSETS / "end_to_end_rule")


def test_published_records_are_the_default_experiment_on_the_real_data():
    options = end_to_end_rule.parse([])
    expected = job.settings_of(options, "gas_sensor")
    assert {result.settings for result in PUBLISHED} == set(expected)
    assert len(options.seeds) >= 3
    for result in PUBLISHED:
        assert result.path.name == f"{result.settings.run_name}.jsonl.gz"
        assert result.start["data"]["notice"] is None
        assert result.outcome["status"] == "finished"


def test_the_published_summary_is_generated_from_the_records():
    (text,) = assets.room("end_to_end_rule").texts().values()
    assert (ASSETS / "end_to_end_rule.json").read_text("utf-8") == text
    stated = [criterion.text for criterion in criteria.END_TO_END_RULE.values()]
    assert [row["criterion"] for row in json.loads(text)["verdicts"]] == stated


def test_redrawing_takes_the_published_records(monkeypatch):
    drawn, written = [], []
    monkeypatch.setattr(figures, "draw", lambda *arguments: drawn.append(arguments))
    monkeypatch.setattr(assets, "write", lambda texts: written.extend(texts))
    end_to_end_rule.main(["--redraw"])
    ((results, path),) = drawn
    assert len(results) == len(PUBLISHED)
    assert path == ASSETS / "end_to_end_rule.png"
    assert written == [ASSETS / "end_to_end_rule.json"]


def test_publishing_again_changes_nothing(tmp_path, monkeypatch):
    for result in PUBLISHED:
        folder = records.make_folder(tmp_path / "runs" / result.settings.run_name)
        records.Record(folder).keep(records.Record.at(result.path).lines())
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    folder = tmp_path / "assets"
    end_to_end_rule.main(["--output", str(tmp_path / "runs"), "--plot-only", "--publish"])
    made = rule_results.load_all(folder / "end_to_end_rule")
    assert [result.path.name for result in made] == [result.path.name for result in PUBLISHED]
    for one, other in zip(made, PUBLISHED, strict=True):
        assert records.Record.at(one.path).lines() == records.Record.at(other.path).lines()
    name = "end_to_end_rule.json"
    assert (folder / name).read_text("utf-8") == (ASSETS / name).read_text("utf-8")
    assert (folder / "end_to_end_rule.png").stat().st_size > 50_000
    published = {row["claim"]: row for row in records.read_json(ASSETS / assets.LEDGER)}
    rows = records.read_json(folder / assets.LEDGER)
    assert rows and rows == [published[row["claim"]] for row in rows]


def test_an_experiments_new_verdicts_take_the_place_of_its_old_ones(tmp_path, monkeypatch):
    shutil.copytree(ASSETS / "end_to_end_rule", tmp_path / "assets" / "end_to_end_rule")
    ledger, before = tmp_path / "assets" / assets.LEDGER, ASSETS / assets.LEDGER
    rows = records.read_json(before)
    for row in rows:
        row["verdict"] = "old"
    ledger.write_text(json.dumps(rows))
    monkeypatch.setattr(assets, "ROOT", tmp_path)
    assets.judge_again("end_to_end_rule")
    verdicts = [row["verdict"] for row in records.read_json(ledger)]
    assert [row["claim"] for row in records.read_json(ledger)] == [row["claim"] for row in rows]
    assert 0 < sum(verdict != "old" for verdict in verdicts) < len(rows)
