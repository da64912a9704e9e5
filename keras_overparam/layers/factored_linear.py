"""The deep linear map: a kernel trained as a product of factors."""

from itertools import pairwise
from typing import Any

import keras
from keras import ops

from keras_overparam.checks import positive_integer
from keras_overparam.layers.factored_kernel import FactoredKernel
from keras_overparam.typing import Config, Factorization, Identifier, Shape, Tensor, Width


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredLinear(FactoredKernel):
    """Linear map `x @ K` trained through the factors of `K = A1 @ A2 @ … @ AN`.

    The layer computes what a `keras.layers.Dense` without bias computes, and can represent the same
    functions; gradient descent on the factors moves `K` differently (the end-to-end update rule),
    which can be faster. `A1` is nearest the input.

    Args:
        units: positive integer, size of the output.
        kernel_initializer: initializer of the kernel (of each factor if "independent").
        kernel_regularizer: regularizer of the product `K`. It costs one product per step, less
            for `keras.regularizers.L2` (see `product_squared_norm`).
        activity_regularizer: regularizer of the output.
        kernel_constraint: not supported, kept so that the reason can be given.
        depth: number of factors, N ≥ 1. Depth 1 is the plain layer.
        width: sizes between the factors: None for `min(inputs, units)`, which never loses
            expressiveness; a positive integer; or one for each of the N − 1 hidden layers. Below
            `min(inputs, units)` it bounds the rank of the kernel; 1 is the paper's scalar hidden
            layer.
        factorization: how the factors start.
            "balanced" samples the kernel with `kernel_initializer` and splits it evenly, so that
            the layer starts as the same function as a `Dense` with that initializer;
            "identity" starts as that function too, with the kernel in one factor and identities in
            the others (linear residual), which keeps great depths from stalling;
            "independent" samples every factor with `kernel_initializer`.
        factor_regularizer: regularizer of each factor. A different objective: L2 on balanced
            factors is a Schatten-2/N penalty on `K`.
        **kwargs: those of `keras.layers.Layer` (`name`, `dtype`, `trainable`).

    Input shape:
        `(batch_size, …, inputs)`, at least two dimensions.

    Output shape:
        `(batch_size, …, units)`.

    Raises:
        ValueError: for a `units`, `depth`, `width` or `factorization` out of range, or a
            `kernel_constraint`. What `Dense` refuses is refused with its error.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredLinear
    >>> layer = FactoredLinear(4, depth=3)
    >>> tuple(layer(np.ones((2, 8), "float32")).shape)
    (2, 4)
    >>> [tuple(factor.shape) for factor in layer.factors]
    [(8, 4), (4, 4), (4, 4)]
    >>> type(layer.collapse()).__name__
    'Dense'

    Reference:
        Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
        Overparameterization", ICML 2018, Section 3.
    """

    stock = keras.layers.Dense

    def __init__(
        self,
        units: int,
        kernel_initializer: Identifier = "glorot_uniform",
        kernel_regularizer: Identifier | None = None,
        activity_regularizer: Identifier | None = None,
        kernel_constraint: None = None,
        *,
        depth: int = 2,
        width: Width = None,
        factorization: Factorization = "balanced",
        factor_regularizer: Identifier | None = None,
        **kwargs: Any,
    ) -> None:
        units = positive_integer("units", units)
        super().__init__(
            depth=depth,
            width=width,
            factorization=factorization,
            factor_regularizer=factor_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            **kwargs,
        )
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Create the factors.

        Args:
            input_shape: shape whose last entry, the number of inputs, is known.
        """
        inputs = input_shape[-1]
        kernel_shape = (inputs, self.units)
        self._add_factors(kernel_shape, self.kernel_initializer, self.kernel_regularizer)
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Multiply in the order that is cheapest for this many rows.

        Where the batch size is not known when the layer is traced, as in `fit` on TensorFlow, the
        order is that for 32 examples.

        Args:
            inputs: tensor `(batch_size, …, inputs)`.
            training: not used, as in the stock layer.
        """
        x, dtype = inputs, self._dtype_beside(inputs)
        for start, stop in pairwise(self._cheapest_order(inputs.shape[:-1])):
            segment = self._factors[start:stop]
            matrix = segment[0] if len(segment) == 1 else self._product(segment)
            x = ops.matmul(x, ops.cast(matrix, dtype))
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Input shape with its last entry replaced by `units`."""
        return (*input_shape[:-1], self.units)

    def _stock_build_shape(self) -> Shape:
        return (None, self._kernel_shape[0])

    def _stock_config(self) -> Config:
        return super()._stock_config() | {"use_bias": False}

    def get_config(self) -> Config:
        """Arguments of the constructor, serializable."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "units": self.units,
            "kernel_initializer": serialize(self.kernel_initializer),
            "kernel_regularizer": serialize(self.kernel_regularizer),
        }
