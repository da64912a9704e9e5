"""What TensorBoard shows of a run beside its curves: settings, hyperparameters, figures."""

import dataclasses

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

COMPARED_BY = {
    "validation/error_percent": "validation error (%)",
    "training/objective": "training objective",
}


def describe(settings):
    """Write what a run is, as a text and as hyperparameters, to the present writer.

    Args:
        settings: a frozen dataclass with `model_name`.
    """
    values = {
        name: "" if value is None else value for name, value in dataclasses.asdict(settings).items()
    }
    lines = [f"{settings.model_name}", "", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in values.items() if value != ""]
    tf.summary.text("settings", "\n".join(lines), step=0)
    metrics = [hparams.Metric(tag, display_name=name) for tag, name in COMPARED_BY.items()]
    hparams.hparams_config([hparams.HParam(name) for name in values], metrics)
    hparams.hparams({"model": settings.model_name} | values)


def show_figure(log_dir, name, path):
    """Put a figure among a run's images.

    Args:
        log_dir: folder of the run's logs.
        name: what the dashboard calls it.
        path: a PNG file.
    """
    image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3)
    writer = tf.summary.create_file_writer(str(log_dir))
    with writer.as_default(step=0):
        tf.summary.image(name, image[None])
    writer.close()
