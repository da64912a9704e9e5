"""Put finished runs into assets/, and redraw from there all that README and docs show of them.

    python reproduce/publish.py                           redraw figure, summary and tables
    python reproduce/publish.py --runs runs/mnist_cnn     take over finished runs first

Every number in the pages' generated parts comes from the records in assets/; a test compares.
"""

import argparse
import contextlib
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import criteria
from experiments.end_to_end_rule import claims as rule_verdicts
from experiments.end_to_end_rule import results as rule_results
from experiments.gas_sensor import claims
from experiments.gas_sensor import results as sweep_results
from experiments.mnist import figures, results
from experiments.mnist import other_figures as network_figures
from experiments.mnist import other_networks as networks
from experiments.mnist import other_results as network_results
from experiments.probe import figures as probe_figure
from experiments.probe import results as probe_results
from publishing import benchmark_figure, benchmark_tables, fault_table, zoo_tables
from running import records

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
COMPATIBILITY = ROOT / "docs" / "compatibility.md"
SUMMARY = ROOT / "assets" / "mnist_cnn.json"
CLAIMS = ROOT / "assets" / "claims.json"
RECORDS = ROOT / "assets" / "mnist_cnn"
BENCHMARK = ROOT / "assets" / "benchmark_mnist_step.json"
RULE_BENCHMARK = ROOT / "assets" / "benchmark_end_to_end_step.json"
CNN_BENCHMARK = ROOT / "assets" / "benchmark_end_to_end_cnn.json"
RULE_ERROR = ROOT / "assets" / "kept_rule_error.json"
RULE = ROOT / "assets" / "end_to_end_rule"
SWEEPS = ROOT / "assets" / "gas_sensor"
NETWORKS = ROOT / "assets" / "other_networks"
CONVERSION_BENCHMARK = ROOT / "assets" / "benchmark_conversion.json"
GROWTH_BENCHMARK = ROOT / "assets" / "benchmark_optimizer_growth.json"
TRAINING_BENCHMARK = ROOT / "assets" / "benchmark_training_step.json"
MONITOR_BENCHMARK = ROOT / "assets" / "benchmark_monitor.json"
PROBE = ROOT / "assets" / "probe"
SWEEP_BENCHMARK = ROOT / "assets" / "benchmark_sweep.json"
ZOO = ROOT / "assets" / "zoo.json"
FAULT_MATRIX = ROOT / "assets" / "fault_matrix.json"
CONSEQUENCES = ROOT / "assets" / "consequences.jsonl.gz"
SCALAR_COST = "engine, depth 2 / depth 1"  # the benchmark's row
PUBLISHED = {"dataset": "mnist", "init_stddev": 0.1}
EPOCHS, TUNING_EPOCHS = 10, 3
MODELS = [(1, "product"), (2, "product"), (2, "factors")]
WHERE = {"product": "the end-to-end matrices", "factors": "each matrix"}


@contextlib.contextmanager
def command(name):
    """A command line that ends in one sentence if it cannot read assets/, or not write."""
    try:
        yield
    except (OSError, ValueError, records.OutputError) as error:
        sys.exit(f"{name}: error: {error}")
    except (AttributeError, LookupError, TypeError) as error:  # of a file that lacks something
        sys.exit(
            f"{name}: error: A file in {ROOT / 'assets'} is damaged ({error!r}); restore the files "
            "there with git."
        )


def take_over(runs):
    """Copy the records of finished runs of the published settings into assets/."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(runs).glob("*/record.jsonl")):
        record = records.Record.at(path)
        if record.outcome() is None:
            print(f"{path} is left out: it is of no finished run, or damaged.", file=sys.stderr)
            continue
        settings = record.of_kind("start")[0]["settings"]
        published = all(settings[name] == value for name, value in PUBLISHED.items())
        if published and settings["epochs"] in (EPOCHS, TUNING_EPOCHS):
            records.publish(path, RECORDS / f"{path.parent.name}.jsonl.gz")


def published_groups(epochs):
    """Published results of runs of so many epochs, by model, rates and seeds ascending."""
    found = [results.load(path) for path in sorted(RECORDS.glob("*.jsonl.gz"))]
    groups = [
        sorted(
            (
                r
                for r in found
                if (r.settings.depth, r.settings.regularize, r.settings.epochs) == (*model, epochs)
            ),
            key=lambda r: (r.settings.learning_rate, r.settings.seed),
        )
        for model in MODELS
    ]
    if not all(groups):
        raise ValueError(f"{RECORDS} lacks records of some networks; take them over with --runs.")
    return groups


def published_networks():
    """Published results of the networks other than the tutorial's."""
    return [results.load(path, networks.Settings) for path in sorted(NETWORKS.glob("*.jsonl.gz"))]


