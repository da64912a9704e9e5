"""Training steps of a linear map on Keras: plain, factored, stacked, and written by hand."""

from itertools import pairwise

import keras
import numpy as np
import tensorflow as tf
from linear_task import MOMENTUM, multiply

from keras_overparam import FactoredDense


class OrderedDense(keras.layers.Layer):
    """The factored layer as one would write it by hand for one order."""

    def __init__(self, sizes, order, **kwargs):
        super().__init__(**kwargs)
        self.sizes, self.order = sizes, order

    def build(self, _):
        """Create factors and bias."""
        self.factors = [self.add_weight(shape=shape) for shape in pairwise(self.sizes)]
        self.bias = self.add_weight(shape=(self.sizes[-1],), initializer="zeros")

    def call(self, x):
        """Multiply in the order."""
        factors = [tf.convert_to_tensor(factor) for factor in self.factors]
        return multiply(self.order, [x, *factors]) + self.bias


class KerasTraining:
    """Layers, one after another, trained by one compiled function."""

    def __init__(self, task, layers, known_batch=True):
        self.layers = layers
        for layer, size in zip(layers, task.sizes, strict=False):
            layer.build((None, size))
        variables = [v for layer in layers for v in layer.trainable_variables]
        self.matrices = [v for v in variables if len(v.shape) == 2]
        for variable, start in zip(self.matrices, task.matrices(), strict=True):
            variable.assign(start)
        self.variables = [v.value for v in variables]
        self.optimizer = keras.optimizers.SGD(task.rate, momentum=MOMENTUM)
        self.optimizer.build(variables)
        self.x = tf.cast(task.inputs(), task.dtype)
        signature = tf.TensorSpec((task.batch if known_batch else None, task.sizes[0]), task.dtype)
        train = tf.function(self._train, [signature], autograph=False, jit_compile=task.jit)
        self.train = train.get_concrete_function()

    def _train(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = x
            for layer in self.layers:
                outputs = layer(outputs)
            loss = tf.reduce_mean(tf.square(outputs))
        slope, *gradients = tape.gradient(loss, [x, *self.variables])
        self.optimizer.apply(gradients)
        return loss, slope

    def step(self):
        """Take a step; the loss before it."""
        return self.train(self.x)[0]

    def values(self):
        """The matrices."""
        return [np.asarray(matrix) for matrix in self.matrices]


def dense(task):
    """The plain layer."""
    layer = keras.layers.Dense(task.sizes[-1], dtype=task.dtype)
    return KerasTraining(task.plain, [layer])


def factored(task, known_batch=True):
    """The factored layer."""
    layer = FactoredDense(
        task.sizes[-1],
        depth=len(task.sizes) - 1,
        width=task.sizes[1:-1],
        factorization="independent",
        dtype=task.dtype,
    )
    return KerasTraining(task, [layer], known_batch)


def stacked(task):
    """Plain layers one after another, as one would overparameterize without a factored layer."""
    *hidden, units = task.sizes[1:]
    layers = [keras.layers.Dense(width, use_bias=False, dtype=task.dtype) for width in hidden]
    return KerasTraining(task, [*layers, keras.layers.Dense(units, dtype=task.dtype)])


def ordered(task, order):
    """The layer written by hand."""
    return KerasTraining(task, [OrderedDense(task.sizes, order, dtype=task.dtype)])
