"""Tables of the models that convert and of those that do not, from the zoo's report."""

import re
import statistics

from presenting.tables import markdown_table
from publishing.benchmark_tables import circumstances
from running.records import read_json

LIBRARIES = ("Keras", "KerasHub")
ROUNDING = 1e-6  # relative, of outputs in float32, of a model that magnifies none
WAYS = ("refused", "failed")
NAMES = re.compile(r"'[^']*'(, '[^']*')*")  # of layers, in a reason: what differs between models


def parts(path):
    """The generated parts of the page on compatibility, by name."""
    report = read_json(path)
    models = report["models"]
    return {
        "zoo_summary": "\n".join(
            filter(None, (_summary(library, models) for library in LIBRARIES))
        ),
        "zoo_converted": _converted(report),
        "zoo_refused": _reasons(models, *WAYS),
        "zoo_not_saved": _reasons(models, "not_saved"),
    }


def is_converted(model):
    """Whether a model of the report was converted there and back."""
    return not any(way in model for way in WAYS)


def _reasons(models, *ways):
    """A line for each reason of some kind: the models that have it, and its words for the first."""
    found = {}
    for model in models:
        for text in (model[way] for way in ways if way in model):
            names, _ = found.setdefault(NAMES.sub("", text), ([], _one_line(text)))
            names.append(model["model"])
    rows = [[", ".join(names), text] for names, text in found.values()]
    return markdown_table(["Models", "Why (of the first)"], rows) if rows else "None of these."


def _summary(library, models):
    """How many of a library's models convert, in a line; empty if none is on record."""
    of_it = [model for model in models if model["library"] == library]
    if not of_it:
        return ""
    converted = [model for model in of_it if is_converted(model)]
    saved = sum("difference_loaded" in model for model in converted)
    if not converted:
        return f"- {library}: none of {len(of_it)} models converts."
    ratios = [_difference(model) / max(model["difference_moved"], ROUNDING) for model in converted]
    return (
        f"- {library}: {len(converted)} of {len(of_it)} models convert; outputs differ by at most "
        f"{max(ratios):.1f} times what moving the last digits of the weights does, or "
        f"{ROUNDING:.0e} of the largest output where that is more (median: "
        f"{statistics.median(map(_difference, converted)):.0e} of the largest output); {saved} can "
        "be saved and loaded while overparameterized."
    )


def _difference(model):
    """The larger difference of a model's outputs, there and back."""
    return max(model[f"difference_{way}"] for way in ("overparameterized", "collapsed"))


def _converted(report):
    """A line for each model that converts."""
    rows = [_row(model) for model in report["models"] if is_converted(model)]
    head = [
        "Model",
        f"Parameters: original, depth {report['depth']}",
        "Kernels factored (of the parameters in kernels)",
        "Largest difference of outputs: there, back, loaded",
        "When last digits of its weights are moved",
        "Loss before each of two steps",
    ]
    below = (
        circumstances(report) + "differences are relative to the largest output; losses are mean "
        "squared errors to random targets."
    )
    return markdown_table(head, rows, below)


def _row(model):
    """The cells of a model that converts."""
    loaded = f"{model['difference_loaded']:.0e}" if "difference_loaded" in model else "not saved"
    return [
        model["model"],
        f"{model['parameters']:,}, {model['parameters_deep']:,}",
        f"{model['kernels_factored']} of {model['kernels']} ({model['share_of_kernels']:.0%})",
        f"{model['difference_overparameterized']:.0e}, {model['difference_collapsed']:.0e}, "
        f"{loaded}",
        f"{model['difference_moved']:.0e}",
        ", ".join("not finite" if loss is None else f"{loss:.4g}" for loss in model["losses"]),
    ]


def _one_line(text):
    """A message as the text of a cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