def tutorials_speed_up(rate_groups):
    """Speed-up of the paper's overparameterized network by seed, as other networks' is measured."""
    original, overparameterized, *_ = (results.at_best_rate(group) for group in rate_groups)
    return network_results.speed_up(overparameterized, original)


def acceleration(summaries, criterion):
    """Verdicts on the acceleration of each overparameterized network over the first, original."""
    original, *others = summaries
    for summary in others:
        steps = summary["steps_to_originals_objective"]["values"]
        lower = original["objective"]["mean"] / summary["objective"]["mean"]
        rates = "tuned rates" if criterion == "tuned_acceleration" else "the tutorial's rate"
        yield {
            "claim": "optimization accelerated by orders of magnitude; "
            f"L2 term on {WHERE[summary['regularize']]}, {rates}",
            "criterion": criteria.MNIST_CNN[criterion],
            "measured": "steps to the original's final objective, by seed: "
            + ", ".join("never" if s is None else f"{s:,}" for s in steps)
            + f" of the original's {original['steps']:,}; final objective "
            + (f"{lower:.3g} times lower" if lower >= 1 else f"{1 / lower:.3g} times higher"),
            "verdict": results.verdict(summary, original["steps"]),
        }


def test_error(summaries):
    """Verdict on the test errors of the original and the paper's overparameterized network."""
    errors = {_name(s): s["test_error_percent"]["mean"] for s in summaries[:2]}
    return {
        "claim": "both networks classify as well as the tutorial promises",
        "criterion": criteria.MNIST_CNN["test_error"],
        "measured": ", ".join(f"{name}: {error:.2f} %" for name, error in errors.items()),
        "verdict": "reproduced" if max(errors.values()) <= 1.0 else "not reproduced",
    }


def _name(summary):
    return f"{summary['model']} ({len(summary['seeds'])} seeds)"


def with_benchmarked_times(summary, path=BENCHMARK):
    """A summary with the step's duration from the benchmark: published runs shared the machine."""
    depth = 1 if summary["model"] == "original" else 2
    model = "original" if depth == 1 else "two matrices"
    name = f"main, {model}, L2 on {summary['regularize']}"
    (row,) = [row for row in records.read_json(path)["rows"] if row["what"] == name]
    return summary | {"milliseconds_per_step": {"mean": row["median"], "standard_deviation": None}}


def summary_of(groups, rate_groups):
    """Verdicts and summaries of the published results."""
    summaries = [results.summarize(group, groups[0]) for group in groups]
    tuned = results.summarize_tuned(rate_groups)
    others = network_results.summary(published_networks())
    return {
        "verdicts": [
            *acceleration(summaries, "acceleration"),
            *acceleration(tuned, "tuned_acceleration"),
            test_error(summaries),
        ],
        "summaries": summaries,
        "tuned": tuned,
        "final_objective_by_rate": [
            {"model": summary["model"], "regularize": summary["regularize"]}
            | {f"{rate:g}": value for rate, value in results.rate_grid(group).items()}
            for summary, group in zip(tuned, rate_groups, strict=True)
        ],
        "other_networks": {
            "verdicts": network_results.verdicts(others, tutorials_speed_up(rate_groups)),
            "summaries": others,
        },
    }


def ledger_sources(summary):
    """What the claims ledger is made from, all of it from assets/."""
    (cost,) = [r for r in records.read_json(SWEEP_BENCHMARK)["rows"] if r["what"] == SCALAR_COST]
    original, overparameterized, *_ = summary["summaries"]
    consequences = records.Record.at(CONSEQUENCES).outcome()
    if consequences is None:
        raise ValueError(f"{CONSEQUENCES} holds no finished run; restore it, or publish it again.")
    return claims.sources(
        [sweep_results.load(path) for path in sorted(SWEEPS.glob("*.jsonl.gz"))],
        consequences,
        rule_verdicts.summary(rule_results.load_all(RULE))["verdicts"],
        summary["verdicts"] + summary["other_networks"]["verdicts"],
        (original["parameters"], overparameterized["parameters"]),
        cost,
    )


