"""What is published of the probe's advice."""

from functools import cached_property

from experiments.probe import figures, results
from experiments.room import Room


class Published(Room):
    folder = "probe"

    def is_its_own(self, settings):
        return "problem" in settings and "horizon" in settings

    @cached_property
    def outcomes(self):
        """Outcomes by problem."""
        return results.load_all(self.assets / self.folder)

    def tables(self):
        return {"probe": results.table(self.outcomes)}

    def draw(self):
        figures.draw(self.outcomes, self.assets / "probe.png")
