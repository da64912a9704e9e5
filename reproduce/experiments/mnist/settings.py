"""What is asked of a run of the tutorial's network, by a command line or by code."""

import dataclasses

from running import options as opt
from running.records import elsewhere, settings_digest

REGULARIZE = ("product", "factors", "none")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that shapes the result of a run.

    `depth` 1 is the original network. `regularize` says what the L2 term acts on: the end-to-end
    matrices ("product"), each matrix ("factors"; the same thing at depth 1) or nothing ("none").
    """

    depth: int = opt.option(1, help="matrices per dense layer (2)")
    width: int | None = opt.option(None, help="size between them (min of both sides)")
    regularize: str = opt.option(
        "product",
        choices=REGULARIZE,
        help="what the L2 term of the overparameterized network acts on (%(default)s)",
    )
    learning_rate: float = opt.option(0.01, metavar="RATE")
    init_stddev: float = opt.option(0.1, metavar="STDDEV")
    seed: int = 0
    epochs: int = 10
    dataset: str = "mnist"
    jit: str = opt.option(
        "auto", choices=("auto", "on", "off"), help="XLA; on PyTorch, its compiler"
    )
    mixed_precision: str = opt.option(
        "off", choices=("off", "float16", "bfloat16"), help="compute in"
    )
    backend: str = "tensorflow"  # each draws its own weights and masks from a seed

    def __post_init__(self):
        if self.depth == 1:  # one matrix is its own product, and has no hidden width
            object.__setattr__(self, "width", None)
            if self.regularize == "factors":
                object.__setattr__(self, "regularize", "product")

    @property
    def model_name(self):
        """How the model is called in figures and tables."""
        if self.depth == 1:
            return "original"
        return "overparameterized" if self.depth == 2 else f"overparameterized, depth {self.depth}"

    @property
    def run_name(self):
        """A readable folder name that differs whenever the settings do."""
        model = "original" if self.depth == 1 else f"depth{self.depth}"
        plain = self.depth == 1 and self.regularize == "product"
        return self._name(model if plain else f"{model}-{self.regularize}")

    @property
    def older_name(self):
        """The folder name that version 0.1.0 gave an original network; None of another."""
        return self._name(f"original-{self.regularize}") if self.depth == 1 else None

    def _name(self, model):
        digest = settings_digest(self, by_name=True)
        return f"{self.dataset}-{model}{elsewhere(self.backend)}-seed{self.seed}-{digest}"

    def build_network(self, image_shape):
        """The network for images of a shape, with weights drawn for `seed`."""
        from experiments.mnist.tutorial_cnn import build_network  # and Keras

        return build_network(self, image_shape)


def add_options(parser, group, settings, datasets, output):
    """Options that all commands on networks have; the group of those on the machine.

    Args:
        parser: of the command line.
        group: for the options on how many runs, and how long.
        settings: class of the runs' settings.
        datasets: names to choose from.
        output: the usual folder of the runs.
    """
    opt.add_seeds(group, [0])
    opt.add_fields(group, settings, "epochs")
    opt.add_data_options(parser, datasets)
    machine = opt.add_output_options(parser, output)
    opt.add_fields(machine, settings, "jit", "mixed_precision")
    return machine
