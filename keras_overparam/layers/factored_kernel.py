"""What every layer with a factored kernel has in common."""

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, get_args

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import hidden_width, one_of, positive_integer, real_matrices
from keras_overparam.factorization import (
    balanced_factors,
    chain_product,
    chain_sizes,
    hidden_widths,
    identity_factors,
    product_squared_norm,
)
from keras_overparam.layers.starts import Initializer, factor_initializers
from keras_overparam.typing import (
    Array,
    Config,
    Factorization,
    Float64Array,
    Identifier,
    Shape,
    Sizes,
    Tensor,
    Width,
)

FACTORIZATIONS = get_args(Factorization)


class FactoredKernel(keras.layers.Layer):
    """Base of the layers whose kernel, as a matrix, is trained as `K = A1 @ A2 @ … @ AN`.

    A subclass names the stock layer that it stands for, and says which of a kernel's axes are the
    matrix's rows. Stock layers that make their kernel by `add_weight(name="kernel", …)` get factors
    in its place.

    Args:
        depth: number of factors, N ≥ 1.
        width: sizes between the factors, see `FactoredLinear`.
        factorization: "balanced", "independent" or "identity", see `FactoredLinear`.
        factor_regularizer: regularizer of each factor.
        kernel_regularizer: regularizer of the product.
        kernel_constraint: not supported, kept so that the reason can be given.
        lora_rank, lora_alpha, quantization_config: not supported before `collapse()`.
        **kwargs: those of the stock layer.
    """

    stock: ClassVar[type[keras.layers.Layer]]  # the class of layer that it collapses to

    def __init__(
        self,
        *args: Any,
        depth: int = 2,
        width: Width = None,
        factorization: Factorization = "balanced",
        factor_regularizer: Identifier | None = None,
        kernel_regularizer: Identifier | None = None,
        kernel_constraint: None = None,
        lora_rank: None = None,
        lora_alpha: None = None,
        quantization_config: None = None,
        **kwargs: Any,
    ) -> None:
        depth, width = checked_factoring(depth, width, factorization, kernel_constraint)
        _refuse_on_factors(
            lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config
        )
        super().__init__(*args, **kwargs)
        self.depth = depth
        self.width = width
        self.factorization = factorization
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.factor_regularizer = keras.regularizers.get(factor_regularizer)

    def add_weight(
        self, *args: Any, name: str | None = None, **kwargs: Any
    ) -> keras.Variable | None:
        """As in `keras.layers.Layer`, but for a stock layer's kernel, which becomes factors."""
        if name != "kernel":
            return super().add_weight(*args, name=name, **kwargs)
        self._add_factors(kwargs["shape"], kwargs["initializer"])
        return None

    def _add_factors(self, kernel_shape: Sizes, initializer: Initializer) -> None:
        """Create the factors of a kernel of that shape."""
        self._kernel_shape = tuple(kernel_shape)
        rows = self._row_axes()
        self._axes = (*rows, *(axis for axis in range(len(kernel_shape)) if axis not in rows))
        inputs = math.prod(self._kernel_shape[axis] for axis in rows)
        outputs = math.prod(self._kernel_shape) // inputs
        sizes = hidden_widths(inputs, outputs, self.depth, self.width)

        def sample(dtype: str | None) -> Tensor:
            return initializer(self._kernel_shape, dtype=dtype)

        each = getattr(self, "kernel_initializer", initializer)
        owner = f"the {type(self).__name__} {self.name!r}"
        initializers = factor_initializers(
            self.factorization, each, sizes, sample, self.as_matrix, owner
        )
        # No autocast: the product is multiplied in full precision and rounded once.
        self._factors = [
            super(FactoredKernel, self).add_weight(
                name=f"factor_{index + 1}",
                shape=sizes[index : index + 2],
                initializer=initializer,
                regularizer=self.factor_regularizer if index else self._first_regularizer(),
                autocast=False,
            )
            for index, initializer in enumerate(initializers)
        ]

    def _row_axes(self) -> tuple[int, ...]:
        """Axes of the kernel that are the rows of its matrix: all but the last."""
        return tuple(range(len(self._kernel_shape) - 1))

    def as_matrix(self, kernel: Tensor, arrays: ModuleType = ops) -> Tensor:
        """The matrix that a kernel of the stock layer's shape is.

        Args:
            kernel: array or tensor.
            arrays: `keras.ops`, or `numpy` for NumPy arrays in their own precision.
        """
        rows = math.prod(self._kernel_shape[axis] for axis in self._row_axes())
        return arrays.reshape(arrays.transpose(kernel, self._axes), (rows, -1))

    def _as_kernel(self, matrix: Tensor, arrays: ModuleType = ops) -> Tensor:
        permuted = arrays.reshape(matrix, [self._kernel_shape[axis] for axis in self._axes])
        return arrays.transpose(permuted, np.argsort(self._axes).tolist())

    @property
    def factors(self) -> list[keras.Variable]:
        """List of the N variables `A1, …, AN`."""
        if not self.built:
            raise AttributeError(f"Build {self.name!r} (call it once) before accessing `factors`.")
        return list(self._factors)

    @property
    def kernel(self) -> Tensor:
        """The product `A1 @ … @ AN` in the shape of the stock layer's kernel, at least float32."""
        return self._as_kernel(self._product(self.factors))

    @kernel.setter
    def kernel(self, _: None) -> None:  # a stock layer assigns what `add_weight` gave it
        pass

    def _product(self, factors: Sequence[Tensor]) -> Tensor:
        return chain_product(self._in_full_precision(factors))

    def _in_full_precision(self, factors: Sequence[Tensor]) -> list[Tensor]:
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        return [ops.cast(factor, dtype) for factor in factors]

    def _cast_kernel(self) -> Tensor:
        return ops.cast(self.kernel, self.compute_dtype)

    def _first_regularizer(self) -> keras.regularizers.Regularizer | None:
        """The product's regularizer hangs on the first factor: counted once, as a stock one is."""
        if self.kernel_regularizer is None:
            return self.factor_regularizer
        return _FirstFactorRegularizer(self._penalty)

    def _penalty(self, first_factor: Tensor) -> Tensor:
        if type(self.kernel_regularizer) is keras.regularizers.L2:  # needs no product
            squared_norm = product_squared_norm(self._in_full_precision(self.factors))
            penalty = self.kernel_regularizer.l2 * squared_norm
        else:
            penalty = self.kernel_regularizer(self.kernel)
        if self.factor_regularizer is not None:
            penalty = penalty + self.factor_regularizer(first_factor)
        return penalty

    def set_kernel(self, kernel: npt.ArrayLike) -> None:
        """Split a kernel into factors and take them: the layer then computes what it does.

        The split is that of `factorization`; factors that would start independent are balanced.

        Args:
            kernel: array of the shape of the stock layer's kernel. If its rank exceeds a width, the
                nearest kernel of that rank is taken.

        Raises:
            ValueError: if the layer is not built, for another shape, or numbers that are not real
                and finite.

        Example:

        >>> import numpy as np
        >>> from keras_overparam import FactoredDense
        >>> layer = FactoredDense(3)
        >>> layer.build((None, 3))
        >>> layer.set_kernel(np.diag([4.0, 1.0, 0.0]))
        >>> np.asarray(layer.factors[0]).round(6).max()
        np.float32(2.0)
        """
        if not self.built:
            raise ValueError(f"Build {self.name!r} (call it once) before setting its kernel.")
        kernel = real_matrices("kernel", kernel).astype("float64")
        if kernel.shape != self._kernel_shape:
            raise ValueError(
                f"The kernel of {self.name!r} has shape {self._kernel_shape}. "
                f"Received: {kernel.shape}"
            )
        matrix = self.as_matrix(kernel, np)
        split = identity_factors if self.factorization == "identity" else balanced_factors
        widths = chain_sizes(self._factors)[1:-1]
        for factor, value in zip(self._factors, split(matrix, self.depth, widths), strict=True):
            factor.assign(value)

    def exact_kernel(self) -> Float64Array:
        """The product in the shape of the stock layer's kernel, multiplied in float64 by NumPy.

        Returns:
            NumPy array.
        """
        factors = [np.asarray(ops.convert_to_numpy(f), "float64") for f in self.factors]
        return self._as_kernel(chain_product(factors), np)

    def collapse(self) -> keras.layers.Layer:
        """The stock layer that computes the same function.

        The product is multiplied in float64. `kernel_regularizer` goes along, `factor_regularizer`
        has no counterpart and does not.

        Returns:
            A built layer of the class `stock` and of the same name, with weights of its own.

        Raises:
            ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(f"Build {self.name!r} (call it once) before collapsing it.")
        layer = self.stock.from_config(self._stock_config())
        layer.build(self._stock_build_shape())
        bias = getattr(self, "bias", None)
        rest = [] if bias is None else [np.array(ops.convert_to_numpy(bias))]
        layer.set_weights([self.exact_kernel(), *rest])
        return layer

    def _stock_build_shape(self) -> Shape:
        return self.get_build_config()["input_shape"]

    def _stock_config(self) -> Config:
        own = ("depth", "width", "factorization", "factor_regularizer")
        return {k: v for k, v in self.get_config().items() if k not in own}

    def enable_lora(self, rank: object, *args: object, **kwargs: object) -> None:
        """Not supported: `collapse()` the layer and use the stock one."""
        _refuse_on_factors(lora_rank=rank)

    def quantize(self, mode: object = None, *args: object, **kwargs: object) -> None:
        """Not supported: `collapse()` the layer and use the stock one."""
        _refuse_on_factors(quantize=mode)

    def save_own_variables(self, store: MutableMapping[str, Array]) -> None:
        """Save the layer's variables, factors as such."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Mapping[str, Array]) -> None:
        """Load the layer's variables."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> Config:
        """Arguments of the constructor, serializable."""
        serialize = keras.saving.serialize_keras_object
        config = super().get_config() | {
            "depth": self.depth,
            "width": self.width,
            "factorization": self.factorization,
            "kernel_regularizer": serialize(self.kernel_regularizer),
            "factor_regularizer": serialize(self.factor_regularizer),
        }
        unsupported = ("kernel_constraint", "lora_rank", "lora_alpha", "quantization_config")
        return {k: v for k, v in config.items() if k not in unsupported}


def checked_factoring(
    depth: int, width: Width, factorization: Factorization, kernel_constraint: object
) -> tuple[int, int | list[int] | None]:
    """Depth and width of a factored layer, checked with what else is said of its factors.

    Args:
        depth: number of factors, N ≥ 1.
        width: sizes between the factors, see `FactoredLinear`.
        factorization: "balanced", "independent" or "identity".
        kernel_constraint: anything but `None` is refused.

    Returns:
        Pair of the depth, an int, and the width: None, an int or a list of `depth − 1` ints.

    Raises:
        ValueError: for arguments out of range, or a `kernel_constraint`.
    """
    depth = positive_integer("depth", depth)
    width = hidden_width(width, depth)
    one_of("factorization", factorization, FACTORIZATIONS)
    if kernel_constraint is not None:
        raise ValueError(
            "`kernel_constraint` is not supported: projecting the product of the factors onto "
            "a constraint does not say how to move the factors. Use `kernel_regularizer`, or "
            "collapse() to a stock layer first. "
            f"Received: kernel_constraint={kernel_constraint}"
        )
    return depth, width


def _refuse_on_factors(**arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is not supported on factors: collapse() the layer and use the "
                f"resulting stock layer. Received: {name}={value}"
            )


class _FirstFactorRegularizer(keras.regularizers.Regularizer):
    """A layer's penalty, as the instance of a regularizer that Keras 3.12 and 3.13 ask for."""

    def __init__(self, penalty: Callable[[Tensor], Tensor]) -> None:
        self.penalty = penalty

    def __call__(self, x: Tensor) -> Tensor:
        return self.penalty(x)
