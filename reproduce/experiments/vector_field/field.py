"""The end-to-end rule as a field of arrows in the plane, and its work around a closed loop.

Regressions with two inputs and one output, ℓ4 loss, so that a kernel is a point `(k₁, k₂)`: fields,
trajectories and speed-ups that a figure can show. Nothing here is chosen for its result: the
problem that is drawn is the first of those that the speed-ups are taken over.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from experiments.vector_field.settings import Settings
from keras_overparam import end_to_end_gradient
from keras_overparam.consequences import constant_gradient_loop_integral, loop_integral

SECOND_SCALE, NOISE = 0.3, 0.3  # of the lesser input, beside one for the other; of the targets


class Problem(NamedTuple):
    """Regressions on two inputs: features `(…, n, 2)` and targets `(…, n)`."""

    features: np.ndarray
    targets: np.ndarray


class Loop(NamedTuple):
    """Work of the rule's field along the theorem's closed path, see `loop`.

    Attributes:
        points: `(4, n, 2)`, the path's four parts.
        tangential: `(D, 4, n)`, the field's component along the path, by depth.
        work: `(D, 4, n)`, integral of it from the path's start on.
        integral: `(D,)`, by `loop_integral`.
        closed_form: `(D,)`, by `constant_gradient_loop_integral`.
    """

    points: np.ndarray
    tangential: np.ndarray
    work: np.ndarray
    integral: np.ndarray
    closed_form: np.ndarray


def random_problems(count, examples, seed):
    """Regressions with one input direction weaker than the other, turned by a random angle.

    The kernel that the targets are made of has norm one and a random direction.
    """
    rng = np.random.default_rng(seed)
    angle, aim = rng.uniform(0, 2 * np.pi, (2, count))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.moveaxis(np.array([[cos, sin], [-sin, cos]]), -1, 0)
    features = rng.normal(size=(count, examples, 2)) * [1, SECOND_SCALE] @ turn
    kernel = np.stack([np.cos(aim), np.sin(aim)], axis=-1)
    noise = NOISE * rng.normal(size=(count, examples))
    return Problem(features, (features @ kernel[..., None])[..., 0] + noise)


def loss_and_gradient(problem, kernels):
    """`1/4 · mean (x·k − y)⁴` at kernels `(…, K, 2)`, and its gradients there."""
    features, targets = problem
    residuals = kernels @ np.swapaxes(features, -1, -2) - targets[..., None, :]
    cubes = residuals * residuals * residuals
    return (cubes * residuals).mean(-1) / 4, cubes @ features / features.shape[-2]


def minimum(problem, steps=50):
    """The kernels `(…, 2)` of least loss, by Newton's method from that of least squares."""
    features, targets = problem
    kernels = np.linalg.pinv(features) @ targets[..., None]
    for _ in range(steps):
        residuals = features @ kernels - targets[..., None]
        slope = np.swapaxes(features, -1, -2) @ residuals**3
        curvature = 3 * np.swapaxes(features, -1, -2) @ (residuals**2 * features)
        kernels = kernels - np.linalg.solve(curvature, slope)
    return kernels[..., 0]


def field(problem, kernels, depth):
    """Where the rule goes from kernels `(…, K, 2)`: minus the preconditioned gradient."""
    gradients = loss_and_gradient(problem, kernels)[1]
    return -np.asarray(end_to_end_gradient(kernels[..., None], gradients[..., None], depth))[..., 0]


def starts_around_zero(norm, directions):
    """Kernels `(S, 2)` of a norm, evenly around zero, the first along k₁."""
    angle = 2 * np.pi * np.arange(directions) / directions
    return norm * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def trajectories(problem, starts, rates, depth, iterations):
    """Kernels `(…, K, 2)` of gradient descent by the rule, at its start and after each iteration.

    Args:
        problem: a `Problem`.
        starts: `(…, K, 2)`.
        rates: learning rate, a number or `(K, 1)`.
        depth: number of factors.
        iterations: number of them.
    """
    kernels = np.array(starts)
    yield kernels
    for _ in range(iterations):
        with np.errstate(over="ignore", invalid="ignore"):  # some rates are too high
            kernels = kernels + rates * field(problem, kernels, depth)
        yield kernels


def iterations_needed(problems, norm, depth, settings):
    """Iterations `(P, R)` by rate until the trajectories of all starts have reached the goal.

    The goal is the fraction `settings.target` of the loss that the kernel zero has above the
    minimum. Infinite where it is not reached, or later than at the problem's fastest rate once all
    problems have one.
    """
    rates = settings.rates
    starts = starts_around_zero(norm, settings.directions)
    count, shape = len(problems.targets), (len(rates), settings.directions)
    every = np.broadcast_to(starts, (count, *shape, 2)).reshape(count, -1, 2)
    each = np.repeat(rates, settings.directions)[:, None]
    least = loss_and_gradient(problems, minimum(problems)[:, None])[0]
    goal = least + settings.target * (loss_and_gradient(problems, np.zeros((1, 2)))[0] - least)
    needed = np.full((count, len(rates)), np.inf)
    path = trajectories(problems, every, each, depth, settings.iterations)
    for iteration, kernels in enumerate(path):
        with np.errstate(over="ignore", invalid="ignore"):
            there = loss_and_gradient(problems, kernels)[0] <= goal
        there = there.reshape(count, *shape).all(axis=-1)
        needed[there & np.isinf(needed)] = iteration
        if np.isfinite(needed).any(axis=-1).all():
            break
    return needed


