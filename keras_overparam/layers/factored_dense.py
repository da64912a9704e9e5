"""Drop-in replacement of `keras.layers.Dense` with a factored kernel."""

from typing import Any

import keras
from keras import ops

from keras_overparam.layers.factored_linear import FactoredLinear
from keras_overparam.typing import Config, Factorization, Identifier, Shape, Tensor, Width


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredDense(FactoredLinear):
    """`keras.layers.Dense` whose kernel is trained as `K = A1 @ A2 @ … @ AN`.

    Computes `activation(x @ K + bias)`. Swap the class name and a model works: the arguments of
    `Dense` come first, in its order, and those of the factors by keyword. With the default
    factorization the layer starts as the function that the `Dense` would have started as.

    Args:
        units: positive integer, size of the output.
        activation: activation function, as in `Dense`.
        use_bias: whether to add a bias.
        kernel_initializer: initializer of the kernel (of each factor if "independent").
        bias_initializer: initializer of the bias.
        kernel_regularizer: regularizer of the product `K`.
        bias_regularizer: regularizer of the bias.
        activity_regularizer: regularizer of the output.
        kernel_constraint: not supported (see `FactoredLinear`).
        bias_constraint: constraint of the bias.
        lora_rank, lora_alpha, quantization_config: not supported before `collapse()`.
        depth: number of factors, N ≥ 1. Depth 1 is the plain layer.
        width: sizes between the factors, see `FactoredLinear`.
        factorization: "balanced", "independent" or "identity", see `FactoredLinear`.
        factor_regularizer: regularizer of each factor.
        **kwargs: those of `keras.layers.Layer` (`name`, `dtype`, `trainable`).

    Input shape:
        `(batch_size, …, inputs)`, at least two dimensions.

    Output shape:
        `(batch_size, …, units)`.

    Raises:
        ValueError: for arguments out of range or not supported. What `Dense` refuses is refused
            with its error.

    Example:

    >>> import keras, numpy as np
    >>> from keras_overparam import FactoredDense
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8,)),
    ...         FactoredDense(16, activation="relu"),
    ...         FactoredDense(3),
    ...     ]
    ... )
    >>> tuple(model(np.ones((2, 8), "float32")).shape)
    (2, 3)

    Reference:
        Arora, Cohen & Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by
        Overparameterization", ICML 2018, Sections 3 and 8.
    """

    def __init__(
        self,
        units: int,
        activation: Identifier | None = None,
        use_bias: bool = True,
        kernel_initializer: Identifier = "glorot_uniform",
        bias_initializer: Identifier = "zeros",
        kernel_regularizer: Identifier | None = None,
        bias_regularizer: Identifier | None = None,
        activity_regularizer: Identifier | None = None,
        kernel_constraint: None = None,
        bias_constraint: Identifier | None = None,
        lora_rank: None = None,
        lora_alpha: None = None,
        quantization_config: None = None,
        *,
        depth: int = 2,
        width: Width = None,
        factorization: Factorization = "balanced",
        factor_regularizer: Identifier | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            kernel_initializer=kernel_initializer,
            kernel_regularizer=kernel_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            quantization_config=quantization_config,
            depth=depth,
            width=width,
            factorization=factorization,
            factor_regularizer=factor_regularizer,
            **kwargs,
        )
        self.activation = activation
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    def build(self, input_shape: Shape) -> None:
        """Create the factors and the bias.

        Args:
            input_shape: shape whose last entry, the number of inputs, is known.
        """
        super().build(input_shape)
        self.bias: keras.Variable | None = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Apply the layer.

        Args:
            inputs: tensor `(batch_size, …, inputs)`.
            training: not used, as in the stock layer.
        """
        outputs = super().call(inputs)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)

    def _stock_config(self) -> Config:
        return super()._stock_config() | {"use_bias": self.bias is not None}

    def get_config(self) -> Config:
        """Arguments of the constructor, serializable."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": serialize(self.bias_initializer),
            "bias_regularizer": serialize(self.bias_regularizer),
            "bias_constraint": serialize(self.bias_constraint),
        }
