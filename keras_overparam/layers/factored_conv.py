"""Convolutions with a factored kernel."""

from itertools import pairwise

import keras
from keras import ops

from keras_overparam.checks import real_numbers
from keras_overparam.layers.factored_kernel import FactoredKernel
from keras_overparam.typing import Shape, Tensor


class _FactoredConv(FactoredKernel):
    """What the factored convolutions of 1, 2 and 3 dimensions share."""

    def build(self, input_shape: Shape) -> None:
        """Create the factors and the bias.

        Args:
            input_shape: shape in which the number of channels is known.
        """
        self._require_sizes(_channels(self, input_shape), "a channel axis")
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Convolve in the order that is cheapest for this many output positions.

        Args:
            inputs: tensor of the shape that the stock layer takes.
        """
        real_numbers("inputs", inputs)
        dtype = self._dtype_beside(inputs)
        first, *others = self._segments(inputs.shape)
        kernel = ops.reshape(first, (*self.kernel_size, -1, first.shape[-1]))
        outputs = self._convolve(ops.cast(inputs, dtype), ops.cast(kernel, dtype))
        for matrix in others:
            kernel = ops.cast(ops.reshape(matrix, (1,) * self.rank + tuple(matrix.shape)), dtype)
            outputs = ops.conv(outputs, kernel, padding="valid", data_format=self.data_format)
        if self.use_bias:
            outputs = ops.add(outputs, _along_channels(self.bias, self.rank, self.data_format))
        return self.activation(outputs)

    def _segments(self, input_shape: Shape) -> list[Tensor]:
        """Products of neighbouring factors: one, or a convolution followed by 1×1 convolutions."""
        # Groups see different inputs, but share the factors.
        boundaries: tuple[int, ...] = (0, self.depth)
        if self.groups == 1:
            batch, *positions = self.compute_output_shape(input_shape)
            del positions[-1 if self.data_format == "channels_last" else 0]
            boundaries = self._cheapest_order((batch, *positions))
        return [self._product(self._factors[start:stop]) for start, stop in pairwise(boundaries)]

    def _convolve(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        padding = self.padding
        if padding == "causal":
            padding = "valid"
            before = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            last = self.data_format == "channels_last"
            paddings = [(0, 0), (before, 0), (0, 0)] if last else [(0, 0), (0, 0), (before, 0)]
            inputs = ops.pad(inputs, paddings)
        return ops.conv(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )


def _channels(layer: keras.layers.Layer, input_shape: Shape) -> Shape:
    """The part of a shape that says how many channels there are."""
    return input_shape[-1:] if layer.data_format == "channels_last" else input_shape[1:2]


def _along_channels(bias: Tensor, rank: int, data_format: str) -> Tensor:
    ones = (1,) * rank
    return ops.reshape(bias, (1, *ones, -1) if data_format == "channels_last" else (1, -1, *ones))


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredConv1D(_FactoredConv, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a factored kernel: see `FactoredConv2D`.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredConv1D
    >>> layer = FactoredConv1D(16, 3)
    >>> tuple(layer(np.ones((1, 8, 4), "float32")).shape)
    (1, 6, 16)
    """

    stock = keras.layers.Conv1D


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredConv2D(_FactoredConv, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose kernel is trained as a product of factors.

    The kernel of shape `(kh, kw, channels / groups, filters)` is a matrix over its receptive field,
    `K` of shape `(kh · kw · channels / groups, filters)`, and `K = A1 @ A2 @ … @ AN`. Without
    groups this is a convolution with `A1` (to `width` channels) followed by 1×1 convolutions with
    the other factors; whether it is computed so, or the product first, is decided by what takes
    fewer multiplications for the size of the input.

    Args:
        *args: those of `Conv2D`.
        depth: number of factors, N ≥ 1.
        width: sizes between the factors: None for `min(kh · kw · channels / groups, filters)`,
            which never loses expressiveness; an integer; or one for each hidden layer.
        factorization: "balanced", "independent" (each factor sampled as a matrix) or "identity",
            see `FactoredLinear`.
        factor_regularizer: regularizer of each factor.
        **kwargs: those of `Conv2D`; `kernel_initializer` and `kernel_regularizer` concern the
            product. `kernel_constraint`, `lora_rank` and `lora_alpha` are not supported.

    Raises:
        ValueError: for arguments out of range or not supported. What `Conv2D` refuses is refused
            with its error.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredConv2D
    >>> layer = FactoredConv2D(16, 3, padding="same")
    >>> tuple(layer(np.ones((1, 8, 8, 4), "float32")).shape)
    (1, 8, 8, 16)
    >>> [tuple(factor.shape) for factor in layer.factors]
    [(36, 16), (16, 16)]

    Reference:
        Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
        Overparameterization", ICML 2018, Section 3: any linear map may be replaced by a product.
    """

    stock = keras.layers.Conv2D


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredConv3D(_FactoredConv, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a factored kernel: see `FactoredConv2D`.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredConv3D
    >>> layer = FactoredConv3D(16, 3)
    >>> tuple(layer(np.ones((1, 8, 8, 8, 4), "float32")).shape)
    (1, 6, 6, 6, 16)
    """

    stock = keras.layers.Conv3D


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredDepthwiseConv2D(FactoredKernel, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` whose kernel is trained as a product of factors.

    The kernel of shape `(kh, kw, channels, multiplier)` is a matrix of shape
    `(kh · kw, channels · multiplier)`: the channels share the directions that the factors find in
    the receptive field. The product is multiplied at every step.

    Args:
        *args: those of `DepthwiseConv2D`.
        depth_multiplier: filters of each channel, as in `DepthwiseConv2D`.
        depth, width, factorization, factor_regularizer: see `FactoredConv2D`.
        **kwargs: those of `DepthwiseConv2D`; `depthwise_initializer` and `depthwise_regularizer`
            concern the product. `depthwise_constraint` is not supported.

    Raises:
        ValueError: for arguments out of range or not supported. What `DepthwiseConv2D` refuses is
            refused with its error.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredDepthwiseConv2D
    >>> layer = FactoredDepthwiseConv2D(3)
    >>> tuple(layer(np.ones((1, 8, 8, 4), "float32")).shape)
    (1, 6, 6, 4)
    >>> [tuple(factor.shape) for factor in layer.factors]
    [(9, 4), (4, 4)]
    """

    stock = keras.layers.DepthwiseConv2D

    def build(self, input_shape: Shape) -> None:
        """Create the factors and the bias: see `FactoredConv2D`."""
        self._require_sizes(_channels(self, input_shape), "a channel axis")
        super().build(input_shape)

    def _row_axes(self) -> tuple[int, ...]:
        return (0, 1)

    def call(self, inputs: Tensor) -> Tensor:
        """Convolve with the product.

        Args:
            inputs: tensor of the shape that the stock layer takes.
        """
        real_numbers("inputs", inputs)
        dtype = self._dtype_beside(inputs)
        outputs = ops.depthwise_conv(
            ops.cast(inputs, dtype),
            ops.cast(self.kernel, dtype),
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        if self.use_bias:
            outputs = ops.add(outputs, _along_channels(self.bias, self.rank, self.data_format))
        return self.activation(outputs)
