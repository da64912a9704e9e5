"""A Keras optimizer at rate one, which serves all configurations of a sweep."""

import keras
import numpy as np
from keras import ops

from keras_overparam.optimizers import EndToEnd
from keras_overparam.typing import Array, Config


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
