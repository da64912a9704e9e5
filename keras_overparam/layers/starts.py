"""How a factored layer starts: one initializer per factor."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_overparam.factorization import balanced_split, identity_split
from keras_overparam.tracing import known_values
from keras_overparam.typing import Array, Factorization, Sizes, Tensor

Initializer: TypeAlias = Callable[..., Tensor]  # of a shape and a `dtype`, as Keras calls it
Sample: TypeAlias = Callable[[str | None], Tensor]  # a kernel of that type
AsMatrix: TypeAlias = Callable[[Any, ModuleType], Any]  # of a kernel, by NumPy or `keras.ops`
StartsAt: TypeAlias = Callable[[Array], None]  # what is told the matrix, where its values are known


def factor_initializers(
    factorization: Factorization,
    kernel_initializer: Initializer,
    sizes: Sizes,
    sample: Sample,
    as_matrix: AsMatrix,
    starts_at: StartsAt,
    owner: str,
) -> list[Initializer]:
    """One Keras initializer for each factor of a chain.

    Args:
        factorization: "balanced", "identity" or "independent" (see `FactoredLinear`).
        kernel_initializer: initializer of each factor when "independent".
        sizes: tuple `(s0, …, sN)`.
        sample: function that samples the end-to-end kernel, otherwise.
        as_matrix: function that makes a matrix of shape `(s0, sN)` of that kernel.
        starts_at: function that is called with that matrix where its values are known.
        owner: class and name of the layer, for messages.

    Returns:
        List of N callables `(shape, dtype) -> tensor`.
    """
    depth = len(sizes) - 1
    if factorization == "independent":
        if isinstance(kernel_initializer, keras.initializers.Zeros):
            starts_at(np.zeros((sizes[0], sizes[-1])))
        return [_sibling(kernel_initializer, index) for index in range(depth)]
    split = {"balanced": balanced_split, "identity": identity_split}[factorization]
    start = _JointStart(split, sample, as_matrix, starts_at, sizes, owner)
    return [_FactorInitializer(start, index) for index in range(depth)]


def _sibling(initializer: Initializer, index: int) -> Initializer:
    """The initializer itself for the first factor, differently seeded copies for the others.

    A Keras initializer returns the same values at each call for the same shape, so sharing one
    would make all square factors equal. One whose seed is a generator of seeds does not, and a
    copy of it would begin with the same seed.
    """
    if index == 0 or not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    seed = config.get("seed")
    if isinstance(seed, dict):
        return initializer
    if isinstance(seed, int):
        config["seed"] = seed + index
    return type(initializer).from_config(config)


class _FactorInitializer(keras.initializers.Initializer):
    """Hands out one factor of a joint start."""

    def __init__(self, start: "_JointStart", index: int) -> None:
        self.start = start
        self.index = index

    def __call__(self, shape: Sizes, dtype: str | None = None) -> Tensor:
        return ops.convert_to_tensor(self.start.factors(dtype)[self.index], dtype=dtype)


class _JointStart:
    """Samples the end-to-end kernel once, and splits it once, for the initializers of all factors.

    Keras calls an initializer when it makes the variable, or later, or each time that it needs a
    value for a trace and then once more. Where the sample has values, they are split by NumPy in
    float64, and kept for the other factors until all variables have theirs and drop their
    initializers. Where it is a symbol, the split is a part of the traced program, and its symbols
    are of no use in another one. They are shared within a graph of TensorFlow: its variables may
    start in it, and each sample may be another.
    """

    def __init__(
        self,
        split: Callable[[Any, Sizes, ModuleType], list[Any]],
        sample: Sample,
        as_matrix: AsMatrix,
        starts_at: StartsAt,
        sizes: Sizes,
        owner: str,
    ) -> None:
        self.split = split
        self.sample = sample
        self.as_matrix = as_matrix
        self.starts_at = starts_at
        self.sizes = sizes
        self.owner = owner
        self.values: list[Array] | None = None
        self.graph: object = None
        self.symbols: list[Tensor] = []

    def factors(self, dtype: str | None) -> list[Array] | list[Tensor]:
        """The factors of the one sample: arrays, or symbols of the program that is traced."""
        if self.values is not None:
            return self.values
        if self.graph is not None and self.graph is getattr(ops.zeros(()), "graph", None):
            return self.symbols
        kernel = self.sample(dtype)
        values = known_values(kernel)
        if values is None:  # kept for this graph; on JAX and PyTorch there is none
            self.graph, self.symbols = getattr(kernel, "graph", None), self._split_symbol(kernel)
            return self.symbols
        self.values = self._split_values(values, dtype)
        self.graph, self.symbols = None, []
        return self.values

    def _split_values(self, kernel: Array, dtype: str | None) -> list[Array]:
        kernel = kernel.astype(dtype if dtype in ("float32", "float64") else "float32")
        matrix = self.as_matrix(kernel, np)
        if not np.isfinite(matrix).all():
            raise ValueError(
                f"The initializer of the kernel of {self.owner} must return finite numbers, "
                "which can be split into factors. It returned some that are not finite."
            )
        self.starts_at(matrix)
        return [np.asarray(f, kernel.dtype) for f in self.split(matrix, self.sizes, np)]

    def _split_symbol(self, kernel: Tensor) -> list[Tensor]:
        # In float64 where it is sure to be had: JAX, unless told otherwise, computes in float32.
        given = keras.backend.standardize_dtype(kernel.dtype)
        wide = given == "float64" or keras.backend.backend() == "tensorflow"
        kernel = ops.cast(kernel, "float64" if wide else "float32")
        return self.split(self.as_matrix(kernel, ops), self.sizes, ops)
