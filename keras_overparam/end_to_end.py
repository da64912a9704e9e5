"""The end-to-end update rule: what gradient descent on a deep linear network does to the product.

Gradient descent on the factors of `K = A1 @ … @ AN`, started balanced, moves `K` by

    K ← (1 − ηλN) K − η Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N},    j = 1 … N,

where `G` is the gradient of the loss in `K`, `η` the learning rate and `λ` the weight decay of each
factor (Arora, Cohen & Hazan 2018, Theorem 1). The sum is a preconditioner applied to `G`. Kernels
are `(…, inputs, units)`; the paper writes `W = Kᵀ`, which only turns the order of the terms round.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import finite_number, positive_integer, real_tensor
from keras_overparam.typing import Float64Array, Tensor

Result = TypeVar("Result")
Thin: TypeAlias = tuple[Tensor, Tensor]  # Y and Z of a gradient `G = Y Zᵀ` of low rank
RootParts: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # of a `Root`, all but the scale

# Where mixed singular vectors are told apart: in so many steps of that factor each, if there is a
# singular value below that fraction of the largest.
MIXED_BELOW = 2.0**-11
UNMIXING_FACTOR = 2.0**-4
UNMIXING_LEVELS = 4

# A basis is trusted with estimated errors below this fraction of √ε, unless more is tolerated.
TRUSTED_BELOW = 2.0**-3
MIXED_IN_ROOT = 2.0**-8  # fraction of the largest singular value, where it is not
CONVERGENT_BELOW = 0.5
# Columns and rows of a sketch beyond the rank that is looked for, and its greatest rounding.
OVERSAMPLED = 8
PROBES = 8
SKETCH_ROUNDING = 2.0**6


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of the rule's preconditioner at a kernel.

    The eigenvector that belongs to `eigenvalues[…, r, s]` is the matrix `u_r v_sᵀ`, with `u_r` the
    r-th column of `left` and `v_s` the s-th column of `right`.
    """

    eigenvalues: Tensor
    left: Tensor
    right: Tensor


class Preconditioner(NamedTuple):
    """The rule's preconditioner at a kernel of m ≥ n rows and columns, ready to be applied.

    With `K = U Σ Vᵀ` and `a = σ^{2/N}`, the preconditioned gradient is

        U [C ∘ (Uᵀ G V)] Vᵀ + G M,    C_rs = Σ_{j<N} a_r^{N−j} a_s^{j−1},    M = V diag(a^{N−1}) Vᵀ.

    The terms `j < N` act on the range of `K` only, so that U needs no more columns than K.

    Attributes:
        left: U, of the kernel's shape `(…, m, n)`; columns at singular values of zero are zero.
        coefficients: C, of shape `(…, n, n)`.
        right: V, of shape `(…, n, n)`.
        outer: M, of shape `(…, n, n)`.
    """

    left: Tensor
    coefficients: Tensor
    right: Tensor
    outer: Tensor


class Root(NamedTuple):
    """The square root `(KᵀK)^{1/2} = c V (diag(d) + D) Vᵀ` in a basis V, ready to be applied.

    Attributes:
        basis: V, orthogonal, of shape `(…, n, n)`.
        rotated: `K V / c`, of the kernel's shape `(…, m, n)`, `m ≥ n`.
        diagonal: d, the norms of its columns, of shape `(…, 1, n)`.
        coupling: D, symmetric, of shape `(…, n, n)`; zero in a basis of singular vectors.
        scale: c, the kernel's largest entry, of shape `(…, 1, 1)`.
    """

    basis: Tensor
    rotated: Tensor
    diagonal: Tensor
    coupling: Tensor
    scale: Tensor


