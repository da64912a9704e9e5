"""What TensorBoard shows of a run beside its curves: settings, hyperparameters, figures."""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from keras_overparam.event_log import EventLog

CHARTS = {
    "Training": {
        "Objective": ["^training/objective$"],
        "Validation error (%)": ["^validation/error_percent$"],
        "Cross-entropy and L2 term": ["^training/(cross_entropy|l2)$"],
    }
}


def describe(settings, log):
    """Show what a run is, as a text and as hyperparameters, and its curves before others.

    Args:
        settings: a frozen dataclass with `model_name`.
        log: the run's `EventLog`.
    """
    values = {
        name: "" if value is None else value for name, value in dataclasses.asdict(settings).items()
    }
    lines = [f"{settings.model_name}", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in values.items() if value != ""]
    log.text("settings", "\n".join(lines))
    log.hparams({"model": settings.model_name} | values)
    log.charts(CHARTS)


def show_figure(log_dir, name, path):
    """Put a figure among a run's images.

    Args:
        log_dir: folder of the run's logs.
        name: what the dashboard calls it.
        path: a PNG file.
    """
    log = EventLog(log_dir)
    log.image(name, Path(path).read_bytes())
    log.flush()


def opening(output):
    """The command that opens TensorBoard on the runs of a folder, as a shell takes it.

    `tensorboard` is its name where the shell finds this environment's; else Python starts it.
    """
    python = Path(sys.executable)
    found = shutil.which("tensorboard")
    ours = found and Path(found).parent == python.parent
    words = ["tensorboard"] if ours else [str(python), "-m", "tensorboard.main"]
    words += ["--logdir", str(output)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
