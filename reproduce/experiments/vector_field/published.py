"""What is published of the rule as a field of arrows: figures, computed each time."""

from experiments.room import Room
from experiments.vector_field import field, figures


class Published(Room):
    folder = "vector_field"

    def draw(self, shown=None):
        shown = shown or field.compute(field.Settings())
        figures.draw_all(shown, self.assets)