def end_to_end_gradient(kernel: Tensor, gradient: Tensor, depth: int) -> Tensor:
    """The preconditioned gradient `Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N}`.

    A matrix is decomposed on its smaller side only; a kernel of one output (or one input) needs no
    decomposition. At `K = 0` the result is zero for `N > 1`: a saddle of the deep network.

    In float32 the relative error (of Frobenius norms) is about 1e-6 for well-conditioned kernels.
    Singular values are resolved to about `ε ‖K‖`, which their power 2/N magnifies by
    `(2/N) κ^{1−2/N}` where K has the condition number κ: at 1e6 the error is below 1e-4 at depth 2,
    below 1e-3 at depths up to 5 and below 5e-3 at depths up to 8. Singular values below the
    arithmetic's resolution, `σ < 2 ε ‖K‖`, count as zero.

    Args:
        kernel: array or tensor `K` of shape `(…, inputs, units)`.
        gradient: `G`, of the same shape.
        depth: number of factors, N ≥ 1. At depth 1 the result is `gradient`.

    Returns:
        Tensor of the same shape, in the kernel's precision (at least float32).

    A kernel or a gradient that is not finite gives a result that is not finite.

    Raises:
        ValueError: for a depth below 1, arrays that are not of real numbers, or shapes that differ.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import end_to_end_gradient
    >>> kernel = np.diag([4.0, 1.0])
    >>> end_to_end_gradient(kernel, np.ones((2, 2)), depth=2).__array__()
    array([[8., 5.],
           [5., 2.]])

    Reference:
        Arora, Cohen & Hazan 2018, Theorem 1 (Equation 7).
    """
    depth = positive_integer("depth", depth)
    kernel, gradient = _same_shape(kernel, gradient)
    if depth == 1:
        return gradient
    if 1 in kernel.shape[-2:]:
        step_size, projection = step_and_momentum(kernel, gradient, depth)
        return step_size * (gradient + projection)
    if kernel.shape[-2] < kernel.shape[-1]:  # the rule keeps its form under transposition
        return _transpose(end_to_end_gradient(_transpose(kernel), _transpose(gradient), depth))
    if depth == 2:
        return precondition_by_root(decomposed_root(kernel), gradient)
    return precondition(preconditioner(kernel, depth), gradient)


def preconditioner(kernel: Tensor, depth: int) -> Preconditioner:
    """The rule's preconditioner at a kernel, which `precondition` applies to gradients.

    Args:
        kernel: tensor of shape `(…, m, n)`, `m ≥ n`.
        depth: number of factors, N ≥ 2.

    Returns:
        A `Preconditioner`.
    """
    left, singular, right = _decompose(kernel)
    root = singular ** (2.0 / depth)
    powers = [ops.ones_like(root)]
    for _ in range(depth - 1):
        powers.append(powers[-1] * root)
    # C is a sum of N − 1 outer products.
    falling, rising = powers[:0:-1], powers[:-1]
    coefficients = ops.matmul(ops.stack(falling, axis=-1), ops.stack(rising, axis=-2))
    outer = ops.matmul(right * powers[-1][..., None, :], _transpose(right))
    return Preconditioner(left, coefficients, right, outer)


def precondition(preconditioner: Preconditioner, gradient: Tensor) -> Tensor:
    """Apply a preconditioner to a gradient.

    Args:
        preconditioner: a `Preconditioner`.
        gradient: tensor of the shape of the kernel it belongs to.

    Returns:
        Tensor of the same shape.
    """
    left, coefficients, right, outer = preconditioner
    inner = ops.matmul(ops.matmul(_transpose(left), gradient), right)
    ranged = ops.matmul(coefficients * inner, _transpose(right))
    return ops.matmul(left, ranged) + ops.matmul(gradient, outer)


