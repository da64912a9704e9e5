"""Tables and targets of the benchmarks, made from the reports that they leave in assets/."""

import dataclasses
import re

from presenting.tables import markdown_table
from publishing.fault_table import fault_table
from publishing.first_hour_table import first_hour
from running.records import read_json

ERROR_TARGET = 1e-3  # of `EndToEnd` with a tolerance, relative to the exact rule
WAYS = ("overparameterize", "collapse")
POINT = ("batch", "width", "depth")  # of the grid of training steps


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
        report = read_json(folder / f"benchmark_{self.benchmark}.json")
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
    rows = []
    for target in TARGETS:
        row = target.measured(folder)
        measured = _with_quartiles(row, ".4g")
        if row["of"] > 1:
            measured += f", worst of {row['of']}: {row['what']}"
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        rows.append([target.what, bound, measured, "met" if target.met(row) else "**missed**"])
    return markdown_table(["Ratio", "Target", "Measured (quartiles)", ""], rows)


def speed_line(folder):
    """What factored layers cost, in a sentence.

    Args:
        folder: where the benchmarks' reports are.
    """
    step, inference = TARGETS[0].measured(folder), TARGETS[-1].measured(folder)
    device = read_json(folder / f"benchmark_{TARGETS[0].benchmark}.json")["device"]
    return (
        f"A training step of the MNIST network with factored dense layers takes "
        f"{_with_quartiles(step, '.3g')} times the plain one's, inference after `collapse` "
        f"{_with_quartiles(inference, '.3g')} times the original's (medians and quartiles; "
        f"{device})."
    )


def parts(assets):
    """The generated parts of the pages that come from reports of benchmarks, by name."""

    def path(name):
        return assets / f"benchmark_{name}.json"

    plain = ("sweep", "end_to_end_cnn", "mnist_step", "monitor")
    growing = map(path, ("training_step", "optimizer_growth", "sweep"))
    return {
        **{name: benchmark_table(path(name)) for name in plain},
        "conversion": conversion_table(path("conversion")),
        "end_to_end_step": step_table(path("end_to_end_step")),
        "kept_rule_error": error_table(assets / "kept_rule_error.json"),
        "targets": target_table(assets),
        "training_step": training_table(path("training_step")),
        "growth": growth_table(*growing),
        "first_hour": first_hour(assets / "first_hour.json"),
        "fault_matrix": fault_table(assets / "fault_matrix.json"),
    }


def _with_quartiles(row, form):
    """Median and quartiles of a row in words."""
    low, high = (format(value, form) for value in row["quartiles"])
    return f"{row['median']:{form}} ({low}–{high})"


def _pivoted(corner, cells, *below):
    """A table of a line for each place, and a column for each contender.

    Args:
        corner: what the places are.
        cells: triples of place, contender and text; lines and columns keep their order.
        *below: lines below the table.
    """
    lines, contenders = {}, {}
    for place, contender, text in cells:
        lines.setdefault(place, {})[contender] = text
        contenders[contender] = None
    rows = ([place, *(line.get(name, "") for name in contenders)] for place, line in lines.items())
    return markdown_table([corner, *contenders], rows, *below)


def circumstances(report):
    """Device and versions of a report, in a line below a table."""
    versions = report["versions"]
    return f"\n{report['device']}; TensorFlow {versions['tensorflow']}, Keras {versions['keras']}; "


def benchmark_table(path):
    """Markdown table of the durations and ratios measured by a benchmark."""
    report = read_json(path)
    rows = []
    for row in report["rows"]:
        if row["unit"] == "exponent":  # those have a table of their own
            continue
        form = ".2f" if row["unit"] == "ratio" else ".1f"
        low, high = (format(value, form) for value in row["quartiles"])
        what = f"{row['what']} ({row['unit']})"
        rows.append([what, format(row["median"], form), f"{low} – {high}"])
    rounds = f"{report['rounds']} rounds of {report['steps_per_turn']} steps."
    return markdown_table(["", "median", "quartiles"], rows, circumstances(report) + rounds)


