"""What there is to see of a factored kernel: its spectrum, and how well the rule describes it.

Plain NumPy, in float64: these are for looking at a few moments of a training, not for training.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from keras_overparam.checks import positive_integer
from keras_overparam.factorization import balancedness_gap, chain_product
from keras_overparam.typing import Array, Float64Array

RESOLUTION = 1e-8  # of singular values found through squares, relative to the largest

SingularVectors: TypeAlias = tuple[Float64Array, Float64Array, Float64Array]  # U, σ, V


def singular_vectors(kernel: Array) -> SingularVectors:
    """Singular values and vectors, from the eigenvectors of the smaller side's squares.

    Several times cheaper than a singular value decomposition. Values below 1e-8 of the largest are
    not resolved, and are zero.

    Args:
        kernel: NumPy array `K` of shape `(inputs, units)`.

    Returns:
        Triple `(U, σ, V)` of shapes `(inputs, n)`, `(n,)` and `(units, n)`, `n` the smaller side;
        σ descending, the columns that belong to zeros are zero.
    """
    kernel = np.asarray(kernel, "float64")
    if kernel.shape[0] < kernel.shape[1]:
        right, singular, left = singular_vectors(kernel.T)
        return left, singular, right
    right = np.linalg.eigh(kernel.T @ kernel)[1][:, ::-1]
    left = kernel @ right
    singular = np.linalg.norm(left, axis=0)
    resolved = singular > RESOLUTION * singular.max(initial=0.0)
    left = np.divide(left, singular, out=np.zeros_like(left), where=resolved)
    order = np.argsort(-np.where(resolved, singular, 0.0), kind="stable")
    return left[:, order], np.where(resolved, singular, 0.0)[order], (right * resolved)[:, order]


def effective_rank(singular_values: npt.ArrayLike) -> float:
    """The exponential of the entropy of the singular values as shares of their sum.

    Between 1 (one value is not zero) and their number (all are equal); 0 for a zero kernel.

    Args:
        singular_values: array of shape `(n,)`.

    Example:

    >>> from keras_overparam.diagnostics import effective_rank
    >>> round(effective_rank([2.0, 2.0, 0.0]), 6)
    2.0

    Reference:
        Roy & Vetterli, "The Effective Rank: A Measure of Effective Dimensionality", 2007.
    """
    values = np.asarray(singular_values, "float64")
    values = values[values > 0]
    shares = values / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares)))) if len(values) else 0.0


def preconditioner_extremes(
    singular_values: npt.ArrayLike, shape: tuple[int, ...], depth: int
) -> tuple[float, float]:
    """Smallest and largest eigenvalue of the end-to-end rule's preconditioner.

    The eigenvalues are `Σ_j σ_r^{2(N−j)/N} σ_s^{2(j−1)/N}` over pairs of singular values, with
    zeros for the larger side's null space: the extremes are `N σ_min^{2−2/N}`, or `σ_min^{2−2/N}`
    of a kernel that is not square, and `N σ_max^{2−2/N}`.

    Args:
        singular_values: all of the kernel's, in any order.
        shape: the kernel's, `(inputs, units)`.
        depth: number of factors, N ≥ 1.

    Returns:
        Pair of floats.

    Example:

    >>> from keras_overparam.diagnostics import preconditioner_extremes
    >>> preconditioner_extremes([4.0, 1.0], (2, 2), depth=2)
    (2.0, 8.0)

    Reference:
        Arora, Cohen & Hazan 2018, Claim 1 (Equation 10).
    """
    depth = positive_integer("depth", depth)
    powers = np.asarray(singular_values, "float64") ** (2 - 2 / depth)
    smallest = powers.min() * (depth if shape[0] == shape[1] else 1)
    return float(smallest), float(depth * powers.max())


def first_order_change(factors: Sequence[Array], changes: Sequence[Array]) -> Array:
    """How the product moves with its factors, to first order.

    Args:
        factors: list of NumPy arrays.
        changes: what is added to each, arrays of the same shapes.

    Returns:
        NumPy array `Σ_j A1 … A[j−1] ΔAj A[j+1] … AN`.
    """
    terms = [
        chain_product([*factors[:j], change, *factors[j + 1 :]]) for j, change in enumerate(changes)
    ]
    return np.sum(terms, axis=0)


def rule_change(
    factors: Sequence[Array], changes: Sequence[Array], vectors: SingularVectors | None = None
) -> Array:
    """The change of the product by the end-to-end rule, for the gradient that the factors' tell of.

    Gradient descent changes the factors by `ΔAj = (A1 … A[j−1])ᵀ Ĝ (A[j+1] … AN)ᵀ`, with
    `Ĝ = −ηG`. Of Ĝ the rule's change `Σ_j [K Kᵀ]^{(N−j)/N} Ĝ [Kᵀ K]^{(j−1)/N}` needs only what acts
    on the singular vectors of `K = U Σ Vᵀ` of singular values above zero, which the first and the
    last factor's changes give: `Uᵀ Ĝ = Σ⁻¹ (AN V)ᵀ ΔAN` and `Ĝ V = ΔA1 (A1ᵀ U) Σ⁻¹`. To first order
    in η it is the product's own change if the factors are balanced, and differs from it if not.

    With momentum the changes are sums over past steps, and tell of a sum of past gradients; what
    adaptive optimizers do is no such gradient.

    Args:
        factors: list of N ≥ 2 NumPy arrays `A1, …, AN`.
        changes: what a step added to each, arrays of the same shapes.
        vectors: `singular_vectors` of the product, if at hand.

    Returns:
        NumPy array of the product's shape.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import balanced_factors
    >>> from keras_overparam.diagnostics import rule_change
    >>> a, b = (np.asarray(factor) for factor in balanced_factors(np.diag([4.0, 1.0]), depth=2))
    >>> rule_change([a, b], [np.ones((2, 2)) @ b.T, a.T @ np.ones((2, 2))]).round(6)
    array([[8., 5.],
           [5., 2.]])

    Reference:
        Arora, Cohen & Hazan 2018, Theorem 1 (Equation 7).
    """
    depth = len(factors)
    left, singular, right = singular_vectors(chain_product(factors)) if vectors is None else vectors
    kept = singular > 0
    left, singular, right = left[:, kept], singular[kept], right[:, kept]
    # Σ Uᵀ Ĝ and Ĝ V Σ.
    from_left = (factors[-1] @ right).T @ changes[-1]
    from_right = changes[0] @ (factors[0].T @ left)
    power = 1 - 2 / depth  # of 2 − 2/N, one is spent on Σ⁻¹
    change = left @ (singular[:, None] ** power * from_left)
    change += (from_right * singular**power) @ right.T
    if depth > 2:
        change += left @ _inner(depth, singular, from_left @ right, left.T @ from_right) @ right.T
    return change


def _inner(depth: int, singular: Array, from_left: Array, from_right: Array) -> Array:
    """The rule's terms 1 < j < N between singular vectors, from `Σ Uᵀ Ĝ V` and `Uᵀ Ĝ V Σ`."""
    rows, columns = singular[:, None], singular[None, :]
    total = np.zeros_like(from_left)
    for j in range(2, depth):
        left_power, right_power = 2 * (depth - j) / depth, 2 * (j - 1) / depth
        if left_power >= right_power:  # divide where the higher power is
            total += rows ** (left_power - 1) * from_left * columns**right_power
        else:
            total += rows**left_power * from_right * columns ** (right_power - 1)
    return total


