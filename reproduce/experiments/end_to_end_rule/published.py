"""What is published of linear networks and the end-to-end rule."""

from functools import cached_property

from experiments.end_to_end_rule import claims, figures, results
from experiments.room import Room
from presenting.tables import verdict_table
from running.records import to_indented_json


class Published(Room):
    folder = "end_to_end_rule"

    def is_its_own(self, settings):
        return "halvings" in settings

    def take_over(self, places):
        for old in set(self.paths) - set(places.values()):  # the figure is of one series
            old.unlink()
        super().take_over(places)

    @cached_property
    def results(self):
        """All of them, in the order of the experiment."""
        return results.load_all(self.assets / self.folder)

    @cached_property
    def summary(self):
        """Verdicts and summaries."""
        return claims.summary(self.results)

    def claims(self):
        return self.summary["verdicts"]

    def tables(self):
        runs = claims.table(self.summary["summaries"])
        return {"end_to_end_rule": f"{runs}\n\n{verdict_table(self.claims())}"}

    def texts(self):
        return {"end_to_end_rule.json": to_indented_json(self.summary)}

    def draw(self):
        figures.draw(self.results, self.assets / "end_to_end_rule.png")
