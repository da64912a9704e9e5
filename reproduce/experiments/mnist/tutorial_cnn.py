"""The convolutional network of TensorFlow's MNIST tutorial, original and overparameterized.

After `tutorials/image/mnist/convolutional.py` of tensorflow/models: constants, order of the batches
and learning-rate schedule are the tutorial's. One difference remains: Keras multiplies the gradient
by the learning rate before it enters the momentum, TensorFlow 1 multiplied the momentum by it; the
two differ for a few steps after each decay of the rate by 5 %.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_overparam import FactoredDense
from running.options import option
from running.records import settings_digest
from running.strategies import GlobalBatchDropout

L2_COEFFICIENT = 5e-4  # times half the squared norm
DECAY = 0.95
MOMENTUM = 0.9
BATCH = 64
HELD_OUT = 5000  # first training images, for validation
REGULARIZE = ("product", "factors", "none")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that shapes the result of a run.

    `depth` 1 is the original network. `regularize` says what the L2 term acts on: the end-to-end
    matrices ("product"), each matrix ("factors"; the same thing at depth 1) or nothing ("none").
    """

    depth: int = option(1, help="matrices per dense layer (2)")
    width: int | None = option(None, help="size between them (min of both sides)")
    regularize: str = option(
        "product",
        choices=REGULARIZE,
        help="what the L2 term of the overparameterized network acts on (%(default)s)",
    )
    learning_rate: float = option(0.01, metavar="RATE")
    init_stddev: float = option(0.1, metavar="STDDEV")
    seed: int = 0
    epochs: int = 10
    dataset: str = "mnist"
    jit: str = option("auto", choices=("auto", "on", "off"), help="XLA")
    mixed_precision: str = option("off", choices=("off", "float16", "bfloat16"), help="compute in")

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
        digest = settings_digest(self, by_name=True)
        model = "original" if self.depth == 1 else f"depth{self.depth}"
        return f"{self.dataset}-{model}-{self.regularize}-seed{self.seed}-{digest}"

    def build_network(self, image_shape):
        """The network for images of a shape, with weights drawn for `seed`."""
        return build_network(self, image_shape)


def build_network(settings, image_shape=(28, 28, 1)):
    """The network, with weights drawn for `settings.seed`.

    Networks of the same seed share the convolutions' weights, the dropout masks and the first
    matrix of each dense layer, whatever their depth. Within a strategy's scope the masks are those
    of one device too.
    """
    dropout = GlobalBatchDropout if tf.distribute.has_strategy() else layers.Dropout

    def weights(index):
        return keras.initializers.TruncatedNormal(
            stddev=settings.init_stddev, seed=1000 * settings.seed + 100 * index
        )

    def convolution(index, filters, bias):
        return layers.Conv2D(
            filters,
            5,
            padding="same",
            activation="relu",
            kernel_initializer=weights(index),
            bias_initializer=keras.initializers.Constant(bias),
            name=f"conv{index}",
        )

    inputs = keras.Input(image_shape, name="pixels")
    x = convolution(1, 32, bias=0.0)(inputs)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = convolution(2, 64, bias=0.1)(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = dense(settings, 512, "relu", weights(3), "dense1")(x)
    x = dropout(0.5, seed=1000 * settings.seed, name="dropout")(x)
    outputs = dense(settings, 10, None, weights(4), "logits")(x)
    network = TwoPartObjective(inputs, outputs, name="tutorial_cnn")
    for variable in network.trainable_variables:
        # Of the variables only: the layers' configurations stay loadable without this module.
        if isinstance(variable.regularizer, keras.regularizers.L2):
            variable.regularizer = _OnePassL2(variable.regularizer.l2)
    return network


class _OnePassL2(keras.regularizers.L2):
    """Keras's L2 without an array of squares: by TensorFlow's own operation."""

    def __call__(self, x):
        return 2 * self.l2 * tf.nn.l2_loss(x)


def dense(settings, units, activation, kernel_initializer, name):
    """A dense layer of the tutorial: plain at depth 1, otherwise several matrices in succession."""
    regularizer = None
    if settings.regularize != "none":
        regularizer = keras.regularizers.L2(L2_COEFFICIENT / 2)
    common = {
        "activation": activation,
        "kernel_initializer": kernel_initializer,
        "bias_initializer": keras.initializers.Constant(0.1),
        "bias_regularizer": regularizer,
        "name": name,
        "dtype": None if name != "logits" else _logits_dtype(),
    }
    if settings.depth == 1:
        return layers.Dense(units, kernel_regularizer=regularizer, **common)
    target = "kernel_regularizer" if settings.regularize == "product" else "factor_regularizer"
    return FactoredDense(
        units,
        depth=settings.depth,
        width=settings.width,
        factorization="independent",
        **{target: regularizer},
        **common,
    )


def _logits_dtype():
    """Logits stay in full precision under a mixed policy, as Keras recommends."""
    return keras.config.dtype_policy().variable_dtype


@keras.saving.register_keras_serializable(package="keras_overparam_reproduce")
class TwoPartObjective(keras.Model):
    """A functional model that reports cross-entropy and L2 term beside their sum, the objective."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cross_entropy = keras.metrics.Mean(name="cross_entropy")
        self.l2 = keras.metrics.Mean(name="l2")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean cross-entropy of the batch plus the regularizers' terms."""
        cross_entropy, l2 = self.parts(y, y_pred)
        self.cross_entropy.update_state(cross_entropy)
        self.l2.update_state(l2)
        return cross_entropy + l2

    def parts(self, y, y_pred):
        """Cross-entropy and L2 term.

        On each of several devices, its share of them: the sum over all devices is the mean over the
        whole batch, and one L2 term.
        """
        cross_entropy = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.cast(y_pred, tf.float32))
        )
        l2 = tf.add_n(self.losses) if self.losses else tf.zeros_like(cross_entropy)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return cross_entropy / replicas, l2 / replicas


