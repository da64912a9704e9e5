"""Tables and targets of the benchmarks, made from the reports that they leave in assets/."""

import dataclasses
import json
import re

ERROR_TARGET = 1e-3  # of `EndToEnd` with a tolerance, relative to the exact rule
WAYS = ("overparameterize", "collapse")


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on a ratio that a benchmark measures.

    Attributes:
        what: the ratio, in words.
        benchmark: its report is `benchmark_{benchmark}.json`.
        rows: regular expression of the whole names of its rows; all must keep the bound.
        bound: the bound.
        at_least: whether it is a lower one.
    """

    what: str
    benchmark: str
    rows: str
    bound: float
    at_least: bool = False

    def measured(self, folder):
        """The row that keeps the bound least, of those in a folder's report.

        Raises:
            ValueError: if the report has no such row.
        """
        report = json.loads((folder / f"benchmark_{self.benchmark}.json").read_text())
        found = [row for row in report["rows"] if re.fullmatch(self.rows, row["what"])]
        if not found:
            raise ValueError(f"The report of {self.benchmark!r} has no row like {self.rows!r}.")
        sign = -1 if self.at_least else 1
        return max(found, key=lambda row: sign * row["median"]) | {"of": len(found)}

    def met(self, row):
        """Whether a row's median keeps the bound."""
        return row["median"] >= self.bound if self.at_least else row["median"] <= self.bound


TUTORIAL = "the tutorial network's training step, factored over plain"
MUON = "a step of EndToEnd over Muon's, one kernel"
CNN = "the tutorial network's training step by EndToEnd over SGD's"
TARGETS = [
    Target(f"{TUTORIAL}, no L2 term", "mnist_step", r"FactoredDense/Dense: .* L2 on none", 1.05),
    Target(f"{TUTORIAL}, L2 on factors", "mnist_step", r"FactoredDense/Dense: .* factors", 1.05),
    Target(f"{TUTORIAL}, L2 on product", "mnist_step", r"FactoredDense/Dense: .* product", 1.05),
    Target(
        "a factored layer's training step over the cheapest order by operation count",
        "training_step",
        r"FactoredDense / the cheapest by count, .*",
        1.1,
    ),
    Target(
        "peak memory of the tutorial network's training, depth 2 over plain",
        "training_step",
        r"peak memory, tutorial CNN, .*, depth 2 / plain",
        1.25,
    ),
    Target(
        "peak memory of a square layer's, which has twice the parameters",
        "training_step",
        r"peak memory, square layer .*, depth 2 / plain",
        1.25,
    ),
    Target("import over Keras's", "start_up", r"import keras_overparam / keras, .*", 1.05),
    Target("main job over a bare loop", "mnist_step", r"main/bare: .*", 1.10),
    Target(
        "sweep engine, share of the matrix-multiply peak, 128 configurations",
        "sweep",
        r"share of the peak, engine, .*, 128 configurations",
        0.5,
        at_least=True,
    ),
    Target("model.fit over the sweep engine", "sweep", r"model\.fit, .* / engine", 100, True),
    Target("NumPy in place over the sweep engine", "sweep", r"NumPy in place, .*", 5, True),
    Target(f"{MUON}, exact", "end_to_end_step", r"EndToEnd, exact / Muon, .*", 1.0),
    Target(f"{MUON}, tolerance 0.001", "end_to_end_step", r"EndToEnd, kept / Muon, .*", 0.35),
    Target(f"{CNN}, exact", "end_to_end_cnn", r"EndToEnd, exact / SGD, .*", 3.0),
    Target(f"{CNN}, tolerance 0.001", "end_to_end_cnn", r"EndToEnd, tolerance .* / SGD, .*", 1.5),
    Target("with FactorMonitor over without", "monitor", r"with FactorMonitor / without", 1.05),
    Target("inference, collapsed over original", "conversion", r".*, collapsed / original", 1.05),
]


def target_table(folder):
    """Markdown table of all targets with what was measured.

    Args:
        folder: where the benchmarks' reports are.
    """
    lines = ["| Ratio | Target | Measured (quartiles) | |", "|---|---|---|---|"]
    for target in TARGETS:
        row = target.measured(folder)
        low, middle, high = (f"{value:.4g}" for value in values_of(row))
        measured = f"{middle} ({low}–{high})"
        if row["of"] > 1:
            measured += f", worst of {row['of']}: {row['what']}"
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        met = "met" if target.met(row) else "**missed**"
        lines.append(f"| {target.what} | {bound} | {measured} | {met} |")
    return "\n".join(lines)


def values_of(row):
    """Lower quartile, median and upper quartile of a row."""
    low, high = row["quartiles"]
    return low, row["median"], high


def circumstances(report):
    """Device and versions of a report, in a line below a table."""
    versions = report["versions"]
    return f"\n{report['device']}; TensorFlow {versions['tensorflow']}, Keras {versions['keras']}; "


def benchmark_table(path):
    """Markdown table of the ratios measured by a benchmark."""
    report = json.loads(path.read_text())
    lines = ["| | median | quartiles |", "|---|---|---|"]
    for row in report["rows"]:
        digits = 2 if row["unit"] == "ratio" else 1
        low, middle, high = (f"{value:.{digits}f}" for value in values_of(row))
        lines.append(f"| {row['what']} ({row['unit']}) | {middle} | {low} – {high} |")
    lines.append(
        circumstances(report) + f"{report['rounds']} rounds of {report['steps_per_turn']} steps."
    )
    return "\n".join(lines)


