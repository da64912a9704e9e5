"""What every experiment's room says of its published records."""

from functools import cached_property

from running.records import USUAL_BACKEND, Record, make_folder, publish


class Room:
    """The published records of an experiment, and what is shown of them.

    Args:
        assets: folder of all that is published.
    """

    folder = None  # of its records in assets/, a name
    wants = "the gas sensor data"  # to publish

    def __init__(self, assets):
        self.assets = assets

    @cached_property
    def paths(self):
        """Its published records."""
        return sorted((self.assets / self.folder).glob("*.jsonl.gz"))

    def is_its_own(self, settings):
        """Whether a run of these settings, as recorded, belongs to what is published here."""
        return False

    def place(self, path):
        """Where in assets/ a run's record belongs; None if it is not to be published here."""
        record = Record.at(path)
        starts = record.of_kind("start")
        if not starts or record.outcome() is None or starts[0]["data"].get("notice"):
            return None  # of no finished run, or of other data than the paper's
        if not self.is_its_own(starts[0]["settings"]) or record.backends() - {USUAL_BACKEND}:
            return None
        return self.assets / self.folder / f"{path.parent.name}.jsonl.gz"

    def take_over(self, places):
        """Copy records into assets/.

        Args:
            places: by the paths of the records, what `place` says of them.
        """
        for path, place in places.items():
            make_folder(place.parent)
            publish(path, place)

    def claims(self):
        """Rows of the claims ledger."""
        return []

    def tables(self):
        """Generated parts of the pages by name, as Markdown."""
        return {}

    def texts(self):
        """Texts of files in assets/ by name."""
        return {}

    def draw(self):
        """Draw its figures into assets/."""
