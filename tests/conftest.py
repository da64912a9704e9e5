"""Fixtures of several test files, and the core's tests on other backends."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ON_PYTORCH = ["layers", "factored_layers", "conversion", "conversion_state", "optimizers"]
OTHERS = {
    "jax": ["tests/core"],
    "torch": [f"tests/core/test_{part}.py" for part in ON_PYTORCH],
}
# Nearly all that tests on JAX do is to compile small programs, most of them for one call. They are
# compiled as ever but for optimizations of machine code, and what is compiled again (the same
# conditional in the next step, the same model made anew) is read from a cache of this run.
JAX = {
    "JAX_ENABLE_X64": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
RUNS = pytest.StashKey()


def pytest_collection_finish(session):
    """Start the core's tests on other backends, if they are wanted, beside all others.

    On JAX they take nearly as long as all others together.
    """
    wanted = any("other_backends" in item.fixturenames for item in session.items)
    if wanted and not session.config.option.collectonly:
        folder = tempfile.TemporaryDirectory()
        runs = {
            backend: _started(backend, tests, Path(folder.name) / backend)
            for backend, tests in OTHERS.items()
            if importlib.util.find_spec(backend)
        }
        session.config.stash[RUNS] = folder, runs


def _started(backend, tests, log):
    """A test run on a backend, and the file that it reports to."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
    cache = str(log.with_suffix(".cache"))
    environment = os.environ | JAX | {"KERAS_BACKEND": backend, "JAX_COMPILATION_CACHE_DIR": cache}
    with log.open("wb") as file:
        run = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    return log, run


def pytest_unconfigure(config):
    """End what is still running, as after an interrupt."""
    folder, runs = config.stash.get(RUNS, (None, {}))
    for _, run in runs.values():
        run.kill()
        run.wait()
    if folder is not None:
        folder.cleanup()


@pytest.fixture
def other_backends(request):
    """Test runs on the other backends that are installed, by name: their log and process."""
    return request.config.stash[RUNS][1]


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