def step_table(path):
    """Markdown table of an optimizer's step on one kernel: a line for each kernel and gradient."""
    report = json.loads(path.read_text())
    lines, contenders = {}, {}
    for row in report["rows"]:
        contender, where = re.fullmatch(r"(.*?), (\d+×\d+, .*)", row["what"]).groups()
        low, middle, high = (f"{value:.2f}" for value in values_of(row))
        ratio = f"{middle} ({low}–{high})"
        lines.setdefault(where, {})[contender] = (
            ratio if row["unit"] == "ratio" else f"{row['median']:.1f}"
        )
        contenders[contender] = None
    head = ["Kernel, gradient, move", *contenders]
    table = _table(
        head,
        (
            [where, *(found.get(contender, "") for contender in contenders)]
            for where, found in lines.items()
        ),
    )
    table.append(
        circumstances(report)
        + f"milliseconds, medians of {report['rounds']} rounds of {report['steps_per_turn']} "
        "steps; ratios with quartiles."
    )
    return "\n".join(table)


def training_table(path):
    """Markdown table of a square layer's training step: a line for each batch, width and depth."""
    report = json.loads(path.read_text())
    points, contenders = {}, {}
    for row in report["rows"]:
        if not {"contender", "batch", "width", "depth"} <= row.keys():
            continue
        name = row["contender"] + (f" / {row['against']}" if "against" in row else "")
        low, middle, high = (f"{value:.2f}" for value in values_of(row))
        ratio = f"{middle} ({low}–{high})"
        cell = ratio if row["unit"] == "ratio" else f"{row['median']:.3g}"
        points.setdefault((row["batch"], row["width"], row["depth"]), {})[name] = cell
        contenders[name] = None
    lines = _table(
        ["Batch, width, depth", *contenders],
        (
            [", ".join(map(str, point)), *(cells.get(name, "") for name in contenders)]
            for point, cells in points.items()
        ),
    )
    limits = (f"{row['median']:.0f} {row['unit']}" for row in report["rows"] if "limit" in row)
    lines.append(
        circumstances(report)
        + f"milliseconds, medians of {report['rounds']} rounds, and ratios with quartiles; the "
        f"machine's limits are {' and '.join(limits)}."
    )
    return "\n".join(lines)


def growth_table(*paths):
    """Markdown table of the exponents with which durations grow, from several reports."""
    lines = []
    for path in paths:
        for row in json.loads(path.read_text())["rows"]:
            if row["unit"] == "exponent":
                low, middle, high = (f"{value:.2f}" for value in values_of(row))
                lines.append([row["what"].removeprefix("growth of "), f"{middle} ({low}–{high})"])
    return "\n".join(_table(["Duration of a step", "Exponent (quartiles)"], lines))


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def conversion_table(path):
    """Markdown table of models that were overparameterized and collapsed."""
    report = json.loads(path.read_text())
    measured = {row["what"]: row for row in report["rows"]}
    lines = [
        f"| Model | Parameters: original, depth {report['depth']}, collapsed "
        "| Largest difference of outputs: there, back | Seconds: there, back "
        "| Inference, collapsed / original (quartiles) |",
        "|---|---|---|---|---|",
    ]
    for model in report["models"]:
        name = model["model"]
        seconds = [measured[f"{name}, {how}"]["median"] for how in WAYS]
        ratio = measured[f"{name}, inference, collapsed / original"]
        low, high = ratio["quartiles"]
        lines.append(
            f"| {name} | {', '.join(f'{n:,}' for n in model['parameters'])} "
            f"| {model['difference_overparameterized']:.0e}, {model['difference_collapsed']:.0e} "
            f"| {seconds[0]:.1f}, {seconds[1]:.1f} "
            f"| {ratio['median']:.3f} ({low:.3f}–{high:.3f}) |"
        )
    lines.append(
        circumstances(report)
        + f"batches of {report['batch']}, {report['rounds']} rounds of {report['steps_per_turn']}. "
        "Differences are relative to the largest output."
    )
    return "\n".join(lines)


def error_table(path):
    """Markdown table of the rule's errors along trainings at several tolerances."""
    report = json.loads(path.read_text())
    lines = [
        "| Kernel | L2 on | Tolerance | Decompositions | Error, median (largest) "
        "| Error of `end_to_end_gradient` |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        kept, exact = (
            f"{row[what]['median']:.1e} ({row[what]['largest']:.1e})" for what in ("kept", "exact")
        )
        lines.append(
            f"| {row['kernel']} | {row['regularize']} | {row['tolerance']:g} "
            f"| {row['decompositions']} | {kept} | {exact} |"
        )
    lines.append(
        f"\n{report['steps']} steps of each training, compared every {report['every']}. "
        + _tolerance_for(ERROR_TARGET, report["rows"])
    )
    return "\n".join(lines)


def _tolerance_for(target, rows):
    """A sentence on the largest tolerance at which all errors stay below a target."""
    tolerances = {row["tolerance"] for row in rows}
    missed = {row["tolerance"] for row in rows if row["kept"]["largest"] > target}
    if tolerances == missed:
        return f"An error below {target:g} throughout needs a tolerance below {min(missed):g}."
    return f"At a tolerance of {max(tolerances - missed):g} it stays below {target:g} throughout."
