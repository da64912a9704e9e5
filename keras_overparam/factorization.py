"""Factorizations of a kernel, `K = A1 @ A2 @ … @ AN`: making, multiplying and measuring them.

Kernels are `(inputs, outputs)` and `A1` is nearest the input. Sizes `(s0, …, sN)` describe a chain
whose factor `Aj` has shape `(s[j-1], s[j])`.
"""

import functools
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias, TypeVar

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import (
    boolean,
    hidden_width,
    positive_integer,
    real_matrices,
    real_numbers,
    real_tensor,
    refusal,
)
from keras_overparam.precision import frobenius_norm, matmul, maximum
from keras_overparam.tracing import remembered
from keras_overparam.typing import Array, Float64Array, Shape, Sizes, Tensor, Width

Matrix = TypeVar("Matrix", bound=Any)  # a tensor, or a NumPy array
Line: TypeAlias = tuple[int, int, tuple[int, ...]]  # slope, intercept, boundaries of a plan
WELL_CONDITIONED = 1e5  # see `_triplets`


class Plan(NamedTuple):
    """One order of computing `x @ A1 @ … @ AN`, the cheapest from `from_rows` rows of `x` on.

    `x` is multiplied by one product after another; the k-th is that of the factors
    `boundaries[k] + 1 … boundaries[k + 1]`.
    """

    from_rows: int
    boundaries: tuple[int, ...]


@remembered
def _cheapest_split(sizes: Sizes) -> tuple[int, int]:
    """Multiplications of the cheapest product of a chain, and the factor after which it splits."""
    if len(sizes) == 2:
        return 0, 0
    return min(
        (
            _cheapest_split(sizes[: t + 1])[0]
            + _cheapest_split(sizes[t:])[0]
            + sizes[0] * sizes[t] * sizes[-1],
            t,
        )
        for t in range(1, len(sizes) - 1)
    )


def chain_sizes(factors: Sequence[Tensor]) -> Sizes:
    """Sizes `(s0, …, sN)` of a chain of factors.

    Raises:
        ValueError: if there is no factor, or the shapes of two neighbours do not chain.
    """
    shapes = [tuple(getattr(factor, "shape", ())) for factor in _listed(factors)]
    if not _chain(shapes):
        raise ValueError(
            "factors must be a non-empty list of matrices in which the columns of each match the "
            f"rows of the next. Received shapes: {shapes}"
        )
    return (shapes[0][-2], *(shape[-1] for shape in shapes))


def _listed(factors: Sequence[Matrix]) -> list[Matrix]:
    try:
        return list(factors)
    except TypeError:
        raise refusal("factors", "a non-empty list of matrices", factors) from None


def _as_tensors(factors: Sequence[Tensor]) -> list[Tensor]:
    """Factors as tensors of one type, at least float32."""
    tensors = [real_tensor("factors", factor) for factor in _listed(factors)]
    # Not `keras.backend.result_type`, which takes float64 for float32 on JAX.
    wide = any(keras.backend.standardize_dtype(t.dtype) == "float64" for t in tensors)
    return [ops.cast(tensor, "float64" if wide else "float32") for tensor in tensors]


def _chain(shapes: list[tuple[int, ...]]) -> bool:
    """Whether matrices of those shapes can be multiplied, with their leading axes broadcast."""
    if not shapes or any(len(shape) < 2 for shape in shapes):
        return False
    try:
        np.broadcast_shapes(*(_known(shape[:-2]) for shape in shapes))
    except ValueError:
        return False
    return all(a[-1] == b[-2] for a, b in pairwise(shapes))


def _known(shape: Shape) -> tuple[int, ...]:
    """A shape with sizes that are not known while tracing taken for 1, which fits to any."""
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def chain_product(factors: Sequence[Matrix]) -> Matrix:
    """Product `A1 @ A2 @ … @ AN`, multiplied in the order that takes fewest multiplications.

    Args:
        factors: non-empty list of matrices, `Aj` of shape `(…, s[j-1], s[j])`; tensors, variables
            or NumPy arrays (which stay NumPy arrays, in their own precision).

    Returns:
        The product, of shape `(…, s[0], s[N])`.

    Raises:
        ValueError: if the list is empty, the shapes do not chain or a factor is not of real
            numbers.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import chain_product
    >>> chain_product([np.ones((2, 3)), np.ones((3, 1)), np.ones((1, 4))]).shape
    (2, 4)
    """
    factors = _listed(factors)
    sizes = chain_sizes(factors)
    for factor in factors:
        real_numbers("factors", factor)
    on_host = all(isinstance(factor, np.ndarray) for factor in factors)
    return multiply(factors, sizes, np.matmul if on_host else matmul)


