"""Command-line options that every experiment has."""

import argparse
import math

import tensorflow as tf

from plumbing.records import OutputError


def positive(kind):
    """Type of an option that takes a positive, finite number of the given kind."""

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not (value > 0 and math.isfinite(value)):
            name = "integer" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"must be a positive {name}, received {text!r}")
        return value

    return convert


def non_negative(text):
    """Type of an option that takes an integer ≥ 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a non-negative integer, received {text!r}")
    return int(text)


def add_run_options(group, epochs=10):
    """Options on how many runs of a network, and how long."""
    group.add_argument("--seeds", type=non_negative, nargs="+", default=[0], metavar="SEED")
    group.add_argument("--epochs", type=positive(int), default=epochs)


def add_data_options(parser, datasets=("auto", "mnist", "digits"), archives="four MNIST archives"):
    """Options on where the data come from, and which they are where there is a choice."""
    data = parser.add_argument_group("data")
    if datasets:
        data.add_argument("--dataset", choices=datasets, default="auto")
    data.add_argument("--data-dir", help="prepared TFDS data (TFDS_DATA_DIR)")
    data.add_argument("--archives", help=f"folder with the {archives} (KERAS_OVERPARAM_ARCHIVES)")


def add_machine_options(parser, output, jit="auto"):
    """Options on where and how to compute, and where to leave the results; their group."""
    machine = add_output_options(parser, output)
    machine.add_argument("--jit", choices=("auto", "on", "off"), default=jit, help="XLA")
    machine.add_argument(
        "--mixed-precision",
        choices=("off", "float16", "bfloat16"),
        default="off",
        help="compute in",
    )
    return machine


def add_output_options(parser, output):
    """Options on where to compute, and where to leave the results; their group."""
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, gpu or gpu:N (%(default)s)")
    machine.add_argument("--output", default=output, help="folder of the runs (%(default)s)")
    machine.add_argument("--again", action="store_true", help="repeat finished runs")
    return machine


def choose_device(name, strategy="none"):
    """Make only the asked-for device visible; "auto" leaves the choice to TensorFlow.

    Under a strategy, "gpu" means all of them.
    """
    kind, _, number = name.partition(":")
    gpus = tf.config.list_physical_devices("GPU")
    if kind not in ("auto", "cpu", "gpu") or (number and (kind != "gpu" or not number.isdigit())):
        raise OutputError(f"--device must be auto, cpu, gpu or gpu:N. Received: {name}")
    if number and strategy == "mirrored":
        raise OutputError(
            f"--strategy mirrored trains on several devices, and --device {name} is one; use "
            "--device gpu for all, and CUDA_VISIBLE_DEVICES to leave some out."
        )
    if kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
    if kind == "gpu":
        index = int(number or 0)
        if index >= len(gpus):
            raise OutputError(
                f"--device {name} asks for a GPU, but TensorFlow sees {len(gpus)} of them; "
                "use --device cpu, or install tensorflow[and-cuda]."
            )
        if number or strategy == "none":
            tf.config.set_visible_devices(gpus[index], "GPU")
