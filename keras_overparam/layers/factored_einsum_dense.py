"""Einsum layers with a factored kernel."""

import keras
from keras import ops

from keras_overparam.layers.factored_kernel import FactoredKernel
from keras_overparam.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredEinsumDense(FactoredKernel, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` whose kernel is trained as a product of factors.

    As a matrix, the kernel's rows are the axes that the equation sums over, its columns the others.
    The product is multiplied at every step. The layers inside `keras.layers.MultiHeadAttention` are
    of this kind.

    Args:
        *args: those of `EinsumDense`.
        depth, width, factorization, factor_regularizer: see `FactoredConv2D`.
        **kwargs: those of `EinsumDense`; `kernel_initializer` and `kernel_regularizer` concern the
            product. `kernel_constraint`, LoRA and quantization are not supported.

    Raises:
        ValueError: for arguments out of range or not supported. What `EinsumDense` refuses is
            refused with its error.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredEinsumDense
    >>> layer = FactoredEinsumDense("abc,cde->abde", output_shape=(None, 2, 8), bias_axes="de")
    >>> tuple(layer(np.ones((1, 5, 12), "float32")).shape)
    (1, 5, 2, 8)
    >>> [tuple(factor.shape) for factor in layer.factors]
    [(12, 12), (12, 16)]
    """

    stock = keras.layers.EinsumDense

    def _row_axes(self) -> tuple[int, ...]:
        terms, output = self.equation.replace(" ", "").split("->")
        kernel = terms.split(",")[1]
        return tuple(axis for axis, letter in enumerate(kernel) if letter not in output)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Apply the layer.

        Args:
            inputs: tensor of the shape that the stock layer takes.
            training: not used, as in the stock layer.
        """
        kernel = ops.cast(self.kernel, self._dtype_beside(inputs))
        outputs = ops.einsum(self.equation, inputs, kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)
