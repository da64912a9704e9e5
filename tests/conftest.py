"""Fixtures of several test files."""

from pathlib import Path

import pytest


@pytest.fixture
def no_network():
    """A function in the place of one of `requests`, which finds no network."""
    import requests

    def fail(*args, **kwargs):
        raise requests.ConnectionError("no network in this test")

    return fail


@pytest.fixture
def alone(monkeypatch, no_network):
    """No data and no network but what a test gives itself."""
    import requests

    from plumbing import datasets, gas_sensor

    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.delenv("KERAS_OVERPARAM_ARCHIVES", raising=False)
    for module in (datasets, gas_sensor):
        monkeypatch.setattr(module, "NEARBY_ARCHIVES", Path("no-such-folder"))
    monkeypatch.setattr(requests, "head", no_network)
