"""The end-to-end update rule: what gradient descent on a deep linear network does to the product.

Gradient descent on the factors of `K = A1 @ … @ AN`, started balanced, moves `K` by

    K ← (1 − ηλN) K − η Σ_j [K Kᵀ]^{(N−j)/N} G [Kᵀ K]^{(j−1)/N},    j = 1 … N,

where `G` is the gradient of the loss in `K`, `η` the learning rate and `λ` the weight decay of each
factor (Arora, Cohen & Hazan 2018, Theorem 1). The sum is a preconditioner applied to `G`. Kernels
are `(…, inputs, units)`; the paper writes `W = Kᵀ`, which only turns the order of the terms round.
"""

from typing import NamedTuple

from keras import ops

from keras_overparam.checks import finite_number, positive_integer, real_tensor
from keras_overparam.end_to_end.decomposition import decompose
from keras_overparam.end_to_end.matrices import norm, transpose
from keras_overparam.end_to_end.roots import decomposed_root, precondition_by_root
from keras_overparam.typing import Tensor


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
        return transpose(end_to_end_gradient(transpose(kernel), transpose(gradient), depth))
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
    left, singular, right = decompose(kernel)
    root = singular ** (2.0 / depth)
    powers = [ops.ones_like(root)]
    for _ in range(depth - 1):
        powers.append(powers[-1] * root)
    # C is a sum of N − 1 outer products.
    falling, rising = powers[:0:-1], powers[:-1]
    coefficients = ops.stack(falling, axis=-1) @ ops.stack(rising, axis=-2)
    outer = (right * powers[-1][..., None, :]) @ transpose(right)
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
    inner = transpose(left) @ gradient @ right
    ranged = (coefficients * inner) @ transpose(right)
    return left @ ranged + gradient @ outer


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
    length = norm(kernel, axis=(-2, -1))
    direction = kernel / ops.where(length > 0, length, 1)
    along = ops.sum(direction * gradient, axis=(-2, -1), keepdims=True)
    return length ** (2 - 2 / depth), (depth - 1) * along * direction


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
    return Spectrum(eigenvalues, left, transpose(right))


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


def _padded(values: Tensor, size: int) -> Tensor:
    """Values followed by zeros, up to a size."""
    missing = [(0, 0)] * (len(values.shape) - 1) + [(0, size - values.shape[-1])]
    return ops.pad(values, missing)
