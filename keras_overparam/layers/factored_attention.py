"""Multi-head attention with factored projections."""

from typing import Any

import keras

from keras_overparam.configuration import configuration
from keras_overparam.holding import replace_held
from keras_overparam.layers.factored_einsum_dense import FactoredEinsumDense
from keras_overparam.layers.factored_kernel import DropIn
from keras_overparam.typing import Config, Factorization, Identifier, Shape, Width


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredMultiHeadAttention(DropIn, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` whose projections are `FactoredEinsumDense` layers.

    The query's, key's and value's kernels are matrices of shape `(features, heads · size)`, the
    output's of shape `(heads · size, features)`, each trained as a product of factors.

    Args:
        *args: those of `MultiHeadAttention`.
        depth, width, factorization, factor_regularizer: of each projection, see `FactoredConv2D`.
        **kwargs: those of `MultiHeadAttention`; `kernel_initializer` and `kernel_regularizer`
            concern the products. `kernel_constraint` is not supported.

    Raises:
        ValueError: for arguments out of range or not supported. What `MultiHeadAttention` refuses
            is refused with its error.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import FactoredMultiHeadAttention
    >>> layer = FactoredMultiHeadAttention(num_heads=2, key_dim=3, depth=3)
    >>> x = np.ones((1, 4, 8), "float32")
    >>> tuple(layer(x, x).shape)
    (1, 4, 8)
    >>> len(layer.projections[0].factors)
    3
    """

    stock = keras.layers.MultiHeadAttention

    def __init__(
        self,
        *args: Any,
        depth: int = 2,
        width: Width = None,
        factorization: Factorization = "balanced",
        factor_regularizer: Identifier | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        depth, width = self._checked_factoring(depth, width, factorization)
        self._factoring = {
            "depth": depth,
            "width": width,
            "factorization": factorization,
            "factor_regularizer": keras.regularizers.get(factor_regularizer),
        }

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape | None = None) -> None:
        """Create the projections, then factored ones in their place.

        Args:
            query_shape: shape of the query.
            value_shape: shape of the value.
            key_shape: shape of the key, that of the value if `None`.
        """
        super().build(query_shape, value_shape, key_shape)
        factored = {}
        for stock in self._layers:
            if type(stock) is keras.layers.EinsumDense:
                # The instance: an unseeded one has drawn a seed, and would draw another one again.
                same = {"kernel_initializer": stock.kernel_initializer}
                factored[id(stock)] = FactoredEinsumDense.from_config(
                    configuration(stock) | self._factoring | same
                )
                factored[id(stock)]._start_matters = self._start_matters and self.trainable
                factored[id(stock)].build(stock.get_build_config()["input_shape"])
        replace_held(self, factored)

    @property
    def projections(self) -> list[FactoredEinsumDense]:
        """The `FactoredEinsumDense` layers: of query, key, value, a gate if any, and output."""
        return [layer for layer in self._layers if isinstance(layer, FactoredEinsumDense)]

    def collapse(self) -> keras.layers.MultiHeadAttention:
        """The `keras.layers.MultiHeadAttention` that computes the same function.

        Returns:
            A built layer of the same name, with weights of its own.

        Raises:
            ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(f"Build {self.name!r} (call it once) before collapsing it.")
        own = self._factoring
        config = {k: v for k, v in configuration(self).items() if k not in own}
        layer = keras.layers.MultiHeadAttention.from_config(config)
        layer.build_from_config(self.get_build_config())
        plain = [inner for inner in layer._layers if type(inner) is keras.layers.EinsumDense]
        for inner, projection in zip(plain, self.projections, strict=True):
            inner.trainable = projection.trainable
            projection.collapse_into(inner)
        return layer

    def get_config(self) -> Config:
        """Arguments of the constructor, serializable."""
        regularizer = keras.saving.serialize_keras_object(self._factoring["factor_regularizer"])
        return super().get_config() | self._factoring | {"factor_regularizer": regularizer}
