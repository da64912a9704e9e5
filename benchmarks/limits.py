"""What the machine can do at most: arithmetic of matrix products, and traffic to its memory.

Both are steps for `turns.steady`, the product on any backend. They take their turns among a
benchmark's contenders, so that a contender's share of a limit is not one of the machine's better or
worse minutes.
"""

import keras
from keras import ops
from turns import steady

from keras_overparam.sweep.compilation import compiled


def matrix_product(size, dtype="float32"):
    """A step of `2 size³` operations: the product of two square matrices."""
    matrix = ops.cast(keras.random.normal((size, size)), dtype)
    product = compiled(lambda a: a @ a, xla=False)
    return lambda: product(matrix)[0, 0]


def fastest_size(dtype="float32", first=512, longest=0.1):
    """Size at which square matrices are multiplied at the highest rate.

    Args:
        dtype: name of their dtype.
        first: the smallest size tried; the others are its doubles.
        longest: seconds of a product after which no larger one is tried.
    """
    rates, size, seconds = {}, first, 0.0
    while not rates or seconds < longest:
        seconds = steady(matrix_product(size, dtype))()
        rates[size] = size**3 / seconds
        size *= 2
    return max(rates, key=rates.get)


def addition(elements, dtype="float32"):
    """A step of three accesses for each element: one long vector is added to another in place.

    In place, because memory that is new to the process costs more than its traffic.
    """
    import tensorflow as tf

    term = tf.ones(elements, dtype)
    total = tf.Variable(term)

    @tf.function
    def add():
        total.assign_add(term, read_value=False)
        return total[0]

    return add


def long_vector():
    """Number of elements that fit into no cache, and keep a GPU busy for longer than a launch."""
    import tensorflow as tf

    return 2**28 if tf.config.get_visible_devices("GPU") else 2**25
