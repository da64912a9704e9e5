"""What follows from training a product: memory of past gradients, and what regularizers can do.

The rule remembers past gradients (Arora, Cohen & Hazan 2018, Section 4, and the blog post's
warm-up); no regularizer of the kernel has the same effect (Section 6); and L2 on the factors acts
on the kernel as a regularizer of its singular values.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_overparam.checks import positive_integer
from keras_overparam.end_to_end import end_to_end_gradient
from keras_overparam.typing import Float64Array, Tensor


class GradientMemory(NamedTuple):
    """Coefficients of a trajectory in its own past gradients, see `gradient_memory`."""

    step_sizes: Tensor
    weights: Tensor
    start_weights: Tensor


def gradient_memory(scalars: Tensor, slopes: Tensor, learning_rate: float) -> GradientMemory:
    """Gradient descent over a vector times a scalar, as adaptive steps with memory.

    Write `w = w₁ ω₂`, and let gradient descent of rate η train the vector `w₁` and the scalar `ω₂`.
    Up to terms of order η², the product then moves by

        w⁽ᵗ⁺¹⁾ = w⁽ᵗ⁾ − ρ⁽ᵗ⁾ ∇⁽ᵗ⁾ − γ⁽ᵗ⁾ w⁽ᵗ⁾,   ρ = η ω₂²,   γ = η (∂L/∂ω₂) / ω₂,

    and since `w⁽ᵗ⁾` is itself made of past gradients, by a time-varying rate times the present
    gradient plus a weighted memory of all past ones:

        w⁽ᵗ⁺¹⁾ = w⁽ᵗ⁾ − ρ⁽ᵗ⁾ ∇⁽ᵗ⁾ − Σ_{τ<t} μ⁽ᵗ'τ⁾ ∇⁽τ⁾ − s⁽ᵗ⁾ w⁽⁰⁾,
        μ⁽ᵗ'τ⁾ = −γ⁽ᵗ⁾ ρ⁽τ⁾ Π_{τ<i<t} (1 − γ⁽ⁱ⁾),   s⁽ᵗ⁾ = γ⁽ᵗ⁾ Π_{i<t} (1 − γ⁽ⁱ⁾).

    The paper starts near zero and drops the last term.

    Args:
        scalars: `ω₂⁽ᵗ⁾` for t = 0 … T − 1, shape `(T,)`, none of them zero.
        slopes: `∂L/∂ω₂ = ⟨∇L(w), w₁⟩` at the same times, shape `(T,)`.
        learning_rate: η.

    Returns:
        A `GradientMemory`: step sizes ρ `(T,)`, weights μ `(T, T)` (zero from the diagonal on), and
        start weights s `(T,)`.

    Example:

    >>> from keras_overparam.consequences import gradient_memory
    >>> memory = gradient_memory([1.0, 2.0], [-1.0, -4.0], learning_rate=0.5)
    >>> memory.step_sizes.__array__().tolist()
    [0.5, 2.0]
    >>> memory.weights.__array__().tolist()
    [[0.0, 0.0], [0.5, 0.0]]

    Reference:
        Arora, Cohen & Hazan 2018, Section 4 (Observation 1 follows from it).
    """
    scalars, slopes = ops.convert_to_tensor(scalars), ops.convert_to_tensor(slopes)
    step_sizes = learning_rate * scalars**2
    pulls = learning_rate * slopes / scalars
    # Row t of `kept`: what is left at time t of what entered at τ = −1 (the start), 0, …, T − 1.
    steps = scalars.shape[0]
    rows = [ops.one_hot(0, steps + 1, dtype=scalars.dtype)]
    for time in range(1, steps):
        entered = ops.one_hot(time, steps + 1, dtype=scalars.dtype)
        rows.append(rows[-1] * (1 - pulls[time - 1]) + entered)
    pulled = pulls[:, None] * ops.stack(rows)
    return GradientMemory(step_sizes, -pulled[:, 1:] * step_sizes, pulled[:, 0])


def trajectory_from_memory(start: Tensor, gradients: Tensor, memory: GradientMemory) -> Tensor:
    """The trajectory that a memory of gradients stands for.

    Args:
        start: `w⁽⁰⁾`, shape `(d,)`.
        gradients: `∇⁽⁰⁾ … ∇⁽ᵀ⁻¹⁾`, shape `(T, d)`.
        memory: a `GradientMemory` of T steps.

    Returns:
        `w⁽⁰⁾ … w⁽ᵀ⁾`, shape `(T + 1, d)`.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.consequences import gradient_memory, trajectory_from_memory
    >>> memory = gradient_memory([1.0], [0.0], learning_rate=0.5)
    >>> trajectory_from_memory(np.zeros(1), np.ones((1, 1)), memory).__array__().tolist()
    [[0.0], [-0.5]]
    """
    dtype = memory.weights.dtype
    start, gradients = (ops.cast(ops.convert_to_tensor(a), dtype) for a in (start, gradients))
    steps = memory.weights @ gradients + memory.step_sizes[:, None] * gradients
    steps = steps + memory.start_weights[:, None] * start
    # Not `ops.cumsum`, which computes in float32 on PyTorch.
    return ops.concatenate([start[None], start - ops.tril(ops.ones_like(memory.weights)) @ steps])


def induced_regularizer(kernel: Tensor, depth: int) -> Tensor:
    """Smallest sum of squared factors of a kernel, `N Σ_r σ_r^{2/N}`.

    The sum `Σ_j ‖A_j‖²` of squared Frobenius norms, over all factorizations `K = A1 @ … @ AN` of
    whatever widths, is smallest for balanced factors, where it is this: the 2/N-th power of the
    Schatten-2/N quasi-norm, times N. That is `‖K‖²` at depth 1, twice the nuclear norm at depth 2,
    and ever closer to N times the rank. So decaying each factor by λ, which is descending
    `λ/2 Σ_j ‖A_j‖²`, favours kernels of low rank.

    The end-to-end rule turns the gradient of `λ/2` times this function, `λ U diag(σ^{2/N−1}) Vᵀ`,
    into `Nλ K`: the rule's weight decay.

    Args:
        kernel: `K` of shape `(…, inputs, units)`.
        depth: number of factors, N ≥ 1.

    Returns:
        Tensor of shape `(…)`. Singular values below the arithmetic's resolution, `σ < 2 ε ‖K‖`,
        count as zero, since a root of high order magnifies them.

    Raises:
        ValueError: for a depth below 1.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.consequences import induced_regularizer
    >>> [float(induced_regularizer(np.diag([9.0, 4.0, 0.0]), depth)) for depth in (1, 2)]
    [97.0, 26.0]

    Reference:
        Shang, Liu & Cheng, "Unified Scalable Equivalent Formulations for Schatten Quasi-Norms",
        arXiv:1606.00668, 2016; at depth 2, Srebro, Rennie & Jaakkola, "Maximum-Margin Matrix
        Factorization", NIPS 2004.
    """
    depth = positive_integer("depth", depth)
    kernel = ops.convert_to_tensor(kernel)
    singular = ops.linalg.svd(kernel, compute_uv=False)
    resolution = 2 * np.finfo(keras.backend.standardize_dtype(kernel.dtype)).eps
    squares = singular**2
    resolved = squares > float(resolution) ** 2 * ops.sum(squares, axis=-1, keepdims=True)
    powers = ops.where(resolved, ops.where(resolved, singular, 1) ** (2 / depth), 0)
    return depth * ops.sum(powers, axis=-1)


def loop_integral(
    gradient: Callable[[Float64Array], Tensor],
    direction: npt.ArrayLike,
    inner: float,
    outer: float,
    depth: int,
    nodes: int = 64,
) -> Tensor:
    """Line integral of the preconditioned gradient field along the paper's closed path.

    The field is `F(w) = ‖w‖^{2−2/N} (∇L(w) + (N−1) Pr_w ∇L(w))`. Were it the gradient of a
    regularized loss, of any regularizer whatever, its integral along every closed path would be
    zero. The path runs straight from `−R e` to `−r e`, along a half circle of radius `r` to `r e`,
    straight to `R e` and along a half circle of radius `R` back.

    Args:
        gradient: function from points `(n, d)` to the loss's gradients there, `(n, d)`.
        direction: `e`, a vector of size d ≥ 2; the paper takes that of `∇L(0)`.
        inner: the radius r > 0.
        outer: the radius R > r.
        depth: number of factors, N ≥ 1. Depth 1 is the control: its field is `∇L` itself.
        nodes: Gauss–Legendre nodes on each of the four parts.

    Returns:
        The integral, a scalar tensor.

    Example:

    >>> import numpy as np
    >>> from keras_overparam.consequences import loop_integral
    >>> slope = np.array([3.0, 4.0])
    >>> for depth in (1, 2, 3):
    ...     integral = loop_integral(lambda w: 0 * w + slope, slope, 0.5, 1.0, depth)
    ...     print(depth, round(abs(float(integral)), 6))
    1 0.0
    2 0.0
    3 2.290214

    Reference:
        Arora, Cohen & Hazan 2018, Theorem 2 and its proof.
    """
    depth = positive_integer("depth", depth)
    points, tangents = _closed_path(np.asarray(direction, "float64"), inner, outer, nodes)
    slopes = ops.convert_to_tensor(gradient(points))
    field = end_to_end_gradient(points[..., None], slopes[..., None], depth)[..., 0]
    return ops.sum(field * ops.cast(tangents, field.dtype))


def constant_gradient_loop_integral(slope: float, inner: float, outer: float, depth: int) -> float:
    """Closed form of `loop_integral` for a loss of constant gradient `g`.

    With `p = 3 − 2/N`: `2 ⟨g, e⟩ (R^p − r^p) (N − 1)(N − 2) / (3N − 2)`. It is what the integral
    tends to, relatively, for any loss near `w = 0`; not zero for N > 2, which proves the theorem.

    Args:
        slope: `⟨g, e⟩`.
        inner: the radius r.
        outer: the radius R.
        depth: number of factors, N ≥ 1.

    Example:

    >>> from keras_overparam.consequences import constant_gradient_loop_integral
    >>> round(constant_gradient_loop_integral(5.0, 0.5, 1.0, depth=3), 6)
    2.290214

    Reference:
        Arora, Cohen & Hazan 2018, proof of Theorem 2.
    """
    depth = positive_integer("depth", depth)
    power = 3 - 2 / depth
    share = (depth - 1) * (depth - 2) / (3 * depth - 2)
    return 2 * slope * (outer**power - inner**power) * share


def _closed_path(
    direction: Float64Array, inner: float, outer: float, nodes: int
) -> tuple[Float64Array, Float64Array]:
    """Points `(4·nodes, d)` of the path and, as large as their quadrature weights, tangents."""
    along = direction / np.linalg.norm(direction)
    across = np.eye(len(along))[np.argmin(np.abs(along))]
    across = across - (across @ along) * along
    across = across / np.linalg.norm(across)
    roots, weights = np.polynomial.legendre.leggauss(nodes)
    place, weight = (roots[:, None] + 1) / 2, weights[:, None] / 2
    angle = np.pi * place
    length = outer - inner
    line = along * np.ones_like(place)
    out = np.cos(angle) * along, np.sin(angle) * across
    turn = np.pi * (-np.sin(angle) * along + np.cos(angle) * across)
    points = [
        (place * length - outer) * line,
        inner * (out[1] - out[0]),
        (place * length + inner) * line,
        outer * (out[0] + out[1]),
    ]
    backwards = np.pi * (np.sin(angle) * along + np.cos(angle) * across)
    tangents = [length * line, inner * backwards, length * line, outer * turn]
    return np.concatenate(points), np.concatenate([weight * tangent for tangent in tangents])
