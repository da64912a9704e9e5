"""What a sweep computes with: the optimizer at rate one, compiled loops, devices."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import refusal
from keras_overparam.compilation import compiled
from keras_overparam.end_to_end import end_to_end_gradient
from keras_overparam.factorization import chain_product, factor_gradients
from keras_overparam.optimizers import EndToEnd
from keras_overparam.problems import LinearProblem
from keras_overparam.typing import Array, Config, Float64Array, Tensor

Carry: TypeAlias = tuple[list[Tensor], list[Tensor], Tensor]  # factors, optimizer's state, steps
State: TypeAlias = tuple[list[Array], list[Array], Array]  # the same on the host
Part = TypeVar("Part")
Result = TypeVar("Result")


class Trainer:
    """The compiled loop over some configurations, with their state on the device."""

    def __init__(
        self,
        problem: LinearProblem,
        update: keras.optimizers.Optimizer,
        rule_depth: int | None,
        factors: list[Array],
        slots: list[Array] | None,
        rates: Array,
        steps: Array,
    ) -> None:
        self.rule_depth = rule_depth
        self.gradient, losses = problem.functions()
        self.rates = ops.convert_to_tensor(rates[:, None, None])
        # The optimizer moves variables that are put back to zero: what they hold is its update.
        self.update = update.__class__.from_config(update.get_config())
        self.shadows = [keras.Variable(np.zeros_like(factor)) for factor in factors]
        self.update.build(self.shadows)
        self.stateless = keras.backend.backend() == "jax"
        for variable, value in zip(self.update.variables, slots or [], strict=slots is not None):
            variable.assign(value)
        carried = [ops.convert_to_tensor(v) for v in self.update.variables]
        self.carry: Carry = (
            [ops.convert_to_tensor(factor) for factor in factors],
            carried if self.stateless else [],
            ops.convert_to_tensor(steps),
        )
        self._advance = compiled(self._loop)
        self._losses: Callable[[list[Tensor]], Tensor] = compiled(
            lambda factors: losses(chain_product(factors))
        )

    def advance(self, start: int, steps: int) -> None:
        """Go on by a number of iterations."""
        numbers = (ops.convert_to_tensor(np.int32(number)) for number in (start, steps))
        self.carry = self._advance(self.carry, *numbers)

    def losses(self) -> Float64Array:
        """Losses of the configurations."""
        return np.asarray(ops.convert_to_numpy(self._losses(self.carry[0])), "float64")

    def steps(self) -> Array:
        """Finite steps that the configurations have taken."""
        return np.array(ops.convert_to_numpy(self.carry[2]))

    def state(self) -> State:
        """Factors, optimizer state and steps as NumPy arrays."""
        factors, slots, _ = self.carry
        slots = slots if self.stateless else self.update.variables
        return _on_host(factors), _on_host(slots), self.steps()

    def _loop(self, carry: Carry, start: Tensor, steps: Tensor) -> Carry:
        return ops.fori_loop(start, start + steps, self._step, carry)

    def _step(self, iteration: Tensor, carry: Carry) -> Carry:
        factors, slots, steps = carry
        kernel = chain_product(factors)
        gradient = self.gradient(kernel)
        if self.rule_depth:
            gradients = [end_to_end_gradient(kernel, gradient, self.rule_depth)]
        else:
            gradients = factor_gradients(factors, gradient)
        updates, slots = self._updates(gradients, slots)
        moved = [f + self.rates * u for f, u in zip(factors, updates, strict=True)]
        sound = steps == ops.cast(iteration, "int32")
        for factor in moved:
            sound = ops.logical_and(sound, ops.all(ops.isfinite(factor), axis=(1, 2)))
        chosen = sound[:, None, None]
        factors = [ops.where(chosen, new, old) for new, old in zip(moved, factors, strict=True)]
        return factors, slots, steps + ops.cast(sound, "int32")

    def _updates(
        self, gradients: list[Tensor], slots: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Updates at rate one, and the optimizer's new state."""
        if self.stateless:
            zeros = [ops.zeros_like(gradient) for gradient in gradients]
            return self.update.stateless_apply(slots, gradients, zeros)
        for shadow in self.shadows:
            shadow.assign(ops.zeros_like(shadow))
        self.update.apply(gradients, self.shadows)
        return [ops.stop_gradient(ops.convert_to_tensor(s)) + 0 for s in self.shadows], slots


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


def _on_host(tensors: Iterable[Tensor]) -> list[Array]:
    return [np.array(ops.convert_to_numpy(tensor)) for tensor in tensors]


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


def rate_one(
    optimizer: str | keras.optimizers.Optimizer,
) -> tuple[keras.optimizers.Optimizer, int | None]:
    """An optimizer's like with learning rate one, and the depth of the rule (None without)."""
    optimizer = keras.optimizers.get(optimizer)
    rule_depth: int | None = None
    config = optimizer.get_config()
    if isinstance(optimizer, EndToEnd):
        if not isinstance(optimizer.depth, int):
            raise ValueError(
                f"`EndToEnd` must have one depth here. Received: depth={optimizer.depth!r}"
            )
        rule_depth = optimizer.depth
        config = {n: config[n] for n in keras.optimizers.SGD().get_config() if n in config}
        optimizer = keras.optimizers.SGD()
    problem = None
    if not isinstance(config.get("learning_rate"), float):
        problem = "have a learning rate that is a number"
    elif config.get("use_ema") or config.get("gradient_accumulation_steps"):
        problem = "neither average nor accumulate over steps"
    elif _has_small_print(config) or not _is_elementwise(type(optimizer), config):
        problem = (
            "make updates that are elementwise, proportional to the learning rate and independent "
            "of the variable (no weight decay, no clipping by norms, no layer-wise rates)"
        )
    if problem:
        raise ValueError(f"In a sweep, the optimizer must {problem}. Received: {optimizer!r}")
    config |= {"learning_rate": 1.0, "loss_scale_factor": None}  # gradients are not scaled here
    return type(optimizer).from_config(config), rule_depth


def _has_small_print(config: Config) -> bool:
    """Whether there is a decay or a clipping that a trial might be too short to notice."""
    return any(config.get(name) for name in ("weight_decay", "clipnorm", "global_clipnorm"))


def _is_elementwise(kind: type[keras.optimizers.Optimizer], config: Config) -> bool:
    """Try it: each of two configurations alone, elsewhere and at half the rate."""
    gradients = np.random.default_rng(0).normal(size=(3, 2, 4, 3)).astype("float32")
    gradients[:, 1] *= 100

    def moved(part: slice, start: float = 0.0, rate: float = 1.0) -> Array:
        optimizer = kind.from_config({**config, "learning_rate": rate})
        variable = keras.Variable(np.full(gradients[0, part].shape, start, "float32"))
        for gradient in gradients[:, part]:
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        return (ops.convert_to_numpy(variable) - start) / rate

    both = moved(slice(0, 2))
    alike = [(moved(slice(i, i + 1)), both[i : i + 1]) for i in range(2)]
    alike += [(moved(slice(0, 2), start=1.0), both), (moved(slice(0, 2), rate=0.5), both)]
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in alike)
