"""Loading a `.keras` file of our layers runs no code that the file brings or names."""

import ast
import contextlib
import json
import os
import warnings
import zipfile
from pathlib import Path

import keras
import pytest

from keras_overparam import FactoredDense

ROOT = Path(__file__).resolve().parents[1]
UNSAFE_NAMES = {"eval", "exec", "compile", "__import__", ".enable_unsafe_deserialization"}
UNSAFE_MODULES = {"pickle", "marshal", "dill", "cloudpickle", "shelve", "joblib"}
SAFE = {"safe_mode": True, "allow_pickle": False}


def unsafe_uses(text):
    """Names in a Python text of what runs code that data bring."""
    tree = ast.parse(text)
    arguments = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id in {a.arg for a in function.args.args}
    }
    for node in ast.walk(tree):
        if node in arguments:
            continue
        if isinstance(node, ast.keyword) and node.arg in SAFE:
            if getattr(node.value, "value", None) is not SAFE[node.arg]:  # or not a constant
                yield node.arg
        elif isinstance(node, (ast.Name, ast.Attribute)):
            name = node.id if isinstance(node, ast.Name) else f".{node.attr}"
            yield from {name} & UNSAFE_NAMES
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from {module.split(".")[0] for module in modules} & UNSAFE_MODULES


@pytest.mark.parametrize(
    ("text", "unsafe"),
    [
        ("keras.saving.load_model(path, safe_mode=False)", ["safe_mode"]),
        ("load(path, safe_mode=mode)", ["safe_mode"]),
        ("np.load(path, allow_pickle=True)", ["allow_pickle"]),
        ("keras.config.enable_unsafe_deserialization()", [".enable_unsafe_deserialization"]),
        ("import os, pickle", ["pickle"]),
        ("from joblib import load", ["joblib"]),
        ("eval('1')", ["eval"]),
        ("def f(compile):\n    return g(compile), eval(compile)", ["eval"]),
        ("load(path, safe_mode=True, allow_pickle=False); re.compile('a')", []),
    ],
)
def test_what_is_unsafe_is_seen(text, unsafe):
    assert list(unsafe_uses(text)) == unsafe


def test_nothing_of_ours_runs_code_that_data_bring():
    files = [*(ROOT / "keras_overparam").rglob("*.py"), *(ROOT / "reproduce").rglob("*.py")]
    assert len(files) > 40
    assert not {
        path.name: found for path in files if (found := list(unsafe_uses(path.read_text())))
    }


def function(module, name):
    return {
        "module": module,
        "class_name": "function",
        "config": name,
        "registered_name": name,
    }


def object_of(module, name, config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


ATTACK = lambda x: open("attacked", "w").close() or x  # noqa: E731 (Keras writes its code)
with warnings.catch_warnings():  # Keras warns of what it writes
    warnings.simplefilter("ignore")
    LAMBDAS = {
        "Lambda": keras.saving.serialize_keras_object(keras.layers.Lambda(ATTACK)),
        "lambda": keras.saving.serialize_keras_object(ATTACK),
    }
SHELL = "touch attacked"
ORIGIN = {"fname": "attacked", "origin": "file:///etc/passwd"}
ATTACKS = {
    "os.system": function("os", "system"),
    "builtins.exec": function("builtins", "exec"),
    "subprocess": object_of("subprocess", "Popen", {"args": ["touch", "attacked"]}),
    "os.system called": object_of("os", "system", {"command": SHELL}),
    "a module of its own": object_of("attacker", "Attack", {}),
    **LAMBDAS,
    "download": object_of("keras.utils", "get_file", ORIGIN),
}
PLACES = [
    "activation",
    "kernel_initializer",
    "bias_initializer",
    "kernel_regularizer",
    "factor_regularizer",
    "activity_regularizer",
    "bias_constraint",
    "kernel_constraint",
    "dtype",
    "width",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Parts of a saved model, and of one whose layer is held by another."""
    files = {}
    wrapped = keras.layers.TimeDistributed(FactoredDense(2), name="held")
    for name, layers in {
        "plain": [keras.Input((3,)), FactoredDense(2)],
        "held": [keras.Input((4, 3)), wrapped],
    }.items():
        path = tmp_path_factory.mktemp("saved") / f"{name}.keras"
        keras.Sequential(layers).save(path)
        with zipfile.ZipFile(path) as archive:
            files[name] = {part: archive.read(part) for part in archive.namelist()}
    return files


def written(parts, config, path):
    """The path of a file of the parts with another configuration."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, json.dumps(config) if name == "config.json" else content)
    return path


def assert_refused(parts, config, folder):
    """Loading fails, and has run nothing of the attacker's."""
    path = written(parts, config, folder / "model.keras")
    with pytest.raises((ValueError, TypeError, AttributeError)):  # the last is Keras's, of a dtype
        keras.saving.load_model(path)
    assert not (folder / "attacked").exists()


def test_the_attack_would_work(saved, tmp_path, monkeypatch):
    """Keras takes a layer that is code, if it is told that this is safe."""
    monkeypatch.chdir(tmp_path)
    config = json.loads(saved["held"]["config.json"])
    config["config"]["layers"][-1]["config"]["layer"] = ATTACKS["Lambda"]
    path = written(saved["held"], config, tmp_path / "model.keras")
    with contextlib.suppress(ValueError, TypeError):  # what was saved has other weights
        keras.saving.load_model(path, safe_mode=False)
    assert (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_file_names_is_not_run(name, saved, tmp_path, monkeypatch):
    (tmp_path / "attacker.py").write_text(
        "class Attack:\n    pass\nopen('attacked', 'w').close()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for called in ("system", "popen"):
        monkeypatch.setattr(os, called, lambda *args: Path("attacked").touch())
    for kind in saved:
        for place in PLACES:
            config = json.loads(saved[kind]["config.json"])
            layer = config["config"]["layers"][-1]
            layer = layer if kind == "plain" else layer["config"]["layer"]
            assert layer["class_name"] == "FactoredDense"
            layer["config"][place] = ATTACKS[name]
            assert_refused(saved[kind], config, tmp_path)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_layer_in_the_place_of_ours_is_not_run(name, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = json.loads(saved["held"]["config.json"])
    config["config"]["layers"][-1]["config"]["layer"] = ATTACKS[name]
    assert_refused(saved["held"], config, tmp_path)
