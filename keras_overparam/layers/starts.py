"""How a factored layer starts: one initializer per factor."""

from collections.abc import Callable
from typing import TypeAlias

import keras
from keras import ops

from keras_overparam.factorization import balanced_factors, identity_factors
from keras_overparam.typing import Array, Factorization, Sizes, Tensor

Initializer: TypeAlias = Callable[..., Tensor]  # of a shape and a `dtype`, as Keras calls it


def factor_initializers(
    factorization: Factorization,
    kernel_initializer: Initializer,
    sizes: Sizes,
    sample: Initializer,
) -> list[Initializer]:
    """One Keras initializer for each factor of a chain.

    Args:
        factorization: "balanced", "identity" or "independent" (see `FactoredLinear`).
        kernel_initializer: initializer of each factor when "independent".
        sizes: tuple `(s0, …, sN)`.
        sample: initializer of the end-to-end kernel as a matrix, otherwise.

    Returns:
        List of N callables `(shape, dtype) -> tensor`.
    """
    depth = len(sizes) - 1
    if factorization == "independent":
        return [_sibling(kernel_initializer, index) for index in range(depth)]
    split = {"balanced": balanced_factors, "identity": identity_factors}[factorization]
    start = _JointStart(split, sample, sizes)
    return [start.factor(index) for index in range(depth)]


def _sibling(initializer: Initializer, index: int) -> Initializer:
    """The initializer itself for the first factor, differently seeded copies for the others.

    A Keras initializer returns the same values at each call for the same shape, so sharing one
    would make all square factors equal.
    """
    if index == 0 or not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] += index
    return type(initializer).from_config(config)


class _JointStart:
    """Samples the end-to-end kernel once, splits it once, hands out the factors.

    Lazy, because Keras may build a layer inside a stateless scope and run initializers later.
    """

    def __init__(
        self, split: Callable[..., list[Array]], sample: Initializer, sizes: Sizes
    ) -> None:
        self.split = split
        self.sample = sample
        self.sizes = sizes
        self.remaining: dict[int, Array] | None = None

    def factor(self, index: int) -> Initializer:
        def initializer(shape: Sizes, dtype: str | None = None) -> Tensor:
            if self.remaining is None or index not in self.remaining:
                self.remaining = dict(enumerate(self._split_sample(dtype)))
            return ops.convert_to_tensor(self.remaining.pop(index), dtype=dtype)

        return initializer

    def _split_sample(self, dtype: str | None) -> list[Array]:
        kernel = self.sample((self.sizes[0], self.sizes[-1]), dtype=dtype)
        kernel = ops.convert_to_numpy(ops.cast(kernel, "float32" if dtype is None else dtype))
        if kernel.dtype.name not in ("float32", "float64"):
            kernel = kernel.astype("float32")
        return self.split(kernel, len(self.sizes) - 1, self.sizes[1:-1])
