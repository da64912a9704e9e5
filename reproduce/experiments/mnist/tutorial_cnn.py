"""The convolutional network of TensorFlow's MNIST tutorial, original and overparameterized.

After `tutorials/image/mnist/convolutional.py` of tensorflow/models: constants, order of the batches
and learning-rate schedule are the tutorial's. One difference remains: Keras multiplies the gradient
by the learning rate before it enters the momentum, TensorFlow 1 multiplied the momentum by it; the
two differ for a few steps after each decay of the rate by 5 %.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_overparam import FactoredDense
from running.machine import framework
from running.strategies import in_scope

L2_COEFFICIENT = 5e-4  # times half the squared norm
DECAY = 0.95
MOMENTUM = 0.9
BATCH = 64
ROWS = 500  # of images, where nothing is trained
HELD_OUT = 5000  # first training images, for validation


def build_network(settings, image_shape=(28, 28, 1)):
    """The network, with weights drawn for `settings.seed`.

    Networks of the same seed share the convolutions' weights, the dropout masks and the first
    matrix of each dense layer, whatever their depth. Within a strategy's scope the masks are those
    of one device too.
    """
    dropout = layers.Dropout
    if in_scope():
        from running.replicas import GlobalBatchDropout as dropout

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
            variable.regularizer = OnePassL2(variable.regularizer.l2)
    return network


class OnePassL2(keras.regularizers.L2):
    """Keras's L2 without an array of squares: by TensorFlow's own operation, or fused by XLA.

    On PyTorch it is the product of the flattened matrix with itself.
    """

    def __call__(self, x):
        backend = keras.backend.backend()
        if backend == "tensorflow":
            return 2 * self.l2 * framework().nn.l2_loss(x)
        if backend == "torch":
            flat = ops.reshape(x, (-1,))
            return self.l2 * ops.dot(flat, flat)
        return super().__call__(x)


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
    """A functional model that reports each batch's cross-entropy, L2 term and their sum."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.objective = Latest(name="objective")
        self.cross_entropy = Latest(name="cross_entropy")
        self.l2 = Latest(name="l2")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Mean cross-entropy of the batch plus the regularizers' terms."""
        cross_entropy, l2 = self.parts(y, y_pred)
        objective = cross_entropy + l2
        self.objective.update_state(objective)
        self.cross_entropy.update_state(cross_entropy)
        self.l2.update_state(l2)
        return objective

    def parts(self, y, y_pred):
        """Cross-entropy and L2 term.

        On each of several devices, its share of them: the sum over all devices is the mean over the
        whole batch, and one L2 term.
        """
        logits = ops.cast(y_pred, "float32")
        cross_entropy = ops.mean(
            keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        )
        l2 = sum(self.losses, start=ops.zeros_like(cross_entropy))
        replicas = framework().distribute.get_strategy().num_replicas_in_sync if in_scope() else 1
        return cross_entropy / replicas, l2 / replicas


class Latest(keras.metrics.Metric):
    """A value of the last batch, where Keras's metrics tell of all since the epoch began."""

    def __init__(self, name, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.value = self.add_variable((), initializer="zeros", name="value")

    def update_state(self, value):
        """Take a batch's value."""
        self.value.assign(ops.cast(value, self.dtype))

    def result(self):
        """The value."""
        return ops.convert_to_tensor(self.value)


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
    """Pixels 0…255, an array or a tensor, as the tutorial feeds them: −0.5…0.5."""
    numbers = pixels.astype("float32") if isinstance(pixels, np.ndarray) else _float32(pixels)
    return (numbers - 127.5) / 255.0


def _float32(tensor):
    return ops.cast(tensor, "float32")


def batches(images, labels, first_step, last_step):
    """Batches of steps `first_step … last_step − 1`, in file order, for `fit`.

    Step t takes the 64 examples from `t · 64 mod (n − 64)` on, as the tutorial does.
    """
    if keras.backend.backend() == "tensorflow":
        return _data_set(images, labels, first_step, last_step)
    return Batches(images, labels, range(first_step, last_step))


def _offset(step, size):
    return step * BATCH % (size - BATCH)


class Batches(keras.utils.PyDataset):
    """The batches of some steps, for any backend."""

    def __init__(self, images, labels, steps):
        super().__init__()
        self.images, self.labels, self.steps = images, labels, steps

    def __len__(self):
        return len(self.steps)

    def __getitem__(self, index):
        offset = _offset(self.steps[index], len(self.labels))
        rows = slice(offset, offset + BATCH)
        return scale(self.images[rows]), self.labels[rows]


def _data_set(images, labels, first_step, last_step):
    """The same batches by `tf.data`, which makes them while the network trains."""
    tf = framework()
    images, labels = tf.constant(images), tf.constant(labels)

    def batch(step):
        offset = _offset(step, len(labels))
        x = tf.ensure_shape(images[offset : offset + BATCH], (BATCH, *images.shape[1:]))
        return scale(x), tf.ensure_shape(labels[offset : offset + BATCH], (BATCH,))

    steps = tf.data.Dataset.range(first_step, last_step)
    return _untuned(steps.map(batch, num_parallel_calls=2).prefetch(4))


def _untuned(dataset):
    """The dataset without tf.data's autotuning, of which there is nothing to gain here.

    Its thread sleeps twice as long each time, 10 ms, 20 ms, …, and the end of an iteration now and
    then waits for it to wake: an epoch of 25 seconds took 41, one of 42 took 82.
    """
    options = framework().data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def logits(network, images):
    """Outputs of a network for uint8 images, as a float32 array."""
    if keras.backend.backend() == "tensorflow":
        slices = framework().data.Dataset.from_tensor_slices(images)
        outputs = network.predict(_untuned(slices.batch(ROWS).map(scale).prefetch(2)), verbose=0)
    else:
        outputs = network.predict(scale(images), batch_size=ROWS, verbose=0)
    return np.asarray(outputs, "float32")


def error_percent(outputs, labels):
    """Share of wrong predictions, in percent."""
    return float(100.0 * np.mean(np.argmax(outputs, axis=-1) != labels))


def plain(network):
    """The network without the training harness, savable and loadable with the package alone."""
    return keras.Model(*ends(network), name=network.name)


def ends(network):
    """The input and the output of a network.

    As lists, of one each, they make Keras 3.15 on JAX warn of an array that it then takes.
    """
    (inputs,), (outputs,) = network.inputs, network.outputs
    return inputs, outputs
