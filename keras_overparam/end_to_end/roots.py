"""The rule of depth 2 by the square root of a Gram matrix, kept from one kernel to the next."""

from typing import NamedTuple, TypeAlias

import numpy as np
from keras import ops

from keras_overparam.end_to_end.decomposition import decompose_small
from keras_overparam.end_to_end.matrices import (
    cond,
    eigenvectors,
    epsilon,
    gram,
    inner,
    largest_magnitude,
    norm,
    resolved,
    sum_of_products,
    transpose,
)
from keras_overparam.end_to_end.thin import Thin
from keras_overparam.typing import Tensor

RootParts: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]  # of a `Root`, all but the scale

# A basis is trusted with estimated errors below this fraction of √ε, unless more is tolerated.
TRUSTED_BELOW = 2.0**-3
MIXED_IN_ROOT = 2.0**-8  # fraction of the largest singular value, where it is not
CONVERGENT_BELOW = 0.5


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
    scale = largest_magnitude(kernel)
    kernel = kernel / scale
    parts, error = _root_in(kernel, basis)
    trusted = ops.all(error <= max(tolerance, _trusted_error(kernel)))
    parts = cond(trusted, lambda: parts, lambda: _root_anew(kernel))
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
    scale = largest_magnitude(kernel)
    return Root(*_root_anew(kernel / scale), scale)


def _root_anew(kernel: Tensor) -> RootParts:
    """Parts of a `Root` but for the scale, in a basis made from the kernel."""
    basis = eigenvectors(gram(kernel))
    parts, error = _root_in(kernel, basis)

    def decomposed_again() -> RootParts:
        vectors = decompose_small(parts[1], basis, MIXED_IN_ROOT)
        (vectors, rotated, diagonal, coupling), error = _root_in(kernel, vectors)
        return vectors, rotated, diagonal, ops.where(ops.isfinite(error), coupling, 0)

    trusted = ops.all(error <= _trusted_error(kernel))
    return cond(trusted, lambda: parts, decomposed_again)


def _root_in(kernel: Tensor, basis: Tensor) -> tuple[RootParts, Tensor]:
    """Parts of a `Root` in a basis, and an estimate of their relative error."""
    rotated = kernel @ basis
    diagonal, coupling, error = root_nearly_diagonal(gram(rotated))
    return (basis, rotated, diagonal, coupling), error


def _trusted_error(kernel: Tensor) -> float:
    return TRUSTED_BELOW * epsilon(kernel) ** 0.5


def root_nearly_diagonal(squared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Root `diag(d) + D` of a nearly diagonal Gram matrix, and an estimate of its relative error.

    The error is infinite, or not a number, if the matrix is not that nearly diagonal.
    """
    squares = ops.diagonal(squared, axis1=-2, axis2=-1)[..., None, :]
    diagonal, inverse = resolved(ops.sqrt(squares))
    inverses = inverse * transpose(inverse)
    sums = diagonal + transpose(diagonal)
    weights = ops.where(inverses > 0, 1 / ops.where(sums > 0, sums, 1), 0)
    identity = ops.eye(squared.shape[-1], dtype=squared.dtype)
    first = (squared - squares * identity) * weights
    change = (squared - gram(diagonal * identity + first)) * weights  # the root is symmetric
    typical = norm(diagonal, axis=(-2, -1)) / squared.shape[-1] ** 0.5
    ratio = ops.sqrt(ops.sum(ops.square(first) * inverses, axis=(-2, -1), keepdims=True))
    error = ratio * norm(change, axis=(-2, -1)) / ops.where(typical > 0, typical, 1)
    return diagonal, first + change, ops.where(ratio >= CONVERGENT_BELOW, np.inf, error)


def solve_root(root: Root, right: Tensor) -> Tensor:
    """`(diag(d) + D)⁻¹ right` to second order in D; components at `d = 0` are zero."""
    inverse = transpose(resolved(root.diagonal)[1])
    found = start = inverse * right
    for _ in range(2):
        found = start - inverse * (root.coupling @ found)
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
    turned = gradient @ root.basis
    left = root.rotated @ solve_root(root, inner(root.rotated, turned))
    turned = left + root.diagonal * turned + turned @ root.coupling
    return turned @ (root.scale * transpose(root.basis))


def precondition_thin_by_root(root: Root, thin: Thin) -> Tensor:
    """The same for a gradient of low rank, without a product of full size.

    Args:
        root: a `Root`.
        thin: a gradient as a pair `Y, Z` of shapes `(…, m, k)` and `(…, n, k)`, `G = Y Zᵀ`.

    Returns:
        Tensor of the kernel's shape.
    """
    columns, rows = thin
    left = root.rotated @ solve_root(root, inner(root.rotated, columns))
    turned = transpose(rows) @ root.basis
    turned = root.diagonal * turned + turned @ root.coupling
    right = turned @ transpose(root.basis)
    return root.scale * sum_of_products(left, transpose(rows), columns, right)


def polar_factors(root: Root) -> tuple[Tensor, Tensor]:
    """Polar factors `P` and `H` of the kernel, `K = P H` with `H = (KᵀK)^{1/2}`.

    By them the rule of depth 2 is `K PᵀG + G H`.

    Args:
        root: a `Root`.

    Returns:
        Pair of tensors of shapes `(…, m, n)` and `(…, n, n)`.
    """
    transposed = transpose(root.basis)
    polar = root.rotated @ solve_root(root, transposed)
    matrix = root.basis * root.diagonal + root.basis @ root.coupling
    return polar, matrix @ (root.scale * transposed)


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
    return kernel @ inner(polar, gradient) + gradient @ root


def precondition_thin_by_polar(kernel: Tensor, polar: Tensor, root: Tensor, thin: Thin) -> Tensor:
    """The same for a gradient of low rank, a pair `Y, Z` with `G = Y Zᵀ`."""
    columns, rows = thin
    left = kernel @ inner(polar, columns)
    right = transpose(rows) @ root
    return sum_of_products(left, transpose(rows), columns, right)
