"""The compiled loop over some configurations of a sweep, on one device."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_overparam.end_to_end import end_to_end_gradient
from keras_overparam.factorization import chain_product, factor_gradients
from keras_overparam.sweep.compilation import compiled
from keras_overparam.sweep.problems import LinearProblem
from keras_overparam.typing import Array, Float64Array, Tensor

Carry: TypeAlias = tuple[list[Tensor], list[Tensor], Tensor]  # factors, optimizer's state, steps
State: TypeAlias = tuple[list[Array], list[Array], Array]  # the same on the host


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


def _on_host(tensors: Iterable[Tensor]) -> list[Array]:
    return [np.array(ops.convert_to_numpy(tensor)) for tensor in tensors]
