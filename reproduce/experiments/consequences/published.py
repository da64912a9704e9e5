"""What is published of the consequences of the end-to-end rule."""

from experiments.consequences import claims
from experiments.room import Room
from running.records import USUAL_BACKEND, Record


class Published(Room):
    folder = "consequences"

    @property
    def path(self):
        """The one record, whose only line is the outcome."""
        return self.assets / "consequences.jsonl.gz"

    def place(self, path):
        record = Record.at(path)
        found = record.outcome() or {}
        its_own = "memory" in found and found["data"]["name"] == "gas_sensor"
        return self.path if its_own and not record.backends() - {USUAL_BACKEND} else None

    def claims(self):
        found = Record.at(self.path).outcome()
        if found is None:
            raise ValueError(f"{self.path} holds no finished run; restore it, or publish it again.")
        return claims.rows(found)
