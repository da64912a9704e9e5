"""Tests over drawn arguments: a quick sample of each, and thousands in the runs marked `slow`."""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

THOROUGH = int(os.environ.get("FUZZED_EXAMPLES", "2000"))
SLOW_TO_COMPILE = os.environ.get("KERAS_BACKEND") == "jax"  # anew for each shape


def fuzzed(quick=30, thorough=THOROUGH, **strategies):
    """Decorator: the body, called with drawn arguments, as a test of two lengths.

    Args:
        quick: number of examples in the default run, the same ones each time.
        thorough: number in the run marked `slow`.
        **strategies: of the body's arguments.
    """
    if SLOW_TO_COMPILE:
        quick, thorough = max(quick // 10, 3), thorough // 10

    def decorated(body):
        @pytest.mark.parametrize(
            "examples", [quick, pytest.param(thorough, marks=pytest.mark.slow)]
        )
        def test(examples):
            chosen = settings(
                max_examples=examples,
                derandomize=examples == quick,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )
            chosen(given(**strategies)(body))()

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        return test

    return decorated


def mostly(right, wrong):
    """One strategy's values three times out of four, else another's."""
    return st.integers(0, 3).flatmap(lambda die: right if die else wrong)
