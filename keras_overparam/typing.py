"""Names for the types in the package's signatures.

Keras is not typed: to a type checker its classes are `Any`, and a tensor has the class of whichever
backend is in use. What is a tensor is therefore named, not checked.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

Layer: TypeAlias = keras.layers.Layer
Pair: TypeAlias = tuple[Layer, Layer]  # a layer, and its copy or conversion

# Of Keras's backend. Functions that take one take what `keras.ops` do: variables and arrays too.
Tensor: TypeAlias = Any
Array: TypeAlias = npt.NDArray[Any]
Float64Array: TypeAlias = npt.NDArray[np.float64]

Shape: TypeAlias = tuple[int | None, ...]  # None where a size is not known
Sizes: TypeAlias = tuple[int, ...]  # `(s0, …, sN)` of a chain of factors

Width: TypeAlias = int | list[int] | tuple[int, ...] | None  # see `FactoredLinear`
Precision: TypeAlias = Literal["float32", "float64"]
Factorization: TypeAlias = Literal["balanced", "independent", "identity"]

Config: TypeAlias = dict[str, Any]  # of a layer, a loss or an optimizer, serializable
# What Keras makes an initializer, a regularizer, a constraint or an activation from: a name, a
# configuration, or the thing itself, which is a function or an object that is called like one.
Identifier: TypeAlias = str | Mapping[str, Any] | Callable[..., Tensor]
