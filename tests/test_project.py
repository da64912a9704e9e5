"""The project holds its own rules: imports, examples in docstrings, backends, metadata."""

import ast
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import older_processor
import pytest

import keras_overparam

ROOT = Path(__file__).resolve().parents[1]
MODULES = ["keras_overparam"] + [
    module.name for module in pkgutil.walk_packages(keras_overparam.__path__, "keras_overparam.")
]


def imported_packages(path):
    """Names of the modules that a file imports anywhere, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module


def imports_below(folder):
    return {
        (path.relative_to(ROOT).as_posix(), name)
        for path in (ROOT / folder).rglob("*.py")
        for name in imported_packages(path)
    }


def test_the_core_imports_keras_numpy_and_the_standard_library_only():
    allowed = {"keras", "numpy", "keras_overparam", *sys.stdlib_module_names}
    others = {(p, n) for p, n in imports_below("keras_overparam") if n.split(".")[0] not in allowed}
    compilers = {("keras_overparam/sweep/compilation.py", name) for name in ("tensorflow", "jax")}
    compilers |= {("keras_overparam/tracing.py", "tensorflow")}
    # Imported where the backend is theirs, and where an event file is written.
    event_log = {(path, name) for path, name in others if path == "keras_overparam/event_log.py"}
    assert others - event_log == compilers
    assert all(name.split(".")[0] == "tensorboard" for _, name in event_log)


def test_nobody_imports_the_private_parts_of_keras():
    everything = imports_below("keras_overparam") | imports_below("reproduce")
    assert not {(path, name) for path, name in everything if name.startswith("keras.src")}


def test_factorizations_know_nothing_of_layers():
    layers = "keras_overparam.layers"
    below = {n for p, n in imports_below("keras_overparam") if p.endswith("/factorization.py")}
    assert not any(name.startswith(layers) for name in below)


REPRODUCE = ROOT / "reproduce"
CRITERIA = REPRODUCE / "criteria.py"
# What knows no experiment. The rooms of experiments stand on it, and what has all rooms in view on
# them; commands may import everything.
BELOW = ("keras_overparam", "running", "datasets", "presenting", "criteria")
# One room in another: which, and why.
NEIGHBOURS = {
    ("probe", "mnist"): "one of its problems is the last layer of the tutorial's network",
}


def rooms_imports():
    """Triples of a module of `reproduce/`, a part of it that is imported there, and the room."""
    parts = {path.stem for path in REPRODUCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    for path, name in imports_below("reproduce"):
        first, *rest = name.split(".")
        if first in parts:
            yield path.removeprefix("reproduce/"), first, rest[0] if rest else ""


def test_what_knows_no_experiment_imports_none():
    for path, imported, _ in rooms_imports():
        if path.split("/")[0].removesuffix(".py") in BELOW:
            assert imported in BELOW, f"{path} imports {imported}"


def test_an_experiment_is_one_room():
    allowed = {*NEIGHBOURS, *((room, room) for room in os.listdir(REPRODUCE / "experiments"))}
    used = set()
    for path, imported, room in rooms_imports():
        first, *rest = path.split("/")
        if first != "experiments":
            continue
        assert imported in (*BELOW, "experiments"), f"{path} imports {imported}"
        if imported == "experiments" and len(rest) == 2 and is_room(room):
            assert (rest[0], room) in allowed, f"{path} imports the room {room}"
            used.add((rest[0], room))
    assert used >= NEIGHBOURS.keys()


def is_room(name):
    return (REPRODUCE / "experiments" / name).is_dir()


def test_commands_are_imported_by_commands_only():
    commands = {path.stem for path in REPRODUCE.glob("*.py")} - {"criteria"}
    for path, imported, _ in rooms_imports():
        if "/" in path:
            assert imported not in commands, f"{path} imports the command {imported}"


def test_no_name_is_that_of_two_modules():
    roots = [ROOT, REPRODUCE, ROOT / "benchmarks", ROOT / "tests"]
    names = [path.stem for root in roots for path in root.glob("*.py")]
    assert len(set(names)) == len(names)


def test_files_are_short_and_commands_shorter():
    lengths = {p: len(p.read_text().splitlines()) for p in REPRODUCE.rglob("*.py")}
    assert max(lengths.values()) <= 400
    assert max(n for p, n in lengths.items() if p.parent == REPRODUCE and p != CRITERIA) <= 65


# What users import of version 0.1.0, beside the package's own names.
NAMES = {
    "keras_overparam": [
        *("EndToEnd", "FactorMonitor", "LpLoss", "collapse", "kernels_of", "overparameterize"),
        *("FactoredConv1D", "FactoredConv2D", "FactoredConv3D", "FactoredDense"),
        *("FactoredDepthwiseConv2D", "FactoredEinsumDense", "FactoredLinear"),
        *("FactoredMultiHeadAttention", "__version__", "balanced_factors", "balancedness_gap"),
        *("chain_product", "end_to_end_gradient", "end_to_end_spectrum", "end_to_end_step"),
        *("identity_factors", "probe", "product_squared_norm", "step_and_momentum"),
        *("sweep_linear_networks", "truncation_error"),
    ],
    "keras_overparam.end_to_end": [
        *("Preconditioner", "Root", "Spectrum", "decomposed_root", "end_to_end_gradient"),
        *("end_to_end_spectrum", "end_to_end_step", "polar_factors", "precondition"),
        *("precondition_by_polar", "precondition_by_root", "precondition_thin_by_polar"),
        *("precondition_thin_by_root", "preconditioner", "solve_root", "step_and_momentum"),
        *("thin_gradient", "tracked_root", "unit_step_norm"),
    ],
    "keras_overparam.sweep": [
        *("SweepResult", "iterations_to", "logarithmic_grid", "sweep_linear_networks"),
    ],
    "keras_overparam.consequences": [
        *("GradientMemory", "constant_gradient_loop_integral", "gradient_memory"),
        *("induced_regularizer", "loop_integral", "trajectory_from_memory"),
    ],
    "keras_overparam.factorization": ["chain_sizes", "factor_gradients", "hidden_widths"],
    "keras_overparam.optimizers": ["EndToEnd"],
    "keras_overparam.callbacks": ["FactorMonitor"],
}


def test_every_public_name_of_an_earlier_version_is_still_there():
    assert sorted(keras_overparam.__all__) == sorted(NAMES["keras_overparam"])
    for module, names in NAMES.items():
        found = importlib.import_module(module)
        assert [name for name in names if not hasattr(found, name)] == [], module


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_the_public_names_all_exist_and_have_runnable_examples():
    finder = doctest.DocTestFinder(recurse=False)
    for name in set(keras_overparam.__all__) - {"__version__"}:
        (test,) = finder.find(getattr(keras_overparam, name), name)
        assert test.examples, f"{name} has no example"


@pytest.mark.parametrize(("level", "name"), [("avx2", "Haswell AVX2"), ("sse4", "Nehalem SSE4.1")])
def test_libraries_are_held_to_an_older_processor(level, name):
    if not older_processor.newer_features(level):
        pytest.skip("this processor has no more")
    code = """if True:
        import numpy as np, tensorflow as tf, threadpoolctl
        tf.ones((64, 64)) @ tf.ones((64, 64))
        libraries = threadpoolctl.threadpool_info()
        print(*{one["architecture"] for one in libraries if one["internal_api"] == "openblas"})"""
    held = os.environ | older_processor.environment(level) | {"ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=held, capture_output=True, text=True, check=True).stdout
    found = re.search(r"cpu,isa:Intel (\S+)", said).group(1)
    assert f"{said.splitlines()[-1]} {found}" == name


def test_importing_the_core_on_jax_does_not_load_tensorflow():
    pytest.importorskip("jax", reason="the test extra installs jax")
    code = "import sys, keras_overparam; print('tensorflow' in sys.modules)"
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == "False", run.stderr[-2000:]


def test_version_is_the_one_in_the_changelog():
    assert f"## [{keras_overparam.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
