"""What README and guides show runs as it is pasted: each page's Python from top to bottom."""

import os
import re
import subprocess
import sys

import pytest

from publishing import assets

ROOT = assets.ROOT
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
SHOWN = [path for path in PAGES if "```python\n" in path.read_text(encoding="utf-8")]
SLOW = "probe"  # what the README shows too
ON = {"devices": {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}}


def python_of(path):
    """The blocks of Python on a page, as one script."""
    return "\n".join(
        re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    )


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem == SLOW)) for path in SHOWN],
    ids=lambda path: path.stem,
)
def test_what_is_shown_runs_as_it_is_pasted(path, tmp_path):
    script = tmp_path / "pasted.py"
    script.write_text(python_of(path), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ON.get(path.stem, {})
    command = [sys.executable, "-W", "error::UserWarning", script]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_every_guide_shows_something():
    assert len(SHOWN) >= 8
