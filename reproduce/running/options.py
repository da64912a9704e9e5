"""Command-line options that every experiment has."""

import argparse

import tensorflow as tf

from running.records import OutputError

# Sizes that TensorFlow counts with; numbers whose squares float32 can hold.
RANGES = {int: ("integer", 1, 2**31 - 1), float: ("number", 1e-18, 1e18)}
LARGEST_SEED = 2**32 - 1  # of NumPy's, which `keras.utils.set_random_seed` sets


def positive(kind):
    """Type of an option that takes a positive number of the given kind."""
    name, least, most = RANGES[kind]

    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not least <= value <= most:
            bounds = f" from {least} to {most}" if value > 0 else ""
            raise argparse.ArgumentTypeError(
                f"must be a positive {name}{bounds}, received {text!r}"
            )
        return value

    return convert


def seed(text):
    """Type of an option that takes a seed."""
    if not text.isdecimal() or len(text) > 99 or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"must be an integer from 0 to {LARGEST_SEED}, received {text!r}"
        )
    return int(text)


def device(text):
    """Type of an option that takes a device."""
    kind, colon, number = text.partition(":")
    one = kind == "gpu" and number.isdecimal()
    if not (one if colon else kind in ("auto", "cpu", "gpu")):
        raise argparse.ArgumentTypeError(f"must be auto, cpu, gpu or gpu:N, received {text!r}")
    return text


class Distinct(argparse.Action):
    """Takes several values, each once: a run that is counted twice would bias what is reported."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Keep the values, or refuse them."""
        for value in values:
            if values.count(value) > 1:
                raise argparse.ArgumentError(self, f"must name each once, received {value} twice")
        setattr(namespace, self.dest, values)


def add_seeds(group, default):
    """Option on the seeds of the runs."""
    group.add_argument(
        "--seeds", type=seed, nargs="+", action=Distinct, default=default, metavar="SEED"
    )


def add_run_options(group, epochs=10):
    """Options on how many runs of a network, and how long."""
    add_seeds(group, [0])
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
    machine.add_argument(
        "--device", type=device, default="auto", help="auto, cpu, gpu or gpu:N (%(default)s)"
    )
    machine.add_argument("--output", default=output, help="folder of the runs (%(default)s)")
    machine.add_argument("--again", action="store_true", help="repeat finished runs")
    return machine


def choose_device(name, strategy="none"):
    """Make only the asked-for device visible; "auto" leaves the choice to TensorFlow.

    Under a strategy, "gpu" means all of them.
    """
    kind, _, number = name.partition(":")
    gpus = tf.config.list_physical_devices("GPU")
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
