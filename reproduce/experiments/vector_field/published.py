"""What is published of the rule as a field of arrows: figures, computed each time."""

from experiments.room import Room
from experiments.vector_field import field, figures
from experiments.vector_field.settings import Settings


class Published(Room):
    folder = "vector_field"

    def draw(self, shown=None):
        shown = shown or field.compute(Settings())
        figures.draw_all(shown, self.assets)
