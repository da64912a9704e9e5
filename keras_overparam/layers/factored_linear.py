"""The deep linear map: a kernel trained as a product of factors."""

import numbers
from itertools import pairwise

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import positive_integer
from keras_overparam.factorization import (
    application_plans,
    chain_product,
    chain_sizes,
    hidden_widths,
    product_squared_norm,
)
from keras_overparam.layers.starts import factor_initializers

FACTORIZATIONS = ("balanced", "independent", "identity")


@keras.saving.register_keras_serializable(package="keras_overparam")
class FactoredLinear(keras.layers.Layer):
    """Linear map `x @ K` trained through the factors of `K = A1 @ A2 @ … @ AN`.

    The layer computes what a `keras.layers.Dense` without bias computes, and can represent the same
    functions; gradient descent on the factors moves `K` differently (the end-to-end update rule),
    which can be faster. `A1` is nearest the input.

    Args:
        units: positive integer, size of the output.
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
        kernel_initializer: initializer of the kernel (of each factor if "independent").
        kernel_regularizer: regularizer of the product `K`. It costs one product per step, less
            for `keras.regularizers.L2` (see `product_squared_norm`).
        factor_regularizer: regularizer of each factor. A different objective: L2 on balanced
            factors is a Schatten-2/N penalty on `K`.
        activity_regularizer: regularizer of the output.
        kernel_constraint: not supported, kept so that the reason can be given.
        **kwargs: those of `keras.layers.Layer` (`name`, `dtype`, `trainable`).

    Input shape:
        `(batch_size, …, inputs)`, at least two dimensions.

    Output shape:
        `(batch_size, …, units)`.

    Raises:
        ValueError: for a `units`, `depth`, `width` or `factorization` out of range, or a
            `kernel_constraint`.

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

    def __init__(
        self,
        units,
        depth=2,
        width=None,
        factorization="balanced",
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        factor_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        **kwargs,
    ):
        self.units = positive_integer("units", units)
        self.depth = positive_integer("depth", depth)
        self.width = _checked_width(width, self.depth)
        if factorization not in FACTORIZATIONS:
            raise ValueError(
                f"`factorization` must be one of {', '.join(map(repr, FACTORIZATIONS))}. "
                f"Received: factorization={factorization!r}"
            )
        if kernel_constraint is not None:
            raise ValueError(
                "`kernel_constraint` is not supported: projecting the product of the factors onto "
                "a constraint does not say how to move the factors. Use `kernel_regularizer`, or "
                "collapse() to a Dense layer first. "
                f"Received: kernel_constraint={kernel_constraint}"
            )
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.factorization = factorization
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.factor_regularizer = keras.regularizers.get(factor_regularizer)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape):
        """Create the factors.

        Args:
            input_shape: shape whose last entry, the number of inputs, is known.
        """
        inputs = input_shape[-1]
        if inputs is None:
            raise ValueError(
                "The last dimension of the inputs must be known to build the factors of "
                f"{self.name!r}. Received: input_shape={tuple(input_shape)}"
            )
        sizes = hidden_widths(inputs, self.units, self.depth, self.width)
        initializers = factor_initializers(self.factorization, self.kernel_initializer, sizes)
        # No autocast: the product is multiplied in full precision and rounded once.
        self._factors = [
            self.add_weight(
                name=f"factor_{index + 1}",
                shape=sizes[index : index + 2],
                initializer=initializer,
                regularizer=self.factor_regularizer if index else self._first_regularizer(),
                autocast=False,
            )
            for index, initializer in enumerate(initializers)
        ]
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: inputs})

    @property
    def factors(self):
        """List of the N variables `A1, …, AN`."""
        if not self.built:
            raise AttributeError(f"Build {self.name!r} (call it once) before accessing `factors`.")
        return list(self._factors)

    @property
    def kernel(self):
        """The product `A1 @ … @ AN`, shape `(inputs, units)`, in at least float32."""
        return self._product(self.factors)

    def _product(self, factors):
        return chain_product(self._in_full_precision(factors))

    def _in_full_precision(self, factors):
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        return [ops.cast(factor, dtype) for factor in factors]

    def _first_regularizer(self):
        """The product's regularizer hangs on the first factor: counted once, as Dense's is."""
        return self.factor_regularizer if self.kernel_regularizer is None else self._penalty

    def _penalty(self, first_factor):
        if type(self.kernel_regularizer) is keras.regularizers.L2:  # needs no product
            squared_norm = product_squared_norm(self._in_full_precision(self.factors))
            penalty = self.kernel_regularizer.l2 * squared_norm
        else:
            penalty = self.kernel_regularizer(self.kernel)
        if self.factor_regularizer is not None:
            penalty = penalty + self.factor_regularizer(first_factor)
        return penalty

    def call(self, inputs):
        """Multiply in the order that is cheapest for this many rows, known now or at run time.

        Args:
            inputs: tensor `(batch_size, …, inputs)`.
        """
        plans = application_plans(chain_sizes(self._factors))
        leading = inputs.shape[:-1]
        if len(plans) == 1 or None not in leading:
            rows = int(np.prod(leading)) if None not in leading else 1
            plan = max(plan for plan in plans if plan.from_rows <= max(rows, 1))
            return self._follow(plan, inputs)
        rows = ops.prod(ops.shape(inputs)[:-1])
        index = sum(ops.cast(rows >= plan.from_rows, "int32") for plan in plans[1:])
        branches = [lambda x, plan=plan: self._follow(plan, x) for plan in plans]
        return ops.switch(index, branches, inputs)

    def _follow(self, plan, inputs):
        x = inputs
        for start, stop in pairwise(plan.boundaries):
            segment = self._factors[start:stop]
            matrix = segment[0] if len(segment) == 1 else self._product(segment)
            x = ops.matmul(x, ops.cast(matrix, self.compute_dtype))
        return x

    def compute_output_shape(self, input_shape):
        """Input shape with its last entry replaced by `units`."""
        return (*input_shape[:-1], self.units)

    def collapse(self):
        """A plain `keras.layers.Dense` that computes the same function.

        The product is multiplied in float64. `kernel_regularizer` goes along, `factor_regularizer`
        has no counterpart and does not.

        Returns:
            A built `Dense` layer of the same name, with weights of its own.

        Raises:
            ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(f"Build {self.name!r} (call it once) before collapsing it.")
        factors = [np.asarray(ops.convert_to_numpy(f), "float64") for f in self._factors]
        dense = keras.layers.Dense.from_config(self._dense_config())
        dense.build((None, factors[0].shape[0]))
        dense.set_weights([chain_product(factors), *self._bias_values()])
        return dense

    def _bias_values(self):
        return []

    def _dense_config(self):
        own = ("depth", "width", "factorization", "factor_regularizer")
        config = {k: v for k, v in self.get_config().items() if k not in own}
        return config | {"use_bias": False}

    def get_config(self):
        """Arguments of the constructor, serializable."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "units": self.units,
            "depth": self.depth,
            "width": self.width,
            "factorization": self.factorization,
            "kernel_initializer": serialize(self.kernel_initializer),
            "kernel_regularizer": serialize(self.kernel_regularizer),
            "factor_regularizer": serialize(self.factor_regularizer),
            "activity_regularizer": serialize(self.activity_regularizer),
        }


def _checked_width(width, depth):
    """None, an int, or a list of `depth − 1` ints (a list, as JSON gives it back)."""
    if width is None or isinstance(width, numbers.Integral):
        return width if width is None else positive_integer("width", width)
    if not isinstance(width, (list, tuple)) or len(width) != depth - 1:
        raise ValueError(
            "`width` must be None, a positive integer or one positive integer for each of the "
            f"depth − 1 = {depth - 1} hidden layers. Received: width={width!r}"
        )
    return [positive_integer("width", value) for value in width]
