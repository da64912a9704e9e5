"""Peak memory of a training step, each network in a process of its own.

On a GPU TensorFlow's allocator keeps count. On a CPU it is the peak of the process's resident set
over some steps, less the resident set before the network is built, as Linux knows them; a small
network is trained before, so that what any training loads is not counted. Freed memory goes back
to the system at once (`MALLOC`), as otherwise the peak would depend on what was freed before.
"""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from turns import ROOT

MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 5
SMALL = {"sizes": [8, 8], "batch": 2}


def measure(**network):
    """What `measure_here` says, in a process of its own."""
    environment = os.environ | MALLOC
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, json.dumps(network)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure_here(**network):
    """Megabytes at the peak, and the number of parameters; None on a machine that does not say.

    Args:
        **network: `sizes` and `batch` of a single layer, or `regularize` and `depth` of the
            tutorial's network.
    """
    import tensorflow as tf

    gauge = Allocated() if tf.config.get_visible_devices("GPU") else Resident()
    if isinstance(gauge, Resident) and not PEAK_RESET.exists():
        return None
    small = SMALL if "sizes" in network else network | {"batch": 2}
    warm_up, _ = training(**small)
    float(warm_up())
    return peak_of_steps(gauge, lambda: training(**network))


def training(sizes=None, batch=64, depth=None, regularize=None):
    """A function that takes a step of a new network, and the number of its parameters."""
    if sizes is not None:
        from keras_training import factored
        from linear_task import Task

        layer = factored(Task(tuple(sizes), batch))  # a single factor is the plain layer
        return layer.step, sum(int(v.shape.num_elements()) for v in layer.variables)
    import numpy as np

    from experiments.mnist import tutorial_cnn
    from experiments.mnist.settings import Settings

    settings = Settings(depth=depth, regularize=regularize)
    network = tutorial_cnn.build_network(settings)
    tutorial_cnn.compile_network(network, settings, 55_000)
    images = np.random.default_rng(0).uniform(-0.5, 0.5, (batch, 28, 28, 1)).astype("float32")
    labels = np.arange(batch, dtype="int32") % 10
    return lambda: network.train_on_batch(images, labels)[0], network.count_params()


def peak_of_steps(gauge, build):
    """Megabytes that a network and a step of it take at the peak, and its parameters.

    The first steps, in which functions are traced and momenta made, are left out.
    """
    before = gauge.now()
    step, parameters = build()
    for _ in range(2):
        float(step())
    gauge.reset()
    for _ in range(STEPS):
        float(step())
    return {"megabytes": (gauge.peak() - before) / 1e6, "parameters": parameters}


class Resident:
    """The process's resident set, in bytes."""

    @staticmethod
    def _read(name):
        return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1])

    def now(self):
        """Without what is free to be given back."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim:
            trim(0)
        return self._read("VmRSS")

    def reset(self):
        """Forget the peak."""
        self.now()
        PEAK_RESET.write_text("5")

    def peak(self):
        """The highest since."""
        return self._read("VmHWM")


class Allocated:
    """What TensorFlow has allocated on its GPU, in bytes."""

    device = "GPU:0"

    def _read(self, name):
        import tensorflow as tf

        gc.collect()
        return tf.config.experimental.get_memory_info(self.device)[name]

    def now(self):
        """Allocated now."""
        return self._read("current")

    def reset(self):
        """Forget the peak."""
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats(self.device)

    def peak(self):
        """The highest since."""
        return self._read("peak")


if __name__ == "__main__":
    print(json.dumps(measure_here(**json.loads(sys.argv[1]))))
