"""What a developer types: `nox -s NAME`, in an environment with `.[develop]`; `nox -l` lists it.

Arguments after `--` go to the command: `nox -s test -- tests/core -k layers`.
"""

import sys

import nox

nox.options.default_venv_backend = "none"  # the environment that nox runs in
nox.options.sessions = ["lint", "test"]


@nox.session
def test(session):
    """Everything but the long runs."""
    shared = ["-n", "2", "--dist", "loadfile"]
    session.run(sys.executable, "-m", "pytest", *(session.posargs or shared))


@nox.session
def slow(session):
    """The long runs."""
    session.run(sys.executable, "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session
def lint(session):
    """Lint, format, and check the types of the core."""
    session.run(sys.executable, "-m", "ruff", "check", "--fix", ".")
    session.run(sys.executable, "-m", "ruff", "format", ".")
    session.run(sys.executable, "-m", "mypy")


@nox.session
def docs(session):
    """The site, into docs/_build; warnings are errors."""
    session.run(sys.executable, "-m", "sphinx", "-W", "--keep-going", "docs", "docs/_build")


@nox.session
def links(session):
    """Follow the site's links to other sites; needs a network."""
    options = ["-b", "linkcheck", "-D", "nb_execution_mode=off"]
    session.run(sys.executable, "-m", "sphinx", *options, "docs", "docs/_build/links")


@nox.session
def publish(session):
    """Figures, tables and verdicts anew from the records in assets/."""
    session.run(sys.executable, "reproduce/publish.py", *session.posargs)