def agreement(actual: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[float, float]:
    """How far two changes agree: their cosine, and their relative distance.

    Args:
        actual: array.
        predicted: array of the same shape.

    Returns:
        Pair `(⟨a, p⟩ / ‖a‖‖p‖, ‖a − p‖ / ‖p‖)` of floats; NaN where a norm is zero.

    Example:

    >>> from keras_overparam.diagnostics import agreement
    >>> agreement([2.0, 0.0], [1.0, 0.0])
    (1.0, 1.0)
    """
    actual, predicted = (np.asarray(change, "float64").ravel() for change in (actual, predicted))
    norms = np.linalg.norm(actual), np.linalg.norm(predicted)
    if 0.0 in norms:
        return float("nan"), float("nan")
    cosine = actual @ predicted / (norms[0] * norms[1])
    return float(cosine), float(np.linalg.norm(actual - predicted) / norms[1])


def relative_balancedness_gap(factors: Sequence[Array]) -> float:
    """The balancedness gap over the largest Frobenius norm of a factor's `Ajᵀ Aj`.

    Args:
        factors: list of NumPy arrays.

    Returns:
        Float; 0 for a single factor, and for factors that are all zero.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.diagnostics import relative_balancedness_gap
    >>> round(relative_balancedness_gap([2 * np.eye(2), np.eye(2)]), 6)
    0.75
    """
    squares = [float(np.linalg.norm(factor.T @ factor)) for factor in factors]
    return float(balancedness_gap(factors)) / max(squares) if max(squares) > 0 else 0.0


def momentum_share(kernel: npt.ArrayLike, change: npt.ArrayLike, depth: int) -> float:
    """Share of a step by the rule that is its momentum, for kernels of one output or one input.

    The rule's step is `‖k‖^{2−2/N} (g + (N−1) Pr_k g)`, so that of its part along the kernel the
    share (N−1)/N is the momentum `(N−1) Pr_k g`.

    Args:
        kernel: NumPy array `k`.
        change: what a step added to it, of the same shape.
        depth: N.

    Returns:
        Float from 0 to (N−1)/N; NaN where the kernel or the change is zero.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.diagnostics import momentum_share
    >>> momentum_share(np.array([[3.0], [0.0]]), np.array([[1.0], [0.0]]), depth=2)
    0.5

    Reference:
        Arora, Cohen & Hazan 2018, Claim 2 (Equation 12).
    """
    cosine, _ = agreement(kernel, change)
    return (depth - 1) / depth * abs(cosine)
