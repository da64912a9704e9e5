"""A command line answers at once, and says nothing of what its machine lacks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "reproduce").glob("*.py"))
HEAVY = {"tensorflow", "jax", "torch", "keras", "matplotlib", "sklearn", "scipy", "PIL", "requests"}
ANSWERS = """
import contextlib, importlib, io, json, sys
answers = {}
for name in json.loads(sys.argv[1]):
    script = importlib.import_module(name)
    for arguments in (["--help"], ["--no-such-option"]) if hasattr(script, "parse") else ():
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as said:
            script.parse(arguments)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        if name == "claims":
            script.main([])
            answers["claims"] = said.getvalue()
    answers[f"loaded by {name}"] = sorted(sys.modules)
print(json.dumps(answers))
"""
# Lines as TensorFlow's libraries write them, from C, before an abort.
ABORTED = """
import os
from running import chatter
with chatter.without(chatter.OF_EVERY_MACHINE + chatter.WITHOUT_GPU):
    os.write(2, b"I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on.\\n")
    os.write(2, b"E0000 00:00:1.0 1 cuda_platform.cc:52] failed call to cuInit: x\\n")
    os.write(2, b"F0000 this processor lacks an instruction\\n")
    os.abort()
"""
IMPORT = "import sys; from running import chatter; chatter.import_keras(); sys.stderr.write('!')"


def python(code, *arguments, **environment):
    path = os.pathsep.join([str(ROOT), str(ROOT / "reproduce")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )


def test_options_are_read_before_anything_heavy_is_imported():
    run = python(ANSWERS, json.dumps(SCRIPTS))
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)
    claims = json.loads((ROOT / "assets" / "claims.json").read_text("utf-8"))
    assert answers.pop("claims").count("\n") >= 3 * len(claims)
    assert len(answers) == len(SCRIPTS)
    for name, modules in answers.items():
        assert not HEAVY & set(modules), name


def test_the_last_words_of_a_library_are_seen_and_its_chatter_is_not():
    run = python(ABORTED)
    assert run.stderr == "F0000 this processor lacks an instruction\n"
    assert run.returncode < 0


@pytest.mark.parametrize("script", ["gas_sensor", "report"])
@pytest.mark.parametrize("backend", ["jax", "none"])
def test_a_backend_that_is_not_there_is_one_sentence(script, backend):
    code = f"import sys; sys.modules['jax'] = None; import {script}; {script}.main([])"
    run = python(code, KERAS_BACKEND=backend)
    assert run.returncode == 1
    pattern = (
        rf"{script}.py: error: KERAS_BACKEND={backend} names a backend .*; install it, or .*\n"
    )
    assert re.fullmatch(pattern, run.stderr)


def test_keras_is_imported_quietly_and_errors_are_seen_afterwards():
    run = python(IMPORT, TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")
    assert run.stderr == "!"
