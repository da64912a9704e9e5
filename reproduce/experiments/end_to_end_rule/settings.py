"""What is asked of a run of networks beside the rule, by a command line or by code."""

import dataclasses

import numpy as np

from running.options import option
from running.records import settings_digest

POINTS = 80  # recorded iterations, logarithmically spaced
START_NORM = 0.01
DEFAULTS = {
    "l2": {"widths": (1, 10, 100), "learning_rate": 1e-3, "iterations": 20_000},
    "l4": {"widths": (1, 100), "learning_rate": 2e-4, "iterations": 15_000},
    "matrix": {"widths": (10, 100), "learning_rate": 1e-3, "iterations": 20_000},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that shapes the result of a run.

    `problem` is the regression on the data with l2 or l4 loss, or the random "matrix" regression.
    A run holds all `widths` and `seeds`; at depth 1 there are no widths. The learning rate is
    halved `halvings` times, and the iterations doubled as often.
    """

    problem: str
    depth: int
    widths: tuple
    learning_rate: float
    iterations: int
    start: str = "balanced"
    start_norm: float = option(START_NORM, help="of the end-to-end kernel (%(default)s)")
    halvings: int = 0
    seeds: tuple = (0,)
    dataset: str = "gas_sensor"

    def __post_init__(self):
        object.__setattr__(self, "widths", (None,) if self.depth == 1 else tuple(self.widths))
        object.__setattr__(self, "seeds", tuple(self.seeds))

    @property
    def run_name(self):
        """A readable folder name that differs whenever the settings do."""
        digest = settings_digest(self)
        halved = "-halved" * self.halvings
        return f"{self.dataset}-{self.problem}-depth{self.depth}-{self.start}{halved}-{digest}"

    @property
    def step_size(self):
        """The learning rate, halved."""
        return self.learning_rate / 2**self.halvings

    @property
    def recorded_iterations(self):
        """The start, and iterations evenly spaced on a log scale; halved, at the same times."""
        points = np.unique(np.rint(np.geomspace(1, self.iterations, POINTS)).astype(int))
        return [0, *(points * 2**self.halvings).tolist()]


def settings_of(dataset, problems, depths, seeds, iterations=None, start_norm=START_NORM):
    """The runs of an experiment.

    Args:
        dataset: name of the regression data.
        problems: names of problems, keys of `DEFAULTS`.
        depths: of the networks; depth 1 comes on top, as a control.
        seeds: of the starts.
        iterations: None for each problem's own.
        start_norm: Frobenius norm of the end-to-end kernels at the start.

    Returns:
        List of `Settings`; a balanced start comes at the problem's rate and at half of it.
    """
    found = []
    for problem in problems:
        common = DEFAULTS[problem] | {"problem": problem, "seeds": tuple(seeds)}
        common |= {"iterations": iterations or common["iterations"], "start_norm": start_norm}
        common["dataset"] = "random" if problem == "matrix" else dataset
        found.append(Settings(depth=1, **common))
        for depth in depths:
            base = Settings(depth=depth, **common)
            halved = dataclasses.replace(base, halvings=1)
            found += [base, halved, dataclasses.replace(base, start="independent")]
    return found
