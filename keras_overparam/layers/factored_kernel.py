"""What every layer with a factored kernel has in common."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, get_args

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import hidden_width, one_of, positive_integer, real_array
from keras_overparam.configuration import configuration
from keras_overparam.factorization import (
    application_plans,
    balanced_factors,
    chain_product,
    chain_sizes,
    hidden_widths,
    identity_factors,
    multiply,
    plan_for,
    product_squared_norm,
    truncation_error,
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

TRUNCATED_ABOVE = 1e-6  # relative error of a kernel that a width does not let through
ASSUMED_BATCH = 32  # where the batch size is not known when a layer is traced
FACTORIZATIONS = get_args(Factorization)
VAR_POSITIONAL, VAR_KEYWORD = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
INSTEAD_OF_CONSTRAINT = (
    "projecting a product does not say how to move its factors. Use `kernel_regularizer`, or "
    "collapse() the layer and constrain the resulting stock layer"
)
INSTEAD_OF_LORA = "collapse() the layer, and call enable_lora() of the resulting stock layer"
INSTEAD_OF_QUANTIZATION = "collapse() the layer, and quantize the resulting stock layer"
UNSUPPORTED = (
    "kernel_constraint",
    "depthwise_constraint",
    "lora_rank",
    "lora_alpha",
    "quantization_config",
)


def label(layer: keras.layers.Layer) -> str:
    """Class and name of a layer, as messages call it."""
    return f"{type(layer).__name__} {layer.name!r}"


def carry_trainable(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Freeze a layer's kernel or factors, and its bias, where those of its counterpart are.

    Args:
        old: a built layer with a kernel, stock or factored.
        new: a built layer that computes the same, stock or factored.
    """
    trainable = any(variable.trainable for variable in _kernel_variables(old))
    for variable in _kernel_variables(new):
        variable.trainable = trainable
    if getattr(old, "bias", None) is not None:  # a `FactoredLinear` has none
        new.bias.trainable = old.bias.trainable


def _kernel_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """What of a layer's kernel is trained: factors, LoRA's weights, or the kernel itself."""
    if isinstance(layer, FactoredKernel):
        return layer.factors
    return [layer.lora_kernel_a if getattr(layer, "lora_enabled", False) else layer.kernel]


def checked_factoring(
    depth: int, width: Width, factorization: Factorization
) -> tuple[int, int | list[int] | None]:
    """Depth and width of a factored layer, checked with what else is said of its factors.

    Args:
        depth: number of factors, N ≥ 1.
        width: sizes between the factors, see `FactoredLinear`.
        factorization: "balanced", "independent" or "identity".

    Returns:
        Pair of the depth, an int, and the width: None, an int or a list of `depth − 1` ints.

    Raises:
        ValueError: for arguments out of range.
    """
    depth = positive_integer("depth", depth)
    width = hidden_width(width, depth)
    one_of("factorization", factorization, FACTORIZATIONS)
    return depth, width


def _parameters(stock: type[keras.layers.Layer]) -> list[inspect.Parameter]:
    return list(inspect.signature(stock.__init__).parameters.values())[1:]


class _Unsupported:
    """An attribute of stock layers that is `None` on factors, and cannot be set to anything."""

    def __init__(self, instead: str) -> None:
        self.instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: object, owner: type | None = None) -> None:
        return None

    def __set__(self, layer: keras.layers.Layer, value: object) -> None:
        if value is not None:
            raise ValueError(
                f"`{self.name}` is not supported by {label(layer)}: {self.instead}. "
                f"Received: {self.name}={value!r}"
            )


