"""A room for each experiment: settings, runs, results, figures, claims.

To add an experiment, make its room, with a `published.py` that has a `Published`, and name it here.
"""

ROOMS = (
    "gas_sensor",
    "consequences",
    "end_to_end_rule",
    "mnist",
    "probe",
    "vector_field",
)
