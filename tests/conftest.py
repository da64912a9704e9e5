"""Fixtures of several test files, and the core's tests on other backends and held to AVX2."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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
RUNS = "KERAS_OVERPARAM_TEST_RUNS"
NOT_HERE = {
    "jax": "the test extra installs JAX",
    "torch": "the torch extra installs PyTorch",
    "avx2": "this processor has no more, so that all tests are held to it",
}
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
    """Put what waits for other runs last; `--covering` leaves out combinations of parameters."""
    items.sort(key=lambda item: "log_of" in getattr(item, "fixturenames", ()))
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


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts its workers, who inherit the name
def pytest_sessionstart(session):
    """Start the core's tests elsewhere beside all others, where all others are wanted."""
    option = session.config.option
    chosen = option.keyword or option.markexpr != "not slow" or option.collectonly
    whole = session.config.args_source.name == "TESTPATHS" and not chosen
    if whole and not hasattr(session.config, "workerinput"):
        start_elsewhere(session.config)


def start_elsewhere(config):
    """Start the core's tests on the other backends, and held to AVX2 where there is more.

    Each leaves its log in a folder, and then its exit status. The folder is named in the
    environment, for all processes that run tests.
    """
    folder = tempfile.TemporaryDirectory()
    os.environ[RUNS] = folder.name
    runs = [_started(Path(folder.name), name, *how) for name, how in elsewhere(folder.name).items()]
    config.add_cleanup(lambda: _ended(runs, folder))


def elsewhere(folder):
    """By name: which tests, and with which variables of the environment."""
    runs = {}
    for backend, tests in OTHERS.items():
        if importlib.util.find_spec(backend):
            cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
            runs[backend] = tests, JAX | cache | {"KERAS_BACKEND": backend}
    if older_processor.newer_features("avx2"):
        tests = [f"tests/core/test_{part}.py" for part in NUMERICAL]
        runs["avx2"] = tests, older_processor.environment("avx2")
    return runs


def _started(folder, name, tests, environment):
    """A test run that gives way to the tests that it is beside: they take as long as all of it."""
    options = ["-p", "no:cacheprovider", "--covering"]
    command = [*POLITELY, sys.executable, "-m", "pytest", *options, *tests]
    (folder / name).touch()
    return subprocess.Popen(
        ["sh", "-c", '"$@" >"$0" 2>&1; echo $? >"$0.status"', str(folder / name), *command],
        cwd=ROOT,
        env=os.environ | environment,
        start_new_session=True,
    )


def _ended(runs, folder):
    """End what is still running, as after an interrupt."""
    for run in runs:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    folder.cleanup()


@pytest.fixture
def log_of(request):
    """A function that waits for the end of a run elsewhere, by name, and returns its log."""
    if RUNS not in os.environ:
        start_elsewhere(request.config)
    folder = Path(os.environ[RUNS])

    def wait(name):
        if not (folder / name).exists():
            pytest.skip(NOT_HERE[name])
        while not (status := folder / f"{name}.status").exists() or not status.read_text():
            time.sleep(0.5)
        log = (folder / name).read_text()
        assert status.read_text().strip() == "0", log[-3000:]
        return log

    return wait


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
