"""The configurations of a sweep spread over several devices."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import refusal
from keras_overparam.sweep.trainer import State, Trainer
from keras_overparam.typing import Array, Float64Array

Part = TypeVar("Part")
Result = TypeVar("Result")


class Trainers:
    """Trainers of parts of the configurations, each on its own device, all at the same time.

    Together they are as one `Trainer` of all configurations.
    """

    def __init__(
        self, devices: list[str], trainer_of: Callable[[Array], Trainer], columns: Array
    ) -> None:
        parts = np.array_split(columns, min(len(devices), len(columns)))
        self.devices = devices[: len(parts)]
        self.threads = ThreadPoolExecutor(len(parts))  # only JAX computes without being waited for
        self.trainers = self._each(trainer_of, parts)

    def _each(self, function: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
        """What a function returns for each part, called on the part's device."""

        def on_device(device: str, part: Part) -> Result:
            with keras.device(device):
                return function(part)

        return list(self.threads.map(on_device, self.devices, parts))

    def advance(self, start: int, steps: int) -> None:
        """Go on by a number of iterations."""
        self._each(lambda trainer: trainer.advance(start, steps), self.trainers)

    def losses(self) -> Float64Array:
        """Losses of the configurations."""
        return np.concatenate(self._each(Trainer.losses, self.trainers))

    def steps(self) -> Array:
        """Finite steps that the configurations have taken."""
        return np.concatenate(self._each(Trainer.steps, self.trainers))

    def state(self) -> State:
        """Factors, optimizer state and steps as NumPy arrays."""
        factors, slots, steps = zip(*self._each(Trainer.state, self.trainers), strict=True)
        return _joined(factors), _joined(slots), np.concatenate(steps)


def _joined(parts: Iterable[list[Array]]) -> list[Array]:
    """Arrays of all configurations from those of the parts; scalars are alike in all parts."""
    return [np.concatenate(a) if a[0].ndim else a[0] for a in zip(*parts, strict=True)]


def checked_devices(devices: Sequence[str]) -> list[str]:
    """A list of names of devices, if there are any and the backend has them all."""
    if not isinstance(devices, (list, tuple)):
        raise refusal("devices", "a list of names of devices", devices)
    missing = [name for name in devices if not _is_device(name)]
    if missing or not devices:
        raise ValueError(
            '`devices` must be a list of devices that the backend has, such as "cpu:0". '
            f"Received: devices={devices!r}; not found: {missing}"
        )
    return list(devices)


def _is_device(name: str) -> bool:
    """Try it: whether a tensor can be placed there."""
    try:
        with keras.device(name):
            tensor = ops.convert_to_tensor(np.zeros(1, "float32"))
        asked = name.lower().split("/")[-1].removeprefix("device:")
        if keras.backend.backend() == "torch":  # it has one CPU, whatever its number
            return asked.partition(":")[0] != "cpu" or asked in ("cpu", "cpu:0")
        if keras.backend.backend() != "tensorflow":
            return True
        # TensorFlow does not mind: it takes another device.
        return tensor.device.lower().split("device:")[-1].startswith(asked)
    except Exception:  # each backend raises its own
        return False