def step_table(path):
    """Markdown table of an optimizer's step on one kernel: a line for each kernel and gradient."""
    report = read_json(path)
    cells = []
    for row in report["rows"]:
        contender, where = re.fullmatch(r"(.*?), (\d+×\d+, .*)", row["what"]).groups()
        cells.append((where, contender, _duration_or_ratio(row, ".1f")))
    return _pivoted(
        "Kernel, gradient, move",
        cells,
        circumstances(report)
        + f"milliseconds, medians of {report['rounds']} rounds of {report['steps_per_turn']} "
        "steps; ratios with quartiles.",
    )


def training_table(path):
    """Markdown table of a square layer's training step: a line for each batch, width and depth."""
    report = read_json(path)
    cells = []
    for row in report["rows"]:
        if {"contender", *POINT} <= row.keys():
            name = row["contender"] + (f" / {row['against']}" if "against" in row else "")
            point = ", ".join(str(row[axis]) for axis in POINT)
            cells.append((point, name, _duration_or_ratio(row, ".3g")))
    limits = (f"{row['median']:.0f} {row['unit']}" for row in report["rows"] if "limit" in row)
    return _pivoted(
        "Batch, width, depth",
        cells,
        circumstances(report)
        + f"milliseconds, medians of {report['rounds']} rounds, and ratios with quartiles; the "
        f"machine's limits are {' and '.join(limits)}.",
    )


def _duration_or_ratio(row, form):
    """A row's cell: of a duration the median, of a ratio the quartiles too."""
    return _with_quartiles(row, ".2f") if row["unit"] == "ratio" else format(row["median"], form)


def growth_table(*paths):
    """Markdown table of the exponents with which durations grow, from several reports."""
    rows = (row for path in paths for row in read_json(path)["rows"])
    return markdown_table(
        ["Duration of a step or iteration", "Exponent (quartiles)"],
        (
            [row["what"].removeprefix("growth of "), _with_quartiles(row, ".2f")]
            for row in rows
            if row["unit"] == "exponent"
        ),
    )


def conversion_table(path):
    """Markdown table of models that were overparameterized and collapsed."""
    report = read_json(path)
    measured = {row["what"]: row for row in report["rows"]}
    rows = []
    for model in report["models"]:
        name = model["model"]
        differences = (model[f"difference_{way}"] for way in ("overparameterized", "collapsed"))
        seconds = (measured[f"{name}, {way}"]["median"] for way in WAYS)
        rows.append(
            [
                name,
                ", ".join(f"{number:,}" for number in model["parameters"]),
                ", ".join(f"{difference:.0e}" for difference in differences),
                ", ".join(f"{value:.1f}" for value in seconds),
                _with_quartiles(measured[f"{name}, inference, collapsed / original"], ".3f"),
            ]
        )
    head = [
        "Model",
        f"Parameters: original, depth {report['depth']}, collapsed",
        "Largest difference of outputs: there, back",
        "Seconds: there, back",
        "Inference, collapsed / original (quartiles)",
    ]
    return markdown_table(
        head,
        rows,
        circumstances(report)
        + f"batches of {report['batch']}, {report['rounds']} rounds of {report['steps_per_turn']}. "
        "Differences are relative to the largest output.",
    )


def error_table(path):
    """Markdown table of the rule's errors along trainings at several tolerances."""
    report = read_json(path)
    rows = [
        [
            row["kernel"],
            row["regularize"],
            f"{row['tolerance']:g}",
            str(row["decompositions"]),
            *(f"{row[w]['median']:.1e} ({row[w]['largest']:.1e})" for w in ("kept", "exact")),
        ]
        for row in report["rows"]
    ]
    head = ["Kernel", "L2 on", "Tolerance", "Decompositions", "Error, median (largest)"]
    return markdown_table(
        [*head, "Error of `end_to_end_gradient`"],
        rows,
        f"\n{report['steps']} steps of each training, compared every {report['every']}. "
        + _tolerance_for(ERROR_TARGET, report["rows"]),
    )


def _tolerance_for(target, rows):
    """A sentence on the largest tolerance at which all errors stay below a target."""
    tolerances = {row["tolerance"] for row in rows}
    missed = {row["tolerance"] for row in rows if row["kept"]["largest"] > target}
    if tolerances == missed:
        return f"An error below {target:g} throughout needs a tolerance below {min(missed):g}."
    return f"At a tolerance of {max(tolerances - missed):g} it stays below {target:g} throughout."
