"""What is asked of a run of the other networks, by a command line or by code."""

import dataclasses

from running.options import option
from running.records import elsewhere, settings_digest

TITLES = {"lenet5": "LeNet-5", "keras_example": "Keras's example", "resnet8": "ResNet-8"}
MODEL_NAMES = {
    "none": "original",
    "dense": "dense layers factored",
    "all": "convolutions factored too",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that shapes the result of a run.

    `factored` names the layers that are products of matrices: "none", "dense", or "all", which adds
    the convolutions. `start_scale` multiplies the kernels of Glorot's uniform start.
    """

    network: str = "lenet5"
    factored: str = "none"
    depth: int = 2
    learning_rate: float = 0.02
    start_scale: float = 1.0
    seed: int = 0
    epochs: int = 2
    dataset: str = "mnist"
    jit: str = option("off", choices=("auto", "on", "off"), help="XLA; on PyTorch, its compiler")
    mixed_precision: str = option("off", choices=("off", "float16", "bfloat16"), help="compute in")
    backend: str = "tensorflow"  # each draws its own weights and masks from a seed

    def __post_init__(self):
        if self.factored == "none":
            object.__setattr__(self, "depth", 1)

    @property
    def model_name(self):
        """How the model is called in figures and tables."""
        return MODEL_NAMES[self.factored]

    @property
    def run_name(self):
        """A readable folder name that differs whenever the settings do."""
        digest = settings_digest(self, by_name=True)
        what = f"{self.dataset}-{self.network}-{self.factored}{elsewhere(self.backend)}"
        return f"{what}-seed{self.seed}-{digest}"

    def build_network(self, image_shape):
        """The network for images of a shape, with weights drawn for `seed`."""
        from experiments.mnist.other_networks import build_network  # and Keras

        return build_network(self, image_shape)