def speed_ups(problems, settings):
    """Iterations of depth 1 over those of each depth, both at the rates that are fastest.

    Where a depth does not reach the goal, all iterations are counted: its speed-up is less.

    Returns:
        Array `(D, norms, P)`, of `settings.depths` and `settings.norms`.
    """
    needed = np.array(
        [
            [iterations_needed(problems, norm, depth, settings).min(-1) for norm in settings.norms]
            for depth in settings.depths
        ]
    )
    needed = np.minimum(needed, settings.iterations)
    return needed[:1] / needed


def closed_path(direction, inner, outer, count):
    """The theorem's path, points `(4, count, 2)`, as `loop_integral` describes it."""
    along = direction / np.linalg.norm(direction)
    across = np.array([along[1], -along[0]])
    place = np.linspace(0, 1, count)[:, None]
    angle = np.pi * place
    return np.array(
        [
            (place * (outer - inner) - outer) * along,
            inner * (np.sin(angle) * across - np.cos(angle) * along),
            (place * (outer - inner) + inner) * along,
            outer * (np.sin(angle) * across + np.cos(angle) * along),
        ]
    )


def loop(problem, settings):
    """The rule's field along the theorem's path in a problem, as a `Loop`."""

    def gradient(kernels):
        return loss_and_gradient(problem, kernels)[1]

    slope = gradient(np.zeros((1, 2)))[0]
    points = closed_path(slope, *settings.radii, settings.loop_points)
    tangential, work = zip(
        *(along_path(problem, points, depth) for depth in settings.loop_depths), strict=True
    )
    arguments = [(*settings.radii, depth) for depth in settings.loop_depths]
    size = np.linalg.norm(slope)
    return Loop(
        points,
        np.array(tangential),
        np.array(work),
        np.array([float(loop_integral(gradient, slope, *each)) for each in arguments]),
        np.array([constant_gradient_loop_integral(size, *each) for each in arguments]),
    )


def along_path(problem, points, depth):
    """The preconditioned gradient's component along a path of several parts, and its integral.

    Args:
        problem: a `Problem`.
        points: `(parts, n, 2)`, each part starting where the one before ends.
        depth: number of factors.

    Returns:
        Pair of arrays `(parts, n)`: the component, and its integral by the trapezoidal rule.
    """
    force = -field(problem, points.reshape(-1, 2), depth).reshape(points.shape)
    tangents = np.gradient(points, axis=1, edge_order=2)
    tangents = tangents / np.linalg.norm(tangents, axis=-1, keepdims=True)
    gains = ((force[:, 1:] + force[:, :-1]) / 2 * np.diff(points, axis=1)).sum(-1)
    work = np.cumsum(np.pad(gains, ((0, 0), (1, 0))), axis=1)
    before = np.concatenate([[0], np.cumsum(work[:-1, -1])])
    return (force * tangents).sum(-1), work + before[:, None]


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """All that the figure shows.

    Attributes:
        settings: the `Settings`.
        problem: the `Problem` that is drawn.
        minimum: its kernel of least loss, `(2,)`.
        rates: learning rate by depth.
        needed: iterations to the goal at that rate, by depth.
        paths: by depth, `(T + 1, S, 2)`, as long as the slowest depth needs.
        speed_ups: `(D, norms, P)`, see `speed_ups`.
        loop: the `Loop`.
    """

    settings: Settings
    problem: Problem
    minimum: np.ndarray
    rates: dict
    needed: dict
    paths: dict
    speed_ups: np.ndarray
    loop: Loop


def compute(settings):
    """All that the figure shows, as `Shown`."""
    problems = random_problems(settings.problems, settings.examples, settings.seed)
    first = Problem(*(array[:1] for array in problems))
    problem = Problem(*(array[0] for array in problems))
    rates, needed = {}, {}
    for depth in settings.depths:
        (found,) = iterations_needed(first, settings.start_norm, depth, settings)
        rates[depth], needed[depth] = settings.rates[found.argmin()], found.min()
    length = int(min(max(needed.values()), settings.iterations))
    starts = starts_around_zero(settings.start_norm, settings.directions)
    paths = {
        depth: np.array(list(trajectories(problem, starts, rates[depth], depth, length)))
        for depth in settings.depths
    }
    return Shown(
        settings,
        problem,
        minimum(problem),
        rates,
        needed,
        paths,
        speed_ups(problems, settings),
        loop(problem, settings),
    )
