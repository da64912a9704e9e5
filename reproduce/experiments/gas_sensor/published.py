"""What is published of linear regression by gradient descent."""

from functools import cached_property

from experiments.gas_sensor import claims, figures, results
from experiments.gas_sensor.models import WHAT, models
from experiments.gas_sensor.settings import Settings
from experiments.room import Room
from running.records import read_json, to_indented_json

SCALAR_COST = "engine, depth 2 / depth 1"  # the benchmark's row


class Published(Room):
    folder = "gas_sensor"

    def is_its_own(self, settings):
        return "optimizer" in settings and settings["dataset"] == "gas_sensor"

    @cached_property
    def sweeps(self):
        """Results by settings."""
        return {result.settings: result for result in map(results.load, self.paths)}

    def of(self, experiment):
        """Results of an experiment's models."""
        return [self.sweeps[settings] for settings in models(experiment, Settings())]

    def claims(self):
        rows = read_json(self.assets / "benchmark_sweep.json")["rows"]
        (cost,) = [row for row in rows if row["what"] == SCALAR_COST]
        return claims.rows(self.sweeps, cost)

    def tables(self):
        return {
            f"gas_sensor_{one}": claims.model_table(self.sweeps, one) for one in ("l4", "start")
        }

    def texts(self):
        return {f"gas_sensor_{one}.json": summary_text(self.of(one)) for one in WHAT}

    def draw(self):
        for experiment in WHAT:
            path = self.assets / f"gas_sensor_{experiment}.png"
            figures.draw(experiment, self.of(experiment), path)


def summary_text(found):
    """Summaries of results as JSON text."""
    return to_indented_json([results.summarize(result) for result in found])
