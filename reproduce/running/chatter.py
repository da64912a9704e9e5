"""Keras without what TensorFlow's libraries say of every machine that has no GPU."""

import contextlib
import importlib
import os
import subprocess
import sys

from running.records import OutputError

# Lines of TensorFlow 2.21, which prints them whatever TF_CPP_MIN_LOG_LEVEL says: its libraries log
# before they read that. One is an error where there is a GPU.
OF_EVERY_MACHINE = (b"All log messages before absl::InitializeLog()", b"] oneDNN custom operations")
WITHOUT_GPU = (b"] Could not find cuda drivers", b"] failed call to cuInit")
GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")  # NVIDIA's driver, and Windows' for Linux
FILTER = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # its input ends then
for line in sys.stdin.buffer:
    if not any(part in line for part in {parts!r}):
        os.write(2, line)
"""


def import_keras():
    """Import Keras and its backend, and let TensorFlow look for GPUs.

    Raises:
        OutputError: if there is no such backend as KERAS_BACKEND names.
    """
    if "keras" in sys.modules or sys.stderr is None:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    gpu = any(map(os.path.exists, GPUS))
    with without(OF_EVERY_MACHINE if gpu else OF_EVERY_MACHINE + WITHOUT_GPU):
        if _keras().backend.backend() == "tensorflow":
            importlib.import_module("tensorflow").config.list_physical_devices()


def _keras():
    """The module; an `OutputError` where there is no such backend as is named."""
    try:
        return importlib.import_module("keras")
    except (ImportError, ValueError) as error:
        if "KERAS_BACKEND" not in os.environ:
            raise
        raise OutputError(
            f"KERAS_BACKEND={os.environ['KERAS_BACKEND']} names a backend that Keras cannot import "
            f"({error}); install it, or set KERAS_BACKEND to tensorflow, jax or torch."
        ) from error


@contextlib.contextmanager
def without(parts):
    """Within it, lines with one of the parts in them do not come to the standard error.

    Another process lets the others pass, so that the last words of a library that ends this one
    are seen too.
    """
    command = [sys.executable, "-I", "-S", "-c", FILTER.format(parts=parts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(process.stdin.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
