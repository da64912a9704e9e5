"""Command-line options that every experiment has."""

import argparse
import dataclasses
import difflib
import typing

# Sizes that TensorFlow counts with; numbers whose squares float32 can hold.
RANGES = {int: ("integer", 1, 2**31 - 1), float: ("number", 1e-18, 1e18)}
STRATEGIES = ("none", "mirrored", "multi-worker")
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


def option(default, **argument):
    """A field of a dataclass of settings that is an option of command lines too.

    Args:
        default: of both.
        **argument: of `add_argument`; the type follows from the field's. `flag` is the option's
            name where it is not the field's.
    """
    return dataclasses.field(default=default, metadata=argument)


def add_fields(group, settings, *names, **argument):
    """Options of some fields of a dataclass of settings, with their defaults, types and choices.

    Args:
        group: to add them to.
        settings: the dataclass.
        *names: of fields.
        **argument: what is otherwise on this command line.
    """
    fields = {field.name: field for field in dataclasses.fields(settings)}
    for name in names:
        of_field = {"default": fields[name].default, **fields[name].metadata}
        flag = of_field.pop("flag", name)
        kind = (typing.get_args(fields[name].type) or [fields[name].type])[0]
        if kind in RANGES:
            of_field["type"] = positive(kind)
        group.add_argument(_flag(flag), **of_field | argument)


def settings_from(settings, options, **changes):
    """Settings made of the options of a command line, and of what these do not say."""
    names = {f.name: f.metadata.get("flag", f.name) for f in dataclasses.fields(settings)}
    given = {field: getattr(options, name) for field, name in names.items() if name in options}
    if "backend" in names:
        import keras  # which imports its backend: only once all options are known

        given["backend"] = keras.backend.backend()
    return settings(**given | changes)


def _flag(name):
    return f"--{name.replace('_', '-')}"


def add_several(group, name, choices=None, default=None, **argument):
    """An option that takes several values, each once; by default all there are to choose from."""
    default = list(choices if default is None else default)
    group.add_argument(
        _flag(name), nargs="+", action=Distinct, choices=choices, default=default, **argument
    )


def add_seeds(group, default):
    """Option on the seeds of the runs."""
    add_several(group, "seeds", default=default, type=seed, metavar="SEED")


class Parser(argparse.ArgumentParser):
    """Says of an option that there is not which one there is instead."""

    def parse_args(self, arguments=None, namespace=None):
        """The options; an error of any that is not known."""
        options, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            given = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(given, self._option_string_actions, 1)
            meant = f"; did you mean {near[0]}?" if near else "; --help lists what there is"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options


def command_parser(doc):
    """A parser of the options of a script, which its docstring describes."""
    return Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_data_options(parser, datasets=("auto", "mnist", "digits"), archives="four MNIST archives"):
    """Options on where the data come from, and which they are where there is a choice."""
    data = parser.add_argument_group("data")
    if datasets:
        data.add_argument("--dataset", choices=datasets, default="auto")
    data.add_argument("--data-dir", help="prepared TFDS data (TFDS_DATA_DIR)")
    data.add_argument("--archives", help=f"folder with the {archives} (KERAS_OVERPARAM_ARCHIVES)")


def add_output_options(parser, output):
    """Options on where to compute, and where to leave the results; their group."""
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", type=device, default="auto", help="auto, cpu, gpu or gpu:N (%(default)s)"
    )
    machine.add_argument("--output", default=output, help="folder of the runs (%(default)s)")
    machine.add_argument("--again", action="store_true", help="repeat finished runs")
    return machine


def add_strategy_option(group):
    """The option that says what trains."""
    group.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="train on one device, on all of this machine, or on the workers in TF_CONFIG (none)",
    )


FLAGS = {
    "plot_only": "redraw from the records",
    "redraw": "redraw what is in assets/",
    "publish": "put the records into assets/ too",
}


def add_flags(group, *names):
    """Options on what becomes of the records, some of `FLAGS`."""
    for name in names:
        group.add_argument(_flag(name), action="store_true", help=FLAGS[name])
