"""A criterion's verdict follows from the bounds that stand in its sentence."""

import numpy as np
import pytest

import criteria
from criteria import NOT, PARTLY, REPRODUCED, Criterion

GROUPS = (
    criteria.MNIST_CNN,
    criteria.OTHER_NETWORKS,
    criteria.END_TO_END_RULE,
    criteria.GAS_SENSOR,
    criteria.CONSEQUENCES,
    criteria.PROBE,
)


def test_bounds_are_read_from_the_sentence():
    criterion = Criterion("At most {most=5 %}, {few=a tenth} of {many=10,000}, {tiny=1e-6}.", None)
    assert criterion.text == "At most 5 %, a tenth of 10,000, 1e-6."
    assert vars(criterion.bounds) == {"most": 0.05, "few": 0.1, "many": 10_000, "tiny": 1e-6}
    with pytest.raises(ValueError, match="could not convert string to float: 'a few'"):
        Criterion("At most {most=a few}.", None)


def test_a_row_gives_its_reason_unless_it_is_reproduced():
    criterion = Criterion("At least {least=2}.", lambda bounds, n: (n >= bounds.least, n > 0))
    rows = [criterion.row("so many", f"{n}", n, why="few") for n in (2, 1, 0)]
    assert [row["verdict"] for row in rows] == [REPRODUCED, PARTLY, NOT]
    assert [row.get("why") for row in rows] == [None, "few", "few"]
    assert "why" not in criterion.row("so many", "0", 0)


def test_no_braces_are_left_in_a_sentence():
    texts = [criterion.text for group in GROUPS for criterion in group.values()]
    assert len(set(texts)) == len(texts)
    assert not [text for text in texts if {"{", "}"} & set(text)]


@pytest.mark.parametrize(
    ("group", "name", "measured", "verdict"),
    [
        (criteria.MNIST_CNN, "acceleration", ([10, 99], 1000), REPRODUCED),
        (criteria.MNIST_CNN, "acceleration", ([10, 101], 1000), PARTLY),
        (criteria.MNIST_CNN, "acceleration", ([10, None], 1000), NOT),
        (criteria.MNIST_CNN, "tuned_acceleration", ([10, 101], 1000), PARTLY),
        (criteria.MNIST_CNN, "test_error", ([0.9, 1.01],), NOT),
        (criteria.MNIST_CNN, "parameters", (0.15,), REPRODUCED),
        (criteria.MNIST_CNN, "parameters", (0.17,), NOT),
        (criteria.OTHER_NETWORKS, "speed_up", ([[[1.0], [1.2]], [[1.0], [0.9]]],), PARTLY),
        (criteria.END_TO_END_RULE, "independent", (np.array([1.0, 0.6]),), PARTLY),
        (criteria.GAS_SENSOR, "other_optimizers", ([[1.2, 1.3, 0.9]],), NOT),
        (criteria.GAS_SENSOR, "powers", (1.2, [2.0, 2.0]), NOT),
        (criteria.GAS_SENSOR, "deep", ([(10_000, 1_000), (9_999, 900)],), PARTLY),
        (criteria.GAS_SENSOR, "width", (1.2,), PARTLY),
        (criteria.GAS_SENSOR, "one_scalar", (1.6, 1.1), PARTLY),
        (criteria.CONSEQUENCES, "memory", (0.009, 0.56), PARTLY),
        (criteria.CONSEQUENCES, "no_regularizer", (0.009, 1e-5), NOT),
        (criteria.PROBE, "holds", (0.9, 1.0), REPRODUCED),
        (criteria.PROBE, "interval", (1.0, 1.1, 1.2), NOT),
    ],
)
def test_verdicts_change_at_the_bounds(group, name, measured, verdict):
    assert group[name].verdict(*measured) == verdict
