"""A Keras optimizer at rate one, which serves all configurations of a sweep."""

import keras
import numpy as np
from keras import ops

from keras_overparam.checks import refusal
from keras_overparam.optimizers import EndToEnd
from keras_overparam.typing import Array, Config

NAMES = ("adadelta", "adagrad", "adam", "adamax", "lion", "nadam", "rmsprop", "sgd")  # Keras's


def rate_one(
    optimizer: str | keras.optimizers.Optimizer,
) -> tuple[keras.optimizers.Optimizer, int | None]:
    """An optimizer's like with learning rate one, and the depth of the rule (None without)."""
    try:
        optimizer = keras.optimizers.get(optimizer)
    except (ValueError, KeyError) as error:
        names = ", ".join(map(repr, NAMES))
        raise refusal("optimizer", f"a Keras optimizer or one of {names}", optimizer) from error
    rule_depth: int | None = None
    config = optimizer.get_config()
    if isinstance(optimizer, EndToEnd):
        if not isinstance(optimizer.depth, int):
            raise ValueError(
                f"`EndToEnd` must have one depth here. Received: depth={optimizer.depth!r}"
            )
        rule_depth = optimizer.depth
        config = _of_the_rule_alone(optimizer)
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


def _of_the_rule_alone(optimizer: EndToEnd) -> Config:
    """Configuration of its gradient descent; what else it is asked for, a sweep does not do."""
    config, usual = optimizer.get_config(), EndToEnd().get_config()
    own = config.keys() - keras.optimizers.SGD().get_config().keys() - {"depth"}
    if other := sorted(name for name in own if config[name] != usual[name]):
        raise ValueError(
            f"In a sweep, `EndToEnd` applies the exact rule to the one kernel: leave out "
            f"{', '.join(other)}. Received: {', '.join(f'{n}={config[n]!r}' for n in other)}"
        )
    return {name: value for name, value in config.items() if name not in {*own, "depth"}}


def _has_small_print(config: Config) -> bool:
    """Whether there is a decay or a clipping that a trial might be too short to notice."""
    return any(config.get(name) for name in ("weight_decay", "clipnorm", "global_clipnorm"))


def _is_elementwise(kind: type[keras.optimizers.Optimizer], config: Config) -> bool:
    """Try it: each of two configurations alone, elsewhere, at half the rate, and never moved.

    The last is what an optimizer does that reads the variable, as the engine keeps none for it.
    """
    gradients = np.random.default_rng(0).normal(size=(3, 2, 4, 3)).astype("float32")
    gradients[:, 1] *= 100

    def moved(part: slice, start: float = 0.0, rate: float = 1.0, put_back: bool = False) -> Array:
        optimizer = kind.from_config({**config, "learning_rate": rate})
        there = np.full(gradients[0, part].shape, start, "float32")
        variable, way = keras.Variable(there), np.zeros_like(there)
        for gradient in gradients[:, part]:
            before = np.array(ops.convert_to_numpy(variable))
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
            way += ops.convert_to_numpy(variable) - before
            if put_back:
                variable.assign(there)
        return way / rate

    both = moved(slice(0, 2))
    alike = [(moved(slice(i, i + 1)), both[i : i + 1]) for i in range(2)]
    others: list[Config] = [{"start": 1.0}, {"rate": 0.5}, {"put_back": True}]
    alike += [(moved(slice(0, 2), **other), both) for other in others]
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in alike)