def multiply(
    factors: Sequence[Tensor], sizes: Sizes, matmul: Callable[[Tensor, Tensor], Tensor] = matmul
) -> Tensor:
    """`chain_product` of factors whose `chain_sizes` are known; nothing is checked."""
    if len(factors) == 1:
        return factors[0]
    split = _cheapest_split(sizes)[1]
    return matmul(
        multiply(factors[:split], sizes[: split + 1], matmul),
        multiply(factors[split:], sizes[split:], matmul),
    )


def factor_gradients(factors: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    """Gradients of a loss in each factor, `(A1 … A[j-1])ᵀ G (A[j+1] … AN)ᵀ`.

    Args:
        factors: list of tensors, `Aj` of shape `(…, s[j-1], s[j])`.
        gradient: `G`, that in their product, of shape `(…, s[0], s[N])`.

    Returns:
        List of tensors of the factors' shapes.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.factorization import factor_gradients
    >>> factors = [np.array([[3.0]]), np.array([[2.0]])]
    >>> [float(gradient[0, 0]) for gradient in factor_gradients(factors, np.array([[10.0]]))]
    [20.0, 30.0]
    """
    gradient, *factors = (ops.convert_to_tensor(matrix) for matrix in (gradient, *factors))
    after = list(accumulate(reversed(factors[1:]), lambda product, a: a @ product))
    gradients = []
    for factor, product in zip(factors[:-1], reversed(after), strict=True):
        gradients.append(gradient @ ops.swapaxes(product, -1, -2))
        gradient = ops.swapaxes(factor, -1, -2) @ gradient
    return [*gradients, gradient]


def product_squared_norm(factors: Sequence[Tensor]) -> Tensor:
    """Squared Frobenius norm of the product, `‖A1 @ A2 @ … @ AN‖²`, made to be differentiated.

    With `K = L @ R`, split after any factor, `‖K‖² = ⟨Lᵀ L, R Rᵀ⟩`, and its gradients are
    `2 L (R Rᵀ)` and `2 (Lᵀ L) R`. The way with fewest multiplications, forward and backward, is
    taken: this one, which never forms `K`, or the sum of `K`'s squares. For two factors of shapes
    `(m, k)` and `(k, n)` they need `2 k² (m + n)` and `3 m k n`.

    The gradient is as accurate either way. The value's relative error is that of the arithmetic
    times `(∏ ‖Aj‖ / ‖K‖)²`, which is one at balance.

    Args:
        factors: non-empty list of matrices, `Aj` of shape `(s[j-1], s[j])`.

    Returns:
        Scalar tensor, at least float32.

    Raises:
        ValueError: if the list is empty, the shapes do not chain, or a factor is not a matrix of
            real numbers.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import product_squared_norm
    >>> float(product_squared_norm([np.ones((4, 1)), np.ones((1, 3))]))
    12.0
    """
    factors = _as_tensors(factors)
    sizes = chain_sizes(factors)
    if any(len(factor.shape) > 2 for factor in factors):
        raise ValueError(
            "factors must be matrices, without leading axes. "
            f"Received shapes: {[tuple(factor.shape) for factor in factors]}"
        )
    split = _squared_norm_split(sizes)
    if split is None:
        return ops.sum(ops.square(chain_product(factors)))
    return _squared_norm_of_two(chain_product(factors[:split]), chain_product(factors[split:]))


@remembered
def _squared_norm_split(sizes: Sizes) -> int | None:
    """Factor after which to split for the squared norm, None to form the product."""
    last = len(sizes) - 1
    costs: dict[int | None, int] = {None: 3 * _cheapest_split(sizes)[0]}
    for t in range(1, last):
        parts = _cheapest_split(sizes[: t + 1])[0] + _cheapest_split(sizes[t:])[0]
        costs[t] = 3 * parts + 2 * sizes[t] ** 2 * (sizes[0] + sizes[last])
    return min(costs, key=lambda split: costs[split])


@ops.custom_gradient
def _squared_norm_of_two(
    left: Tensor, right: Tensor
) -> tuple[Tensor, Callable[..., tuple[Tensor, Tensor]]]:
    left_gram = ops.transpose(left) @ left
    right_gram = right @ ops.transpose(right)

    def gradient(*args: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # Keras's backends hand the upstream gradient over by position or by name.
        scale = 2 * (args[0] if upstream is None else upstream)
        return scale * (left @ right_gram), scale * (left_gram @ right)

    return ops.sum(left_gram * right_gram), gradient


@remembered
def application_plans(sizes: Sizes) -> tuple[Plan, ...]:
    """Cheapest orders of computing `x @ A1 @ … @ AN`, by the number of rows of `x`.

    An order that multiplies `x` by products `P1, P2, …` of neighbouring factors costs
    `rows · Σ|Pk| + Σ cost(Pk)` multiplications: a line in `rows`. The lower envelope of these lines
    says which order is cheapest for how many rows. Backward passes cost twice the forward one
    whatever the order, so the choice holds for training too.

    Args:
        sizes: tuple `(s0, …, sN)`.

    Returns:
        Tuple of `Plan`, ascending in `from_rows`; the first starts at 1 row.

    Example:

    >>> from keras_overparam.factorization import application_plans
    >>> for plan in application_plans((3136, 512, 512)):
    ...     print(plan)
    Plan(from_rows=1, boundaries=(0, 1, 2))
    Plan(from_rows=3137, boundaries=(0, 2))
    """
    last = len(sizes) - 1
    lines: dict[int, list[Line]] = {last: [(0, 0, (last,))]}  # from each position
    for start in reversed(range(last)):
        candidates = [
            (
                sizes[start] * sizes[stop] + slope,
                _cheapest_split(sizes[start : stop + 1])[0] + intercept,
                (start, *boundaries),
            )
            for stop in range(start + 1, last + 1)
            for slope, intercept, boundaries in lines[stop]
        ]
        lines[start] = [line for _, line in _lower_envelope(candidates)]
    return tuple(Plan(rows, line[2]) for rows, line in _lower_envelope(lines[0]))


def plan_for(plans: Sequence[Plan], rows: int) -> Plan:
    """The cheapest of some `application_plans` for a number of rows; few rows if there are none."""
    return [plan for plan in plans if plan.from_rows <= max(rows, 1)][-1]


def _lower_envelope(lines: list[Line]) -> list[tuple[int, Line]]:
    """Pairs (first number of rows, line): where each line becomes the lowest, ascending."""
    rows, envelope = 1, list[tuple[int, Line]]()
    while True:
        lowest = min(lines, key=lambda line: (line[0] * rows + line[1], line[0]))
        envelope.append((rows, lowest))
        lines = [line for line in lines if line[0] < lowest[0]]
        if not lines:
            return envelope
        rows = min((line[1] - lowest[1]) // (lowest[0] - line[0]) + 1 for line in lines)


def hidden_widths(inputs: int, units: int, depth: int, width: Width = None) -> Sizes:
    """Sizes `(inputs, w1, …, w[N-1], units)` of a depth-N factorization.

    Args:
        inputs: rows of the kernel.
        units: columns of the kernel.
        depth: number of factors, N ≥ 1.
        width: None for `min(inputs, units)`, which keeps every kernel expressible; an integer; or
            one integer for each of the N − 1 hidden layers.

    Example:

    >>> from keras_overparam.factorization import hidden_widths
    >>> hidden_widths(128, 10, depth=3)
    (128, 10, 10, 10)
    """
    checked: Any = hidden_width(min(inputs, units) if width is None else width, depth)
    hidden = (checked,) * (depth - 1) if isinstance(checked, int) else checked
    return (inputs, *hidden, units)


def balanced_factors(kernel: npt.ArrayLike, depth: int, width: Width = None) -> list[Array]:
    """Balanced factors of a kernel: `A1 @ … @ AN = K` and `Ajᵀ Aj = A[j+1] A[j+1]ᵀ`.

    With `K = U S Vᵀ`, the factors are `U S^{1/N}`, `S^{1/N}`, …, `S^{1/N} Vᵀ`, padded with zeros to
    the widths. Balance is what the end-to-end rule assumes (Arora, Cohen & Hazan 2018, Theorem 1);
    gradient flow preserves it. Computed in float64 on the host, since a layer starts, and a model
    is converted, once.

    Args:
        kernel: array of shape `(…, inputs, units)`.
        depth: number of factors, N ≥ 1.
        width: hidden widths as in `FactoredLinear`. If the smallest, w, is below the rank of
            `kernel`, the product is the kernel of rank w closest to it, and `truncation_error` says
            how close that is; otherwise it is `kernel`.

    Returns:
        List of N arrays in the kernel's dtype (at least float32).

    Raises:
        ValueError: for a kernel that is not of finite real numbers, or a depth or width out of
            range.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import balanced_factors, chain_product
    >>> kernel = np.random.default_rng(0).normal(size=(5, 3))
    >>> factors = balanced_factors(kernel, depth=3)
    >>> [factor.shape for factor in factors]
    [(5, 3), (3, 3), (3, 3)]
    >>> bool(np.allclose(chain_product(factors), kernel))
    True
    """
    kernel = real_matrices("kernel", kernel)
    inputs, units = kernel.shape[-2:]
    sizes = hidden_widths(inputs, units, positive_integer("depth", depth), width)
    dtype = np.result_type(kernel.dtype, np.float32)
    return [factor.astype(dtype) for factor in balanced_split(kernel.astype(dtype), sizes, np)]


def balanced_split(kernel: Matrix, sizes: Sizes, arrays: ModuleType) -> list[Matrix]:
    """What `balanced_factors` does, by NumPy in float64, or in a traced program as it is given.

    Args:
        kernel: array or tensor of shape `(…, s0, sN)`.
        sizes: tuple `(s0, …, sN)`.
        arrays: `numpy` for arrays, `keras.ops` for tensors, whose values need not be known.

    Returns:
        List of N arrays or tensors.
    """
    depth = len(sizes) - 1
    if depth == 1:
        return [kernel]
    left, singular, right = _triplets(kernel) if arrays is np else ops.linalg.svd(kernel, False)
    rank = min(sizes)
    root = singular[..., :rank] ** (1 / depth)
    ends = left[..., :rank] * root[..., None, :], root[..., None] * right[..., :rank, :]
    middle = root[..., None] * arrays.eye(rank, dtype=root.dtype)
    factors = [ends[0], *[middle] * (depth - 2), ends[1]]
    shapes = pairwise(sizes)
    return [_pad(factor, shape, arrays) for factor, shape in zip(factors, shapes, strict=True)]


def _triplets(kernel: Array) -> tuple[Array, Array, Array]:
    """Singular vectors and values `U, s, Vᵀ` of an array, in float64.

    Those of float32 numbers are found from the eigenvectors of the smaller Gram matrix, which takes
    an eighth of the time. The vectors are then orthogonal up to float64's rounding times the square
    of the condition number, which up to the bound makes less than float32's rounding in the
    factors' balance.
    """
    wide = kernel.astype(np.float64)
    if kernel.dtype != np.float64:
        left, singular, right = _triplets_by_gram(wide)
        if np.all(singular.min(axis=-1) * WELL_CONDITIONED > singular.max(axis=-1)):
            return left, singular, right
    return np.linalg.svd(wide, full_matrices=False)


def _triplets_by_gram(kernel: Float64Array) -> tuple[Array, Array, Array]:
    tall = kernel.shape[-2] >= kernel.shape[-1]
    matrix = kernel if tall else np.swapaxes(kernel, -1, -2)
    right = np.linalg.eigh(np.swapaxes(matrix, -1, -2) @ matrix)[1][..., ::-1]
    scaled = matrix @ right
    singular = np.linalg.norm(scaled, axis=-2)
    left = scaled / np.where(singular > 0, singular, 1)[..., None, :]
    ends = (left, right) if tall else (right, left)
    return ends[0], singular, np.swapaxes(ends[1], -1, -2)


def truncation_error(kernel: npt.ArrayLike, width: Width, relative: bool = False) -> Float64Array:
    """Distance of a kernel from the product of its balanced factors of a given width.

    That product keeps the w largest singular values, w being the smallest width, so the error is
    `‖K − A1 @ … @ AN‖ = (Σ_{r>w} σ_r²)^{1/2}`, in the Frobenius norm. No kernel of rank w, and so
    no factorization of that width, is closer. The depth does not matter from two factors on; a
    single one has no width, and no error. Computed in float64 on the host.

    Args:
        kernel: array of shape `(…, inputs, units)`.
        width: hidden widths as in `balanced_factors`: None, a positive integer, or several.
        relative: whether to divide by `‖K‖` (a kernel of zeros has no error).

    Returns:
        Array of shape `(…)` in float64; exactly zero where `w ≥ min(inputs, units)`.

    Raises:
        ValueError: for a kernel that is not of finite real numbers, or a width out of range.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import truncation_error
    >>> float(truncation_error(np.diag([12.0, 4.0, 3.0]), width=1))
    5.0
    >>> round(float(truncation_error(np.diag([12.0, 4.0, 3.0]), width=1, relative=True)), 4)
    0.3846

    Reference:
        Eckart & Young, "The approximation of one matrix by another of lower rank", Psychometrika 1
        (1936).
    """
    kernel = real_matrices("kernel", kernel).astype(np.float64)
    inputs, units = kernel.shape[-2:]
    depth = len(width) + 1 if isinstance(width, (list, tuple)) else 2
    rank = min(hidden_widths(inputs, units, depth, width))
    singular = np.linalg.svd(kernel, compute_uv=False)
    norm, lost = (np.linalg.norm(values, axis=-1) for values in (singular, singular[..., rank:]))
    return lost / np.where(norm > 0, norm, 1) if boolean("relative", relative) else lost


def identity_factors(kernel: npt.ArrayLike, depth: int, width: Width = None) -> list[Array]:
    """Linear-residual factors: one holds the kernel, the others are (rectangular) identities.

    Very deep products stall near zero and start fast near the identity (Arora, Cohen & Hazan 2018,
    Section 8). The kernel goes into the first factor, or into the last where `inputs < units`, so
    that the product is exactly `kernel` unless a width is below `min(inputs, units)`; then the
    columns (or rows) beyond that width start at zero.

    Args:
        kernel: array of shape `(…, inputs, units)`.
        depth: number of factors, N ≥ 1.
        width: hidden widths as in `FactoredLinear`.

    Returns:
        List of N arrays in the kernel's dtype.

    Raises:
        ValueError: for a kernel that is not of finite real numbers, or a depth or width out of
            range.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import identity_factors
    >>> print(identity_factors(np.full((3, 2), 0.5), depth=2)[1])
    [[1. 0.]
     [0. 1.]]
    """
    kernel = real_matrices("kernel", kernel)
    inputs, units = kernel.shape[-2:]
    sizes = hidden_widths(inputs, units, positive_integer("depth", depth), width)
    return [np.array(factor) for factor in identity_split(kernel, sizes, np)]


def identity_split(kernel: Matrix, sizes: Sizes, arrays: ModuleType) -> list[Matrix]:
    """What `identity_factors` does, by NumPy or in a traced program: see `balanced_split`."""
    shapes = list(pairwise(sizes))
    leading = tuple(kernel.shape[:-2])
    factors = [
        arrays.broadcast_to(arrays.eye(*shape, dtype=kernel.dtype), (*leading, *shape))
        for shape in shapes
    ]
    holder = 0 if sizes[0] >= sizes[-1] else len(shapes) - 1
    rows, columns = shapes[holder]
    factors[holder] = _pad(kernel[..., :rows, :columns], shapes[holder], arrays)
    return factors


def _pad(matrix: Matrix, shape: tuple[int, int], arrays: ModuleType) -> Matrix:
    """Append zero rows and columns up to `shape`."""
    have = tuple(matrix.shape)
    missing = [(0, size - known) for size, known in zip(shape, have[-2:], strict=True)]
    return arrays.pad(matrix, [(0, 0)] * (len(have) - 2) + missing)


def balancedness_gap(factors: Sequence[Tensor]) -> Tensor:
    """Largest Frobenius norm of `Ajᵀ Aj − A[j+1] A[j+1]ᵀ` over neighbouring factors.

    Zero at a balanced start and constant under gradient flow; gradient descent of step size η
    changes it at order η² per step (Arora, Cohen & Hazan 2018, Section 5).

    Args:
        factors: list of matrices, `Aj` of shape `(…, s[j-1], s[j])`.

    Returns:
        Tensor of shape `(…)`, at least float32; 0.0 for a single factor.

    Raises:
        ValueError: if the list is empty, the shapes do not chain or a factor is not of real
            numbers.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import balanced_factors, balancedness_gap
    >>> float(balancedness_gap(balanced_factors(np.eye(3), depth=4)))
    0.0
    """
    factors = _as_tensors(factors)
    chain_sizes(factors)
    gaps = [
        frobenius_norm(ops.swapaxes(a, -1, -2) @ a - b @ ops.swapaxes(b, -1, -2))
        for a, b in pairwise(factors)
    ]
    return functools.reduce(maximum, gaps) if gaps else 0.0
