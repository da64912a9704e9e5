"""Put finished runs into assets/, and redraw from there all that the README shows of them.

    python reproduce/publish.py                           redraw figure, summary and README tables
    python reproduce/publish.py --runs runs/mnist_cnn     take over finished ten-epoch runs first

Every number in the README's generated parts comes from the records in assets/; a test compares.
"""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from plumbing import criteria, figures, records, results

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "assets" / "mnist_cnn"
BENCHMARK = ROOT / "assets" / "benchmark_mnist_step.json"
PUBLISHED = {"dataset": "mnist", "epochs": 10, "learning_rate": 0.01, "init_stddev": 0.1}
ORDER = [(1, "product"), (2, "product"), (2, "factors"), (1, "none"), (2, "none")]
WHERE = {"product": "the end-to-end matrices", "factors": "each matrix", "none": "nothing"}


def take_over(runs):
    """Copy the records of finished runs of the published settings into assets/."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(runs).glob("*/record.jsonl")):
        record = records.Record.at(path)
        if record.outcome() is None:
            continue
        settings = record.of_kind("start")[0]["settings"]
        if all(settings[name] == value for name, value in PUBLISHED.items()):
            shutil.copyfile(path, RECORDS / f"{path.parent.name}.jsonl")


def published_groups():
    """Published results, by model, seeds ascending."""
    found = [results.load(path) for path in sorted(RECORDS.glob("*.jsonl"))]
    groups = [[r for r in found if (r.settings.depth, r.settings.regularize) == k] for k in ORDER]
    return [sorted(group, key=lambda r: r.settings.seed) for group in groups if group]


def summarized(groups):
    """Summary of each model beside the original with the same L2 term, same seeds."""
    summaries = []
    for group in groups:
        regularize = "none" if group[0].settings.regularize == "none" else "product"
        originals = {
            r.settings.seed: r
            for other in groups
            for r in other
            if (r.settings.depth, r.settings.regularize) == (1, regularize)
        }
        paired = [originals[result.settings.seed] for result in group]
        summaries.append(results.summarize(group, paired))
    return summaries


def verdicts(summaries):
    """Each criterion's verdict: what it applies to, what was measured."""
    rows = []
    original = summaries[0]["objective"]["mean"]
    for summary in summaries:
        if summary["model"] != "original" and summary["regularize"] != "none":
            steps = summary["steps_to_originals_objective"]["values"]
            rows.append(
                {
                    "claim": "optimization accelerated by orders of magnitude, "
                    f"L2 term on {WHERE[summary['regularize']]}",
                    "criterion": criteria.MNIST_CNN["acceleration"],
                    "measured": "steps to the original's final objective, by seed: "
                    + ", ".join("never" if s is None else f"{s:,}" for s in steps)
                    + f" of the original's {summary['steps']:,}; final objective "
                    + f"{original / summary['objective']['mean']:.3g} times lower",
                    "verdict": results.verdict(summary, summary["steps"]),
                }
            )
    errors = {_name(s): s["test_error_percent"]["mean"] for s in summaries[:2]}
    rows.append(
        {
            "claim": "both networks classify as well as the tutorial promises",
            "criterion": criteria.MNIST_CNN["test_error"],
            "measured": ", ".join(f"{name}: {error:.2f} %" for name, error in errors.items()),
            "verdict": "reproduced" if max(errors.values()) <= 1.0 else "not reproduced",
        }
    )
    return rows


def _name(summary):
    return f"{summary['model']} ({len(summary['seeds'])} seeds)"


def benchmark_table(path):
    """Markdown table of the ratios measured by a benchmark."""
    report = json.loads(path.read_text())
    lines = ["| | median | quartiles |", "|---|---|---|"]
    for row in report["rows"]:
        digits = 2 if row["unit"] == "ratio" else 1
        low, high = row["quartiles"]
        lines.append(
            f"| {row['what']} ({row['unit']}) | {row['median']:.{digits}f} "
            f"| {low:.{digits}f} – {high:.{digits}f} |"
        )
    versions = report["versions"]
    lines.append(
        f"\n{report['device']}; TensorFlow {versions['tensorflow']}, Keras {versions['keras']}; "
        f"{report['rounds']} rounds of {report['steps_per_block']} steps."
    )
    return "\n".join(lines)


def with_benchmarked_times(summary, path=BENCHMARK):
    """A summary with the step's duration from the benchmark: published runs shared the machine."""
    depth = 1 if summary["model"] == "original" else 2
    model = "original" if depth == 1 else "two matrices"
    name = f"main, {model}, L2 on {summary['regularize']}"
    (row,) = [row for row in json.loads(path.read_text())["rows"] if row["what"] == name]
    return summary | {"milliseconds_per_step": {"mean": row["median"], "standard_deviation": None}}


def parts(summaries):
    """The generated parts of the README, by name."""
    claims = ["| Claim | Measured | Verdict |", "|---|---|---|"]
    claims += [
        f"| {row['claim']} | {row['measured']} | **{row['verdict']}** |"
        for row in verdicts(summaries)
    ]
    return {
        "mnist_cnn": results.table([with_benchmarked_times(summary) for summary in summaries]),
        "mnist_cnn_verdicts": "\n".join(claims),
        "mnist_step": benchmark_table(BENCHMARK),
    }


def fill(text, name, content):
    """Put content between the markers of a generated part."""
    pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"README.md must hold the generated part {name!r} once, found {count}.")
    return filled


def rendered():
    """What the files should be: summary as JSON text, README text, groups for the figure."""
    groups = published_groups()
    summaries = summarized(groups)
    summary = {"verdicts": verdicts(summaries), "summaries": summaries}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, content in parts(summaries).items():
        readme = fill(readme, name, content)
    text = json.dumps(json.loads(records.to_json(summary)), indent=1, ensure_ascii=False) + "\n"
    return text, readme, groups


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", help="folder of finished runs to take over first")
    options = parser.parse_args()
    if options.runs:
        take_over(options.runs)
    summary, readme, groups = rendered()
    (ROOT / "assets" / "mnist_cnn.json").write_text(summary, encoding="utf-8")
    (ROOT / "README.md").write_text(readme, encoding="utf-8")
    figures.draw_objective(groups, ROOT / "assets" / "mnist_cnn.png")


if __name__ == "__main__":
    main()
