"""Fixtures of several test files, and the core's tests on other backends and held to AVX2."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import older_processor
import pytest

ROOT = Path(__file__).resolve().parents[1]
ON_PYTORCH = [
    *("end_to_end", "factorization", "precision", "consequences"),
    *("losses", "problems", "sweep"),
    *("layers", "factored_layers", "starts", "drop_in"),
    *("conversion", "conversion_state", "optimizers"),
]
OTHERS = {
    "jax": ["tests/core"],
    "torch": [f"tests/core/test_{part}.py" for part in ON_PYTORCH],
}
# Where what another processor rounds otherwise could pass a bound.
NUMERICAL = ["end_to_end", "factorization", "layers", "optimizers", "consequences", "losses"]
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
POLITELY = ["nice"] if shutil.which("nice") else []


def pytest_addoption(parser):
    """`--covering`: what the runs beside this one are given."""
    parser.addoption(
        "--covering",
        action="store_true",
        help="of each test's cases, only as many as hold every value of every parameter",
    )


@pytest.hookimpl(trylast=True)  # of what `-m` and `-k` leave
def pytest_collection_modifyitems(config, items):
    """Leave out the combinations of parameters that `--covering` does without."""
    if config.getoption("covering"):
        cases = {}
        for item in items:
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
        chosen = {item for group in cases.values() for item in covering(group)}
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = [item for item in items if item in chosen]


def covering(cases):
    """The first cases of a test, in turn those with most values of parameters not seen before."""
    values = {case: set(map(repr, params(case).items())) for case in cases}
    chosen = [case for case in cases if not values[case]]
    left = set().union(*values.values())
    while left:
        chosen.append(max(values, key=lambda case: len(left & values[case])))
        left -= values[chosen[-1]]
    return chosen


def params(case):
    """Parameters of a case of a test, by name."""
    return case.callspec.params if hasattr(case, "callspec") else {}


def pytest_collection_finish(session):
    """Start the core's tests elsewhere, if they are wanted, beside all others.

    On JAX they take nearly as long as all others together.
    """
    wanted = any("runs_beside" in item.fixturenames for item in session.items)
    if wanted and not session.config.option.collectonly:
        folder = tempfile.TemporaryDirectory()
        session.config.stash[RUNS] = folder, _started_runs(Path(folder.name))


def _started_runs(folder):
    """Runs on the backends that are installed, and one held to AVX2 where there is more."""
    runs = {}
    for backend, tests in OTHERS.items():
        if importlib.util.find_spec(backend):
            cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
            environment = JAX | cache | {"KERAS_BACKEND": backend}
            runs[backend] = _started(tests, environment, folder / backend)
    if older_processor.newer_features("avx2"):
        tests = [f"tests/core/test_{part}.py" for part in NUMERICAL]
        runs["avx2"] = _started(tests, older_processor.environment("avx2"), folder / "avx2")
    return runs


def _started(tests, environment, log):
    """A test run with some variables of the environment, and the file that it reports to.

    It gives way to the tests that start it: they take as long as all of these together.
    """
    options = ["-p", "no:cacheprovider", "--covering"]
    command = [*POLITELY, sys.executable, "-m", "pytest", *options, *tests]
    environment = os.environ | environment
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
def runs_beside(request):
    """Test runs beside this one, by name ("jax", "torch", "avx2"): their log and process."""
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

    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.delenv("KERAS_OVERPARAM_ARCHIVES", raising=False)
    monkeypatch.setattr(requests, "head", no_network)