def compile_network(network, settings, train_size):
    """Attach the tutorial's optimizer: momentum 0.9, rate decayed by 5 % per pass over the data."""
    schedule = keras.optimizers.schedules.ExponentialDecay(
        settings.learning_rate, train_size / BATCH, DECAY, staircase=True
    )
    optimizer = keras.optimizers.SGD(schedule, momentum=MOMENTUM)
    if settings.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    jit = {"auto": "auto", "on": True, "off": False}[settings.jit]
    network.compile(optimizer=optimizer, jit_compile=jit)
    optimizer.build(network.trainable_variables)


def epoch_ends(settings, train_size):
    """Step at which each epoch ends: the steps taken once `k` times the data was seen."""
    return [epoch * train_size // BATCH for epoch in range(1, settings.epochs + 1)]


def scale(pixels):
    """Pixels 0…255 as the tutorial feeds them: −0.5…0.5."""
    return (tf.cast(pixels, tf.float32) - 127.5) / 255.0


def batches(images, labels, first_step, last_step):
    """Batches of steps `first_step … last_step − 1`, in file order.

    Step t takes the 64 examples from `t · 64 mod (n − 64)` on, as the tutorial does.
    """
    images, labels = tf.constant(images), tf.constant(labels)
    size = len(labels)

    def batch(step):
        offset = step * BATCH % (size - BATCH)
        x = tf.ensure_shape(images[offset : offset + BATCH], (BATCH, *images.shape[1:]))
        return scale(x), tf.ensure_shape(labels[offset : offset + BATCH], (BATCH,))

    steps = tf.data.Dataset.range(first_step, last_step)
    return _untuned(steps.map(batch, num_parallel_calls=2).prefetch(4))


def _untuned(dataset):
    """The dataset without tf.data's autotuning, of which there is nothing to gain here.

    Its thread sleeps twice as long each time, 10 ms, 20 ms, …, and the end of an iteration now and
    then waits for it to wake: an epoch of 25 seconds took 41, one of 42 took 82.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def logits(network, images):
    """Outputs of a network for uint8 images, as a float32 array."""
    inputs = tf.data.Dataset.from_tensor_slices(images).batch(500).map(scale).prefetch(2)
    return np.asarray(network.predict(_untuned(inputs), verbose=0), "float32")


def error_percent(outputs, labels):
    """Share of wrong predictions, in percent."""
    return float(100.0 * np.mean(np.argmax(outputs, axis=-1) != labels))


def plain(network):
    """The network without the training harness, savable and loadable with the package alone."""
    return keras.Model(network.inputs, network.outputs, name=network.name)
