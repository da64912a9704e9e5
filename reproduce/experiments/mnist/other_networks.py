"""Convolutional networks other than the tutorial's, original and overparameterized.

The original is built first and `overparameterize` splits its kernels into balanced factors, so that
all networks of the same seed and start scale begin as the same function. Training is the tutorial
network's: its batches, momentum and decay of the rate; no L2 term.
"""

import dataclasses

import keras
from keras import layers

from experiments.mnist.tutorial_cnn import TwoPartObjective
from keras_overparam import overparameterize
from running.options import option
from running.records import elsewhere, settings_digest

CLASSES = 10
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
    jit: str = option("off", choices=("auto", "on", "off"), help="XLA")
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
        what = f"{self.dataset}-{self.network}-{self.factored}{elsewhere(self)}"
        return f"{what}-seed{self.seed}-{digest}"

    def build_network(self, image_shape):
        """The network for images of a shape, with weights drawn for `seed`."""
        inputs = keras.Input(image_shape, name="pixels")
        outputs = NETWORKS[self.network](inputs, Starts(self))
        network = keras.Model(inputs, outputs, name=self.network)
        if self.factored == "dense":
            network = overparameterize(network, self.depth, layers=layers.Dense)
        elif self.factored == "all":
            network = overparameterize(network, self.depth)
        return TwoPartObjective(network.inputs, network.outputs, name=self.network)


class Starts:
    """The layers of one network that have kernels, each with a start of its own."""

    def __init__(self, settings):
        self.seed = 1000 * settings.seed
        self.variance = settings.start_scale**2

    def _initializer(self):
        self.seed += 1
        return keras.initializers.VarianceScaling(
            self.variance, mode="fan_avg", distribution="uniform", seed=self.seed
        )

    def convolution(self, filters, size, **options):
        """A square convolution with its start."""
        return layers.Conv2D(filters, size, kernel_initializer=self._initializer(), **options)

    def dense(self, units, **options):
        """A dense layer with its start."""
        return layers.Dense(units, kernel_initializer=self._initializer(), **options)

    def logits(self):
        """The last layer, in full precision under a mixed policy, as Keras recommends."""
        dtype = keras.config.dtype_policy().variable_dtype
        return self.dense(CLASSES, dtype=dtype, name="logits")


def lenet5(inputs, starts):
    """LeNet-5 (LeCun et al. 1998): tanh, average pooling, three dense layers."""
    x = starts.convolution(6, 5, padding="same", activation="tanh")(inputs)
    x = layers.AveragePooling2D(2)(x)
    x = starts.convolution(16, 5, activation="tanh")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    x = starts.dense(120, activation="tanh")(x)
    x = starts.dense(84, activation="tanh")(x)
    return starts.logits()(x)


def keras_example(inputs, starts):
    """The network of Keras's example "Simple MNIST convnet": one dense layer, dropout before it."""
    x = starts.convolution(32, 3, activation="relu")(inputs)
    x = layers.MaxPooling2D()(x)
    x = starts.convolution(64, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5, seed=starts.seed)(x)
    return starts.logits()(x)


def resnet8(inputs, starts):
    """The smallest residual network of He et al. (2016) for small images, of half their filters."""
    x = starts.convolution(8, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for filters, stride in ((8, 1), (16, 2), (32, 2)):
        x = _residual_block(x, filters, stride, starts)
    x = layers.GlobalAveragePooling2D()(x)
    return starts.logits()(x)


def _residual_block(x, filters, stride, starts):
    """Two convolutions, and the input added; where its shape changes, a 1×1 convolution of it."""
    options = {"padding": "same", "use_bias": False}
    y = starts.convolution(filters, 3, strides=stride, **options)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(starts.convolution(filters, 3, **options)(y))
    if stride > 1:
        x = starts.convolution(filters, 1, strides=stride, **options)(x)
        x = layers.BatchNormalization()(x)
    return layers.ReLU()(layers.Add()([x, y]))


NETWORKS = {"lenet5": lenet5, "keras_example": keras_example, "resnet8": resnet8}
TITLES = {"lenet5": "LeNet-5", "keras_example": "Keras's example", "resnet8": "ResNet-8"}