class _OfTheClass:
    """A signature that a class has, and its instances have not: theirs is that of their call."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.signature = signature

    def __get__(self, layer: object, owner: type | None = None) -> inspect.Signature:
        if layer is not None:
            raise AttributeError("__signature__")
        return self.signature


def _shapes(store: Mapping[str, Array]) -> list[tuple[int, ...]]:
    return [tuple(store[key].shape) for key in sorted(store.keys(), key=int)]


class DropIn(keras.layers.Layer):
    """Base of the layers that take the arguments of a stock layer, in its order.

    A subclass names the stock layer. Its own arguments are taken by keyword only. Those of the
    stock layer that factors cannot heed must be `None`, also as attributes.
    """

    stock: ClassVar[type[keras.layers.Layer]]  # the class of layer that it collapses to

    kernel_constraint = _Unsupported(INSTEAD_OF_CONSTRAINT)
    depthwise_constraint = _Unsupported(INSTEAD_OF_CONSTRAINT)
    lora_rank = _Unsupported(INSTEAD_OF_LORA)
    lora_alpha = _Unsupported(INSTEAD_OF_LORA)
    lora_enabled = False
    quantization_config = _Unsupported(INSTEAD_OF_QUANTIZATION)

    _start_matters = True  # not that of a layer which is built to be given weights, as on loading

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = list(inspect.signature(cls.__init__).parameters.values())[1:]
        kinds = [parameter.kind for parameter in own]
        if VAR_POSITIONAL in kinds and hasattr(cls, "stock"):
            first = [p for p in _parameters(cls.stock) if p.kind is not VAR_KEYWORD]
            own = [*first, *own[kinds.index(VAR_POSITIONAL) + 1 :]]
        cls.__signature__ = _OfTheClass(inspect.Signature(own))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = inspect.Signature(_parameters(self.stock)).bind_partial(*args, **kwargs)
        named = {k: v for k, v in bound.arguments.items() if k != "kwargs"}
        named |= bound.arguments.get("kwargs", {})
        unsupported = {name: named.pop(name) for name in UNSUPPORTED if name in named}
        super().__init__(**named)
        for name, value in unsupported.items():
            setattr(self, name, value)
        self._refuse_quantized_policy()

    def _checked_factoring(
        self, depth: int, width: Width, factorization: Factorization
    ) -> tuple[int, int | list[int] | None]:
        """`checked_factoring`, whose errors name the layer."""
        try:
            return checked_factoring(depth, width, factorization)
        except ValueError as error:
            raise ValueError(f"{label(self)}: {error}") from None

    def build_from_config(self, config: Config) -> None:
        """Build a layer that is given its weights afterwards, whose start is not warned of."""
        self._start_matters = False
        super().build_from_config(config)

    def _refuse_quantized_policy(self) -> None:
        if self.quantization_mode is not None:
            raise ValueError(
                f"{label(self)} cannot have the weights of a quantized type: use a policy of "
                "floats, collapse() the trained layer, and quantize the stock one. "
                f"Received: dtype={self.dtype_policy.name!r}"
            )


class FactoredKernel(DropIn):
    """Base of the layers whose kernel, as a matrix, is trained as `K = A1 @ A2 @ … @ AN`.

    A subclass names the stock layer that it stands for, and says which of a kernel's axes are the
    matrix's rows. Stock layers that make their kernel by `add_weight(name="kernel", …)` get factors
    in its place.

    Args:
        depth: number of factors, N ≥ 1.
        width: sizes between the factors, see `FactoredLinear`.
        factorization: "balanced", "independent" or "identity", see `FactoredLinear`.
        factor_regularizer: regularizer of each factor.
        *args, **kwargs: those of the stock layer, in its order. `kernel_constraint`, `lora_rank`,
            `lora_alpha` and `quantization_config` are refused, also as attributes.
    """

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
        self.depth, self.width = self._checked_factoring(depth, width, factorization)
        self.factorization = factorization
        self.factor_regularizer = keras.regularizers.get(factor_regularizer)

    def add_weight(
        self, *args: Any, name: str | None = None, **kwargs: Any
    ) -> keras.Variable | None:
        """As in `keras.layers.Layer`, but for a stock layer's kernel, which becomes factors."""
        if name != "kernel":
            return super().add_weight(*args, name=name, **kwargs)
        self._add_factors(kwargs["shape"], kwargs["initializer"], kwargs["regularizer"])
        return None

    def _add_factors(
        self,
        kernel_shape: Shape,
        initializer: Initializer,
        regularizer: Callable[[Tensor], Tensor] | None,
    ) -> None:
        """Create the factors of a kernel of that shape."""
        self._refuse_quantized_policy()
        self._kernel_shape = self._require_sizes(kernel_shape, "its kernel")
        self._product_regularizer = regularizer
        rows = self._row_axes()
        self._axes = (*rows, *(axis for axis in range(len(kernel_shape)) if axis not in rows))
        inputs = math.prod(self._kernel_shape[axis] for axis in rows)
        outputs = math.prod(self._kernel_shape) // inputs
        sizes = hidden_widths(inputs, outputs, self.depth, self.width)

        def sample(dtype: str | None) -> Tensor:
            return initializer(self._kernel_shape, dtype=dtype)

        each = getattr(self, "kernel_initializer", initializer)
        initializers = factor_initializers(
            self.factorization, each, sizes, sample, self.as_matrix, self._starts_at, label(self)
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
        for index, factor in enumerate(self._factors):  # tf.train.Checkpoint passes lists over
            setattr(self, f"_factor_{index + 1}", factor)

    def _require_sizes(self, shape: Shape, of: str) -> Sizes:
        """The shape, if its sizes are known and not zero."""
        if not all(shape):
            raise ValueError(
                f"{label(self)} cannot be built: the inputs must have axes of known sizes above 0 "
                f"where its kernel has rows or columns. Received: {of} of shape {tuple(shape)}"
            )
        return tuple(size for size in shape if size)

    def _starts_at(self, matrix: Array) -> None:
        if self._start_matters:
            self.warn_if_stalled(matrix, stacklevel=2)

    def warn_if_stalled(self, kernel: Array, stacklevel: int) -> None:
        """Say so if a kernel's factors would all be zero, and with them all their gradients.

        Args:
            kernel: the kernel that is split into factors, in any shape.
            stacklevel: that of the warning, from here.
        """
        moves = self.depth == 1 or self.factorization == "identity" or np.any(kernel)
        if self.trainable and not moves:
            warnings.warn(
                f"The kernel of {label(self)} is zero and will not train: at depth {self.depth} "
                f"and factorization={self.factorization!r} its factors are zero, and so are their "
                'gradients. Use factorization="identity", which computes the same and trains.',
                stacklevel=stacklevel + 1,
            )

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
        return self._built_factors("factors")

    @property
    def kernel(self) -> Tensor:
        """The product `A1 @ … @ AN` in the shape of the stock layer's kernel, at least float32.

        It is a tensor, multiplied anew each time. `kernel.trainable = False` does not freeze it:
        set `trainable` of each of `factors`. A functional model that is given it keeps the numbers
        of that moment: give it to a layer's `call`, which asks for it each time.
        """
        return self._as_kernel(self._product(self._built_factors("kernel")))

    @kernel.setter
    def kernel(self, value: None) -> None:
        if value is not None:  # which `add_weight` gives, and a stock layer assigns
            raise AttributeError(
                f"The kernel of {label(self)} is a product of factors and cannot be replaced: use "
                "set_kernel(value)."
            )

    def _built_factors(self, asked: str) -> list[keras.Variable]:
        if not self.built:
            raise AttributeError(f"Build {self.name!r} (call it once) before accessing `{asked}`.")
        return list(self._factors)

    @property
    def activation(self) -> Callable[[Tensor], Tensor]:
        """The activation function of the layers that have one. `None` is taken for the identity."""
        return self._activation

    @activation.setter
    def activation(self, value: Identifier | None) -> None:
        self._activation = keras.activations.get(value)

    def _product(self, factors: Sequence[Tensor]) -> Tensor:
        return multiply(self._in_full_precision(factors), chain_sizes(factors))

    def _in_full_precision(self, factors: Sequence[Tensor]) -> list[Tensor]:
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        return [ops.cast(factor, dtype) for factor in factors]

    def _dtype_beside(self, inputs: Tensor) -> str:
        """The type in which the kernel is used: that of the inputs, if floats, as Keras casts them.

        They have another than the layer's own where a wrapper of another precision uses `call`
        directly, as `TimeDistributed` does: a stock layer then computes in the wrapper's.
        """
        dtype = str(keras.backend.standardize_dtype(inputs.dtype))
        return dtype if "float" in dtype else str(self.compute_dtype)

    def _cheapest_order(self, leading: Shape) -> tuple[int, ...]:
        """Boundaries of the products of neighbouring factors that the inputs are multiplied by.

        Args:
            leading: the batch size and other sizes whose product is the number of rows; None or a
                symbol where one is not known.
        """
        batch, *others = leading or (1,)
        rows = math.prod(size for size in others if isinstance(size, int))
        rows *= batch if isinstance(batch, int) else ASSUMED_BATCH
        return plan_for(application_plans(chain_sizes(self._factors)), rows).boundaries

    def _first_regularizer(self) -> keras.regularizers.Regularizer | None:
        """The product's regularizer hangs on the first factor: counted once, as a stock one is."""
        if self._product_regularizer is None:
            return self.factor_regularizer
        return _FirstFactorRegularizer(self._penalty)

    def _penalty(self, first_factor: Tensor) -> Tensor:
        regularizer: Any = self._product_regularizer
        if type(regularizer) is keras.regularizers.L2:  # needs no product
            squared_norm = product_squared_norm(self._in_full_precision(self.factors))
            penalty = regularizer.l2 * squared_norm
        else:
            penalty = regularizer(self.kernel)
        if self.factor_regularizer is not None:
            penalty = penalty + self.factor_regularizer(first_factor)
        return penalty

    def set_kernel(self, kernel: npt.ArrayLike) -> None:
        """Split a kernel into factors and take them: the layer then computes what it does.

        The split is that of `factorization`; factors that would start independent are balanced.

        Args:
            kernel: array of the shape of the stock layer's kernel. If its rank exceeds a width, the
                nearest kernel of that rank is taken, with a warning. Another one says that zero
                is split into factors that do not train.

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
        kernel = real_array(f"kernel of {label(self)}", kernel).astype("float64")
        if kernel.shape != self._kernel_shape:
            raise ValueError(
                f"The kernel of {label(self)} has shape {self._kernel_shape}. "
                f"Received: {kernel.shape}"
            )
        if lost := self.lost_to_width(kernel):
            warnings.warn(
                f"{label(self)} does not take the whole kernel: it loses {lost:.1e} of its norm at "
                "the layer's width. Use width=None to keep it.",
                stacklevel=2,
            )
        self.take_kernel(kernel)
        if any(factor.trainable for factor in self._factors):
            self.warn_if_stalled(kernel, stacklevel=2)

    def take_kernel(self, kernel: Float64Array) -> None:
        """`set_kernel`, of a kernel of the right shape and without warnings."""
        wide = all(factor.dtype == "float64" for factor in self._factors)
        matrix = self.as_matrix(kernel, np).astype("float64" if wide else "float32")
        split = identity_factors if self.factorization == "identity" else balanced_factors
        widths = chain_sizes(self._factors)[1:-1]
        for factor, value in zip(self._factors, split(matrix, self.depth, widths), strict=True):
            factor.assign(value)

    def lost_to_width(self, kernel: Float64Array) -> float:
        """Share of a kernel, by norm, that the widths do not let through; 0 if that is rounding."""
        if self.width is None or self.depth == 1:
            return 0.0
        narrowest = min(chain_sizes(self._factors)[1:-1])
        error = truncation_error(self.as_matrix(kernel, np), narrowest, relative=True)
        return float(error) if error > TRUNCATED_ABOVE else 0.0

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
        has no counterpart and does not. The kernel is frozen where all factors are, the bias where
        it is.

        Returns:
            A built layer of the class `stock` and of the same name, with weights of its own.

        Raises:
            ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(f"Build {self.name!r} (call it once) before collapsing it.")
        layer = self.stock.from_config(self._stock_config())
        layer.build(self._stock_build_shape())
        self.collapse_into(layer)
        return layer

    def collapse_into(self, layer: keras.layers.Layer) -> None:
        """Give a built stock layer the kernel, all other weights, and what of them is frozen.

        Args:
            layer: layer of the class `stock` and of this one's arguments.
        """
        layer.kernel.assign(self.exact_kernel())
        if layer.bias is not None:
            layer.bias.assign(np.array(ops.convert_to_numpy(self.bias)))
        for inner, counterpart in zip(self._layers, layer._layers, strict=True):  # an activation
            if inner.built:
                counterpart.build_from_config(inner.get_build_config())
                counterpart.set_weights(inner.get_weights())
            for ours, theirs in zip(inner.weights, counterpart.weights, strict=True):
                theirs.trainable = ours.trainable
        carry_trainable(self, layer)

    def _stock_build_shape(self) -> Shape:
        return self.get_build_config()["input_shape"]

    def _stock_config(self) -> Config:
        own = ("depth", "width", "factorization", "factor_regularizer")
        return {k: v for k, v in configuration(self).items() if k not in own}

    def enable_lora(self, rank: Any, *args: object, **kwargs: object) -> None:
        """Not supported: `collapse()` the layer and use the stock one."""
        self.lora_rank = rank

    def quantize(self, mode: object = None, *args: object, **kwargs: object) -> None:
        """Not supported: `collapse()` the layer and use the stock one.

        Raises:
            NotImplementedError: as the layers of Keras that cannot be quantized do. A model's
                `quantize` leaves such a layer as it is, and warns.
        """
        raise NotImplementedError(
            f"{label(self)} is left as it is: its kernel is a product of factors, so call "
            f"collapse() before quantize(). Received: mode={mode!r}"
        )

    def quantized_build(self, *args: object, **kwargs: object) -> None:
        """Not supported: `collapse()` the layer and use the stock one."""
        self._refuse_quantized_policy()

    def save_own_variables(self, store: MutableMapping[str, Array]) -> None:
        """Save the layer's variables, factors as such."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Mapping[str, Array]) -> None:
        """Load the layer's variables.

        Raises:
            ValueError: for variables of other shapes, as a stock layer's are.
        """
        wanted, found = [tuple(variable.shape) for variable in self.variables], _shapes(store)
        if self.built and wanted and not found:
            raise ValueError(
                f"There is nothing for {label(self)} in the file. Stock layers' weights are there "
                "under other names: load them into a model of stock layers, and overparameterize() "
                "that."
            )
        if self.built and found != wanted:
            raise ValueError(
                f"{label(self)} has variables of the shapes {wanted}, its factors first. Load "
                "those of a stock layer into a stock layer, and overparameterize() it or its "
                f"model. Received: variables of the shapes {found}"
            )
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> Config:
        """Arguments of the constructor, serializable."""
        config = super().get_config() | {
            "depth": self.depth,
            "width": self.width,
            "factorization": self.factorization,
            "factor_regularizer": keras.saving.serialize_keras_object(self.factor_regularizer),
        }
        return {k: v for k, v in config.items() if k not in UNSUPPORTED}


class _FirstFactorRegularizer(keras.regularizers.Regularizer):
    """A layer's penalty, as the instance of a regularizer that Keras 3.12 and 3.13 ask for."""

    def __init__(self, penalty: Callable[[Tensor], Tensor]) -> None:
        self.penalty = penalty

    def __call__(self, x: Tensor) -> Tensor:
        return self.penalty(x)