def parts(summary, sources=None):
    """The generated parts of the README, by name."""
    rule = rule_verdicts.summary(rule_results.load_all(RULE))
    sources = sources or ledger_sources(summary)
    return {
        "claims": claims.table(claims.rows(sources)),
        "gas_sensor_l4": claims.model_table(sources.sweeps, "l4"),
        "gas_sensor_start": claims.model_table(sources.sweeps, "start"),
        "sweep": benchmark_tables.benchmark_table(SWEEP_BENCHMARK),
        "conversion": benchmark_tables.conversion_table(CONVERSION_BENCHMARK),
        "end_to_end_rule": rule_verdicts.table(rule["summaries"])
        + "\n\n"
        + rule_verdicts.verdict_table(rule["verdicts"]),
        "end_to_end_step": benchmark_tables.step_table(RULE_BENCHMARK),
        "end_to_end_cnn": benchmark_tables.benchmark_table(CNN_BENCHMARK),
        "kept_rule_error": benchmark_tables.error_table(RULE_ERROR),
        "mnist_cnn": results.table([with_benchmarked_times(s) for s in summary["summaries"]]),
        "mnist_rates": results.table(
            [{k: v for k, v in s.items() if k != "milliseconds_per_step"} for s in summary["tuned"]]
        ),
        "other_networks": network_results.table(summary["other_networks"]["summaries"]),
        "mnist_cnn_verdicts": rule_verdicts.verdict_table(summary["verdicts"]),
        "targets": benchmark_tables.target_table(ROOT / "assets"),
        "training_step": benchmark_tables.training_table(TRAINING_BENCHMARK),
        "growth": benchmark_tables.growth_table(
            TRAINING_BENCHMARK, GROWTH_BENCHMARK, SWEEP_BENCHMARK
        ),
        "mnist_step": benchmark_tables.benchmark_table(BENCHMARK),
        "monitor": benchmark_tables.benchmark_table(MONITOR_BENCHMARK),
        "probe": probe_results.table(probe_results.load_all(PROBE)),
        "fault_matrix": fault_table.fault_table(FAULT_MATRIX),
    }


def fill(text, name, content, page="README.md"):
    """Put content between the markers of a generated part of a page."""
    pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{page} must hold the generated part {name!r} once, found {count}.")
    return filled


def filled(page, made):
    """The text of a page with its generated parts.

    Args:
        page: path of the page.
        made: dictionary from the names of all its parts to their contents.
    """
    text = page.read_text(encoding="utf-8")
    for name, content in made.items():
        text = fill(text, name, content, page.name)
    return text


def rendered():
    """What the files should be: texts by path, the README's parts, and groups for the figures."""
    groups, rate_groups = (published_groups(epochs) for epochs in (EPOCHS, TUNING_EPOCHS))
    summary = summary_of(groups, rate_groups)
    sources = ledger_sources(summary)
    made = parts(summary, sources)
    texts = {
        SUMMARY: records.to_indented_json(summary),
        CLAIMS: records.to_indented_json(claims.rows(sources)),
        README: filled(README, made),
        COMPATIBILITY: filled(COMPATIBILITY, zoo_tables.parts(ZOO)),
    }
    return texts, made, groups, rate_groups


def ledger():
    """The claims ledger, from the records in assets/."""
    groups, rate_groups = (published_groups(epochs) for epochs in (EPOCHS, TUNING_EPOCHS))
    return claims.rows(ledger_sources(summary_of(groups, rate_groups)))


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", help="folder of finished runs to take over first")
    options = parser.parse_args(arguments)
    if options.runs is not None and not os.path.isdir(options.runs):
        parser.error(f"--runs must be a folder of runs, received {options.runs!r}")
    return options


def publish():
    """Make all files anew that are made from the records in assets/."""
    texts, _, groups, rate_groups = rendered()
    for path, text in texts.items():
        records.write_atomically(path, lambda file, text=text: file.write_text(text, "utf-8"))
    benchmark_figure.draw(
        records.read_json(TRAINING_BENCHMARK), TRAINING_BENCHMARK.with_suffix(".png")
    )
    figures.draw_objective(groups, ROOT / "assets" / "mnist_cnn.png")
    figures.draw_rates(rate_groups, ROOT / "assets" / "mnist_rates.png")
    network_figures.draw_networks(published_networks(), ROOT / "assets" / "other_networks.png")
    probe_figure.draw(probe_results.load_all(PROBE), PROBE.with_suffix(".png"))


def main(arguments=None):
    """Run the command line."""
    options = parse(arguments)
    with command("publish.py"):
        if options.runs:
            take_over(options.runs)
        publish()


if __name__ == "__main__":
    main()
