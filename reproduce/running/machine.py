"""What a script asks of the machine, and of Keras's backend where `keras.ops` has no word."""

import contextlib
import importlib
import os
import platform
import sys
from pathlib import Path

import keras

from running.records import USUAL_BACKEND, OutputError

TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
WITH_GPU = {  # what to install
    "tensorflow": "tensorflow[and-cuda]",
    "jax": "jax[cuda12]",
    "torch": "a build of torch for CUDA",
}
_CHOSEN = contextlib.ExitStack()  # the device, from when it is chosen to the end of the process


def framework():
    """The backend's own module; no other backend is imported."""
    return importlib.import_module(keras.backend.backend())


def prepare():
    """Have the backend compute in float64 where that is asked for; every command does so first.

    TensorFlow would warn of functions that are traced again: each new network is.

    Raises:
        OutputError: if Keras's backend is none of those that the scripts know.
    """
    if keras.backend.backend() not in TITLES:
        raise OutputError(
            f"The scripts run on the backends {', '.join(TITLES)}, and KERAS_BACKEND is "
            f"{keras.backend.backend()}; name one of them."
        )
    if keras.backend.backend() == "tensorflow":
        framework().get_logger().setLevel("ERROR")
    if keras.backend.backend() == "jax":  # which otherwise makes float32 of it
        framework().config.update("jax_enable_x64", True)


def check_publishable(options):
    """Refuse `--publish` where the runs would not be TensorFlow's, before they are done."""
    backend = keras.backend.backend()
    if getattr(options, "publish", False) and backend != USUAL_BACKEND:
        raise OutputError(
            f"--publish puts runs of {TITLES[USUAL_BACKEND]}'s into assets/, and KERAS_BACKEND is "
            f"{backend}; leave --publish out."
        )


@contextlib.contextmanager
def without_tensorflow():
    """Within it, nothing imports TensorFlow unless it is the backend.

    Keras would, where it is installed, to seed it too and to save models (Keras 3.15).
    """
    if "tensorflow" in sys.modules or keras.backend.backend() == "tensorflow":
        yield
        return
    sys.modules["tensorflow"] = None
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


def choose_device(name, strategy="none"):
    """Compute on the asked-for device alone; "auto" leaves the choice to the backend.

    Under a strategy, "gpu" means all of them.

    Raises:
        OutputError: if there is no such device, or a strategy wants several.
    """
    kind, _, number = name.partition(":")
    if kind == "auto":
        return
    if number and strategy == "mirrored":
        raise OutputError(
            f"--strategy mirrored trains on several devices, and --device {name} is one; use "
            "--device gpu for all, and CUDA_VISIBLE_DEVICES to leave some out."
        )
    backend, index = keras.backend.backend(), int(number or 0)
    if kind == "gpu" and index >= (count := len(_gpus())):
        raise OutputError(
            f"--device {name} asks for a GPU, but {TITLES[backend]} sees {count} of them; "
            f"use --device cpu, or install {WITH_GPU[backend]}."
        )
    if backend != "tensorflow":
        # Not "cpu:0", with which Keras's variables on PyTorch get no gradients (Keras 3.15).
        _CHOSEN.enter_context(keras.device(name))
    elif kind == "cpu":
        framework().config.set_visible_devices([], "GPU")
    elif number or strategy == "none":
        framework().config.set_visible_devices(_gpus()[index], "GPU")


def _gpus():
    """The GPUs that the backend sees."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return framework().config.list_physical_devices("GPU")
    if backend == "jax":
        return [device for device in framework().devices() if device.platform == "gpu"]
    return range(framework().cuda.device_count())


def device_name():
    """What the backend computes on, in words."""
    gpu = {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu, "torch": _torch_gpu}
    return gpu[keras.backend.backend()]() or processor()


def processor():
    """The processor, in words."""
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def _tensorflow_gpu():
    config = framework().config
    gpus = config.get_visible_devices("GPU")
    details = config.experimental.get_device_details(gpus[0]) if gpus else {}
    return details.get("device_name", gpus[0].name) if gpus else None


def _jax_gpu():
    (device,) = framework().numpy.zeros(()).devices()  # where arrays are made
    return device.device_kind if device.platform == "gpu" else None


def _torch_gpu():
    device = keras.ops.zeros(()).device
    return framework().cuda.get_device_name(device) if device.type == "cuda" else None


def _cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def threads():
    """How many threads share an operation, as the backend has it; None where it does not say."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return framework().config.threading.get_intra_op_parallelism_threads()
    return framework().get_num_threads() if backend == "torch" else None
