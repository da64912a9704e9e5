"""Convolutional networks other than the tutorial's, original and overparameterized.

The original is built first and `overparameterize` splits its kernels into balanced factors, so that
all networks of the same seed and start scale begin as the same function. Training is the tutorial
network's: its batches, momentum and decay of the rate; no L2 term.
"""

import keras
from keras import layers

from experiments.mnist.tutorial_cnn import TwoPartObjective, ends
from keras_overparam import overparameterize

CLASSES = 10


def build_network(settings, image_shape):
    """The network for images of a shape, with weights drawn for `settings.seed`."""
    inputs = keras.Input(image_shape, name="pixels")
    outputs = NETWORKS[settings.network](inputs, Starts(settings))
    network = keras.Model(inputs, outputs, name=settings.network)
    if settings.factored == "dense":
        network = overparameterize(network, settings.depth, layers=layers.Dense)
    elif settings.factored == "all":
        network = overparameterize(network, settings.depth)
    return TwoPartObjective(*ends(network), name=settings.network)


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