def _decompose(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values and vectors `U, σ, V` of a kernel, through its Gram matrix.

    A Gram matrix squares the condition number: right singular vectors whose singular values are
    below `√ε ‖K‖` come out mixed. The singular values are therefore measured on the kernel itself,
    `σ_r = ‖K v_r‖`; and as fractional powers magnify what is small, the mixed vectors are
    decomposed again among themselves.
    """
    scale = _largest_magnitude(kernel)
    kernel = kernel / scale
    right = _eigenvectors(_gram(kernel))
    left = ops.matmul(kernel, right)
    left, right = _unmixed(kernel, left, right)
    singular, inverse = _resolved(_norm(left, axis=-2))
    return left * inverse, ops.squeeze(singular * scale, -2), right


def _unmixed(kernel: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """`K V` and `V`, the vectors of ever smaller singular values decomposed among themselves."""

    def decomposed_again() -> tuple[Tensor, Tensor]:
        products, vectors = left, right
        for level in range(1, UNMIXING_LEVELS + 1):
            vectors = _decompose_small(products, vectors, UNMIXING_FACTOR**level)
            products = ops.matmul(kernel, vectors)
        return products, vectors

    norms = _norm(left, axis=-2)
    mixed = norms < MIXED_BELOW * ops.max(norms, axis=-1, keepdims=True)
    return _cond(ops.any(mixed), decomposed_again, lambda: (left, right))


def _decompose_small(left: Tensor, right: Tensor, below: float) -> Tensor:
    """Decompose the vectors whose singular values are below a fraction of the largest.

    The others are kept out by distinct negative numbers on the diagonal, coupled to nothing.
    """
    norms = _norm(left, axis=-2)
    small = norms < below * ops.max(norms, axis=-1, keepdims=True)
    columns = ops.where(small, left, 0)
    columns = columns / _largest_magnitude(columns)
    size = right.shape[-1]
    apart = -1 - ops.cast(ops.arange(size), right.dtype) / size
    diagonal = ops.where(small[..., 0, :], 0, apart)
    matrix = _gram(columns) + diagonal[..., None, :] * ops.eye(size, dtype=right.dtype)
    return ops.matmul(right, _eigenvectors(matrix))


def tracked_root(kernel: Tensor, basis: Tensor, tolerance: float = 0.0) -> Root:
    """The square root `(KᵀK)^{1/2}` in a basis of an earlier kernel's right singular vectors.

    In such a basis the Gram matrix of `K V` is nearly diagonal. With `S_rs = d_r + d_s`, and all
    divisions entry by entry,

        D₁ = offdiagonal(VᵀKᵀK V) / S,    D = D₁ + R / S,    R = VᵀKᵀK V − (diag(d) + D₁)²,

    are its root to first and to second order (Newton's method with the diagonal in place of the
    root). The first order is wrong by about `R / S`, the second by about `‖N‖` times that, where
    `N_rs = D_rs / √(d_r d_s)`. If this exceeds `√ε / 8` of the singular values' root mean square,
    4e-5 in float32, or the tolerance, the kernel is decomposed anew; and also if `‖N‖ ≥ 1/2`, for
    the inverse of the root is a series in N. That takes one eigendecomposition, or two (see
    `decomposed_root`); otherwise there are matrix products only. (Frobenius norms: a kernel may
    have moved, and a gradient may lie, in one direction alone, so that the error counts against one
    singular value, not all of them.)

    Args:
        kernel: tensor of shape `(…, m, n)`, `m ≥ n`.
        basis: V, orthogonal, of shape `(…, n, n)`. Of several kernels all are decomposed anew, or
            none.
        tolerance: relative error up to which the basis is kept.

    Returns:
        A `Root`, in the given basis or in a new one.
    """
    scale = _largest_magnitude(kernel)
    kernel = kernel / scale
    parts, error = _root_in(kernel, basis)
    trusted = ops.all(error <= max(tolerance, _trusted_error(kernel)))
    parts = _cond(trusted, lambda: parts, lambda: _root_anew(kernel))
    return Root(*parts, scale)


def decomposed_root(kernel: Tensor) -> Root:
    """The square root `(KᵀK)^{1/2}` in a basis of the kernel's own right singular vectors.

    An eigendecomposition of the Gram matrix mixes vectors of small singular values. Most of that is
    seen in the Gram matrix of `K V`, and corrected as in `tracked_root`. If the error would exceed
    what is trusted there, the vectors of small singular values are first decomposed once more.

    Args:
        kernel: tensor of shape `(…, m, n)`, `m ≥ n`.

    Returns:
        A `Root`.
    """
    scale = _largest_magnitude(kernel)
    return Root(*_root_anew(kernel / scale), scale)


def _root_anew(kernel: Tensor) -> RootParts:
    """Parts of a `Root` but for the scale, in a basis made from the kernel."""
    basis = _eigenvectors(_gram(kernel))
    parts, error = _root_in(kernel, basis)

    def decomposed_again() -> RootParts:
        vectors = _decompose_small(parts[1], basis, MIXED_IN_ROOT)
        (vectors, rotated, diagonal, coupling), error = _root_in(kernel, vectors)
        return vectors, rotated, diagonal, ops.where(ops.isfinite(error), coupling, 0)

    trusted = ops.all(error <= _trusted_error(kernel))
    return _cond(trusted, lambda: parts, decomposed_again)


def _root_in(kernel: Tensor, basis: Tensor) -> tuple[RootParts, Tensor]:
    """Parts of a `Root` in a basis, and an estimate of their relative error."""
    rotated = ops.matmul(kernel, basis)
    diagonal, coupling, error = _root_nearly_diagonal(_gram(rotated))
    return (basis, rotated, diagonal, coupling), error


def _trusted_error(kernel: Tensor) -> float:
    return TRUSTED_BELOW * _epsilon(kernel) ** 0.5


def _root_nearly_diagonal(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Root `diag(d) + D` of a nearly diagonal Gram matrix, and an estimate of its relative error.

    The error is infinite, or not a number, if the matrix is not that nearly diagonal.
    """
    squares = ops.diagonal(gram, axis1=-2, axis2=-1)[..., None, :]
    diagonal, inverse = _resolved(ops.sqrt(squares))
    inverses = inverse * _transpose(inverse)
    sums = diagonal + _transpose(diagonal)
    weights = ops.where(inverses > 0, 1 / ops.where(sums > 0, sums, 1), 0)
    identity = ops.eye(gram.shape[-1], dtype=gram.dtype)
    first = (gram - squares * identity) * weights
    change = (gram - _gram(diagonal * identity + first)) * weights  # the root is symmetric
    typical = _norm(diagonal, axis=(-2, -1)) / gram.shape[-1] ** 0.5
    ratio = ops.sqrt(ops.sum(ops.square(first) * inverses, axis=(-2, -1), keepdims=True))
    error = ratio * _norm(change, axis=(-2, -1)) / ops.where(typical > 0, typical, 1)
    return diagonal, first + change, ops.where(ratio >= CONVERGENT_BELOW, np.inf, error)


def _resolved(singular: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values `(…, 1, n)`, zero below the arithmetic's resolution, and their inverses."""
    resolved = singular > 2 * _epsilon(singular) * _norm(singular, axis=-1)
    return ops.where(resolved, singular, 0), ops.where(
        resolved, 1 / ops.where(resolved, singular, 1), 0
    )


def solve_root(root: Root, right: Tensor) -> Tensor:
    """`(diag(d) + D)⁻¹ right` to second order in D; components at `d = 0` are zero."""
    inverse = _transpose(_resolved(root.diagonal)[1])
    found = start = inverse * right
    for _ in range(2):
        found = start - inverse * ops.matmul(root.coupling, found)
    return found


def precondition_by_root(root: Root, gradient: Tensor) -> Tensor:
    """The rule of depth 2, `(KKᵀ)^{1/2} G + G (KᵀK)^{1/2}`, by the root in its basis.

    With `H = diag(d) + D` and everything turned into the basis, it is `K H⁻¹ KᵀG + G H`.

    Args:
        root: a `Root`.
        gradient: tensor of the shape of the kernel it belongs to.

    Returns:
        Tensor of the same shape.
    """
    turned = ops.matmul(gradient, root.basis)
    left = ops.matmul(root.rotated, solve_root(root, _inner(root.rotated, turned)))
    turned = left + root.diagonal * turned + ops.matmul(turned, root.coupling)
    return ops.matmul(turned, root.scale * _transpose(root.basis))


def precondition_thin_by_root(root: Root, thin: Thin) -> Tensor:
    """The same for a gradient of low rank, without a product of full size.

    Args:
        root: a `Root`.
        thin: a gradient as a pair `Y, Z` of shapes `(…, m, k)` and `(…, n, k)`, `G = Y Zᵀ`.

    Returns:
        Tensor of the kernel's shape.
    """
    columns, rows = thin
    left = ops.matmul(root.rotated, solve_root(root, _inner(root.rotated, columns)))
    turned = ops.matmul(_transpose(rows), root.basis)
    turned = root.diagonal * turned + ops.matmul(turned, root.coupling)
    right = ops.matmul(turned, _transpose(root.basis))
    return root.scale * _sum_of_products(left, _transpose(rows), columns, right)


def polar_factors(root: Root) -> tuple[Tensor, Tensor]:
    """Polar factors `P` and `H` of the kernel, `K = P H` with `H = (KᵀK)^{1/2}`.

    By them the rule of depth 2 is `K PᵀG + G H`.

    Args:
        root: a `Root`.

    Returns:
        Pair of tensors of shapes `(…, m, n)` and `(…, n, n)`.
    """
    transposed = _transpose(root.basis)
    polar = ops.matmul(root.rotated, solve_root(root, transposed))
    matrix = root.basis * root.diagonal + ops.matmul(root.basis, root.coupling)
    return polar, ops.matmul(matrix, root.scale * transposed)


def precondition_by_polar(kernel: Tensor, polar: Tensor, root: Tensor, gradient: Tensor) -> Tensor:
    """The rule of depth 2, `K PᵀG + G H`, by a kernel's polar factors.

    Args:
        kernel: `K` of shape `(…, m, n)`.
        polar: P, of the same shape.
        root: H, of shape `(…, n, n)`.
        gradient: `G` of the kernel's shape.

    Returns:
        Tensor of the same shape.
    """
    return ops.matmul(kernel, _inner(polar, gradient)) + ops.matmul(gradient, root)


def precondition_thin_by_polar(kernel: Tensor, polar: Tensor, root: Tensor, thin: Thin) -> Tensor:
    """The same for a gradient of low rank, a pair `Y, Z` with `G = Y Zᵀ`."""
    columns, rows = thin
    left = ops.matmul(kernel, _inner(polar, columns))
    right = ops.matmul(_transpose(rows), root)
    return _sum_of_products(left, _transpose(rows), columns, right)


def thin_gradient(gradient: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """A gradient as a product of two thin matrices, if its rank allows it.

    The gradient of a dense layer's kernel has at most the rank of the number of rows in its batch.
    Random combinations of its rows then span all its rows; further random combinations, which the
    basis was not made of, tell whether it spans them: their part outside of the basis measures
    that of the gradient, whatever the gradient is.

    Args:
        gradient: `G` of shape `(…, m, n)`.
        rank: rank that is looked for.

    Returns:
        Tensors `Y`, `Z` of shapes `(…, m, k)` and `(…, n, k)`, `G = Y Zᵀ` with `ZᵀZ = I`, and a
        boolean scalar: whether that is so, up to rounding.
    """
    size = rank + OVERSAMPLED
    scale = _largest_magnitude(gradient)
    sketch = ops.convert_to_tensor(_random(size + PROBES, gradient.shape[-2]), gradient.dtype)
    combined = ops.matmul(sketch, gradient) / scale
    rows = ops.linalg.qr(_transpose(combined[..., :size, :]))[0]
    probes = combined[..., size:, :]
    outside = probes - ops.matmul(ops.matmul(probes, rows), _transpose(rows))
    bound = SKETCH_ROUNDING * _epsilon(gradient) * _norm(probes, axis=(-2, -1))
    spanned = ops.all(_norm(outside, axis=(-2, -1)) <= bound)
    return ops.matmul(gradient, rows), rows, spanned


@functools.cache
def _random(rows: int, columns: int) -> Float64Array:
    """A fixed matrix of standard normal numbers."""
    return np.random.default_rng(0).standard_normal((rows, columns))


def step_and_momentum(kernel: Tensor, gradient: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """The rule for one output (or one input): an adaptive step size and a momentum.

    The preconditioned gradient is `‖k‖^{2−2/N} (g + (N−1) Pr_k g)`: gradient descent whose step
    size grows with the distance from the origin, plus an amplification along `k`, the direction in
    which the past steps have led, which the paper reads as a momentum.

    Args:
        kernel: `k` of shape `(…, inputs, 1)` or `(…, 1, units)`.
        gradient: `g`, of the same shape.
        depth: number of factors, N ≥ 1.

    Returns:
        Pair of tensors: the step size `‖k‖^{2−2/N}` of shape `(…, 1, 1)` and the momentum
        `(N−1) Pr_k g` of the kernel's shape. At `k = 0` the projection is zero, and so is the step
        size if N > 1.

    Raises:
        ValueError: for a depth below 1, arrays that are not of real numbers, shapes that differ, or
            a kernel of several inputs and outputs.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.end_to_end import step_and_momentum
    >>> step, momentum = step_and_momentum(np.array([[3.0], [4.0]]), np.array([[5.0], [0.0]]), 2)
    >>> float(step[0, 0]), momentum[:, 0].__array__().round(6).tolist()
    (5.0, [1.8, 2.4])

    Reference:
        Arora, Cohen & Hazan 2018, Claim 2 (Equation 12).
    """
    depth = positive_integer("depth", depth)
    kernel, gradient = _same_shape(kernel, gradient)
    if 1 not in kernel.shape[-2:]:
        raise ValueError(
            "`kernel` must have one output or one input. "
            f"Received: kernel of shape {tuple(kernel.shape)}"
        )
    norm = _norm(kernel, axis=(-2, -1))
    direction = kernel / ops.where(norm > 0, norm, 1)
    along = ops.sum(direction * gradient, axis=(-2, -1), keepdims=True)
    return norm ** (2 - 2 / depth), (depth - 1) * along * direction


def end_to_end_spectrum(kernel: Tensor, depth: int) -> Spectrum:
    """Eigenvalues and eigenvectors of the rule's preconditioner at a kernel.

    The linear map `G ↦ Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N}` is symmetric and positive
    semidefinite. With `K = U Σ Vᵀ` its eigenvectors are `u_r v_sᵀ`, with eigenvalues
    `Σ_j σ_r^{2(N−j)/N} σ_s^{2(j−1)/N}`: it amplifies directions that are already large.

    Args:
        kernel: `K` of shape `(…, inputs, units)`.
        depth: number of factors, N ≥ 1.

    Returns:
        A `Spectrum`: eigenvalues `(…, inputs, units)`, left vectors `(…, inputs, inputs)` and right
        vectors `(…, units, units)`.

    Raises:
        ValueError: for a depth below 1, or a kernel that is not of real numbers.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.end_to_end import end_to_end_spectrum
    >>> end_to_end_spectrum(np.diag([4.0, 1.0]), depth=2).eigenvalues.__array__()
    array([[8., 5.],
           [5., 2.]])

    Reference:
        Arora, Cohen & Hazan 2018, Claim 1 (Equations 9 and 10).
    """
    depth = positive_integer("depth", depth)
    kernel = real_tensor("kernel", kernel)
    left, singular, right = ops.linalg.svd(kernel, full_matrices=True)
    rows, columns = (_padded(singular ** (2 / depth), size) for size in kernel.shape[-2:])
    eigenvalues = sum(
        rows[..., :, None] ** (depth - j) * columns[..., None, :] ** (j - 1)
        for j in range(1, depth + 1)
    )
    return Spectrum(eigenvalues, left, _transpose(right))


def end_to_end_step(
    kernel: Tensor, gradient: Tensor, learning_rate: float, depth: int, weight_decay: float = 0.0
) -> Tensor:
    """One step of the rule, `K ← (1 − ηλN) K − η Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N}`.

    Gradient descent of step size η on balanced factors does the same up to terms of order η².

    Args:
        kernel: `K` of shape `(…, inputs, units)`.
        gradient: gradient `G` of the loss in `K`.
        learning_rate: η.
        depth: number of factors, N ≥ 1.
        weight_decay: λ of each factor, which is Nλ end to end.

    Returns:
        The new kernel.

    Raises:
        ValueError: for arguments out of range, or shapes that differ.

    Example:

    >>> import numpy as np
    >>> from keras_overparam import end_to_end_step
    >>> end_to_end_step(np.diag([4.0, 1.0]), np.eye(2), 0.1, depth=2).__array__()
    array([[3.2, 0. ],
           [0. , 0.8]])

    Reference:
        Arora, Cohen & Hazan 2018, Theorem 1 (Equation 7).
    """
    learning_rate = finite_number("learning_rate", learning_rate)
    weight_decay = finite_number("weight_decay", weight_decay)
    update = end_to_end_gradient(kernel, gradient, depth)
    kernel = ops.cast(kernel, update.dtype)
    return (1 - learning_rate * weight_decay * depth) * kernel - learning_rate * update


def unit_step_norm(depth: int) -> float:
    """Spectral norm at which the rule's largest eigenvalue is one, `N^{−N/(2N−2)}`.

    A start at this scale moves, in its leading direction, as fast as plain gradient descent; far
    below it the rule stalls. `N σ^{2−2/N} = 1` gives 0.5 at depth 2.

    Args:
        depth: number of factors, N ≥ 2.

    Example:

    >>> from keras_overparam.end_to_end import unit_step_norm
    >>> unit_step_norm(2)
    0.5
    """
    return depth ** (-depth / (2 * depth - 2))


def _same_shape(kernel: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    kernel = real_tensor("kernel", kernel)
    gradient = ops.cast(real_tensor("gradient", gradient), kernel.dtype)
    if tuple(kernel.shape) != tuple(gradient.shape):
        raise ValueError(
            "`kernel` and `gradient` must have the same shape. "
            f"Received: {tuple(kernel.shape)} and {tuple(gradient.shape)}"
        )
    return kernel, gradient


def _cond(predicate: Tensor, true: Callable[[], Result], false: Callable[[], Result]) -> Result:
    """`ops.cond`, but what is known is not compiled: JAX would do so at each call."""
    try:
        known = bool(predicate)
    except TypeError:  # traced
        return ops.cond(predicate, true, false)
    return true() if known else false()


def _eigenvectors(matrix: Tensor) -> Tensor:
    """Of a symmetric matrix; of some other one if it is not finite, which TensorFlow refuses.

    Rounding leaves TensorFlow's vectors less orthogonal the more there are: 1e-5 in float32 for a
    hundred. One step of Newton's method for the polar factor, `V ← V + V (I − VᵀV) / 2`, mends it.
    """
    finite = ops.all(ops.isfinite(matrix), axis=(-2, -1), keepdims=True)
    vectors = ops.linalg.eigh(ops.where(finite, matrix, 0))[1]
    missing = ops.eye(matrix.shape[-1], dtype=vectors.dtype) - _gram(vectors)
    return vectors + ops.matmul(vectors, missing) / 2


def _transpose(matrix: Tensor) -> Tensor:
    return ops.swapaxes(matrix, -1, -2)


def _gram(matrix: Tensor) -> Tensor:
    return _inner(matrix, matrix)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return ops.matmul(_transpose(a), b)


def _sum_of_products(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """`a b + c d` as one product."""
    return ops.matmul(ops.concatenate([a, c], axis=-1), ops.concatenate([b, d], axis=-2))


def _epsilon(tensor: Tensor) -> float:
    return float(np.finfo(keras.backend.standardize_dtype(tensor.dtype)).eps)


def _largest_magnitude(matrix: Tensor) -> Tensor:
    """Largest absolute entry of each matrix, `(…, 1, 1)`; 1 for a matrix of zeros."""
    largest = ops.max(ops.abs(matrix), axis=(-2, -1), keepdims=True)
    return ops.where(largest > 0, largest, 1)


def _norm(tensor: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """Euclidean norm over axes that are kept; neither overflows nor underflows on the way."""
    largest = ops.max(ops.abs(tensor), axis=axis, keepdims=True)
    scale = ops.where(largest > 0, largest, 1)
    return scale * ops.sqrt(ops.sum(ops.square(tensor / scale), axis=axis, keepdims=True))


def _padded(values: Tensor, size: int) -> Tensor:
    """Values followed by zeros, up to a size."""
    missing = [(0, 0)] * (len(values.shape) - 1) + [(0, size - values.shape[-1])]
    return ops.pad(values, missing)
