"""What is asked of a run on linear regression, by a command line or by code."""

import dataclasses

from datasets.gas_sensor import TARGETS
from running.options import option
from running.records import settings_digest

POINTS = 60  # recorded iterations, logarithmically spaced
PER_DECADE = 8  # learning rates
FIRST_RATES = 31  # at first
# Decade at which the first grid starts. For gradient descent it depends on the power: with p the
# curvature where training starts grows, and the usable rate shrinks.
LOWEST_RATE = {"adagrad": -3.5, "adadelta": -3.0, "adadelta_tf1": -2.5, "adam": -5.0}
LOWEST_RATE_OF_POWER = {2: -3.5, 3: -4.0, 4: -4.5, 6: -6.0, 8: -7.5}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that shapes the result of a run.

    `start` is "balanced", "independent" or "identity", of end-to-end norm `scale`; or "near_zero",
    where `scale` is the standard deviation of every weight. `optimizer` is a key of `OPTIMIZERS`.
    """

    power: float = 4
    depth: int = 1
    optimizer: str = "gd"
    start: str = "balanced"
    scale: float = option(0.1, flag="start_norm", help="end to end (%(default)s)")
    width: int = 1
    iterations: int = 20_000
    seeds: tuple = (0, 1, 2, 3, 4)
    dataset: str = "gas_sensor"
    target: str = option("standardized", choices=TARGETS)

    def __post_init__(self):
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if self.depth == 1:  # one kernel, whatever the start
            object.__setattr__(self, "width", 1)
            if self.start != "near_zero":
                object.__setattr__(self, "start", "balanced")

    @property
    def run_name(self):
        """A readable folder name that differs whenever the settings do."""
        digest = settings_digest(self)
        return f"{self.dataset}-l{self.power:g}-{self.optimizer}-depth{self.depth}-{digest}"

    @property
    def recorded_iterations(self):
        """The start, and iterations evenly spaced on a log scale."""
        from keras_overparam.sweep import logarithmic_grid  # and Keras

        return logarithmic_grid(self.iterations, POINTS)

    @property
    def precision(self):
        """At p = 2 a step is cheap enough for float64."""
        return "float64" if self.power == 2 else "float32"

    def first_rates(self):
        """Exponents of the first grid, in eighths of a decade."""
        descent = self.optimizer == "gd"
        lowest = LOWEST_RATE_OF_POWER[self.power] if descent else LOWEST_RATE[self.optimizer]
        first = round(lowest * PER_DECADE)
        return list(range(first, first + FIRST_RATES))
