"""What is computed of the field of arrows."""

import dataclasses

import numpy as np

PER_DECADE = 8  # rates, as in the experiments on the gas sensor


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is computed.

    Attributes:
        problems: number of random problems for the speed-ups; the first is drawn.
        examples: of each problem.
        depths: whose fields are drawn, 1 first.
        start_norm: of the starts that are drawn.
        norms: of the starts that the speed-ups are taken from.
        directions: number of starts, evenly around zero.
        target: the goal, as a fraction of the excess loss of the kernel zero.
        iterations: after which the goal counts as out of reach.
        decades: of learning rates, the exponents of the first and the last.
        radii: of the loop.
        loop_depths: depths whose work around the loop is drawn.
        loop_points: on each of the loop's four parts.
        seed: of the problems.
    """

    problems: int = 50
    examples: int = 30
    depths: tuple = (1, 2, 4)
    start_norm: float = 0.2
    norms: tuple = (0.05, 0.1, 0.2, 0.3, 0.5)
    directions: int = 4
    target: float = 1e-3
    iterations: int = 400
    decades: tuple = (-1.5, 1.25)
    radii: tuple = (0.005, 0.01)
    loop_depths: tuple = (1, 2, 3, 4)
    loop_points: int = 401
    seed: int = 0

    @property
    def rates(self):
        """Learning rates, `(R,)`, the neighbours an eighth of a decade apart."""
        first, last = (round(PER_DECADE * decade) for decade in self.decades)
        return 10.0 ** (np.arange(first, last + 1) / PER_DECADE)
