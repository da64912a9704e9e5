"""Stock layers and their factored counterparts, one made to compute what the other does."""

from collections.abc import Iterator

import keras
import numpy as np

from keras_overparam.configuration import configuration
from keras_overparam.conversion.paths import name_scopes
from keras_overparam.conversion.refusals import LEAVE_OUT, naming, refusal_of
from keras_overparam.conversion.state import values_of
from keras_overparam.layers import (
    FactoredConv1D,
    FactoredConv2D,
    FactoredConv3D,
    FactoredDense,
    FactoredDepthwiseConv2D,
    FactoredEinsumDense,
    FactoredKernel,
    FactoredMultiHeadAttention,
)
from keras_overparam.typing import Config, Layer, Pair

FACTORED = {
    layer.stock: layer
    for layer in (
        FactoredConv1D,
        FactoredConv2D,
        FactoredConv3D,
        FactoredDense,
        FactoredDepthwiseConv2D,
        FactoredEinsumDense,
    )
}
LORA = ("lora_rank", "lora_alpha")
CONSTRAINTS = ("kernel_constraint", "depthwise_constraint")
CANCELLING_ABOVE = 1e3  # product of the factors' norms over the norm of the product


def projections(layer: Layer) -> list[keras.layers.EinsumDense]:
    """The layers of an attention layer, stock or factored, that have kernels; else none."""
    if not isinstance(layer, keras.layers.MultiHeadAttention):
        return []
    return [inner for inner in layer._layers if isinstance(inner, keras.layers.EinsumDense)]


def with_kernels(old: Layer, new: Layer) -> Iterator[Pair]:
    """The pairs of layers with kernels in a layer and its conversion: themselves, if not within."""
    return zip(projections(old) or [old], projections(new) or [new], strict=True)


def factored_layer(layer: Layer, own: Config) -> Layer:
    """The factored layer that computes what a stock layer does.

    LoRA's weights are merged into the kernel that is factored, which then trains as a whole.

    Args:
        layer: a built stock layer.
        own: the factored layer's other arguments.
    """
    for inner in projections(layer) or [layer]:
        _refuse_what_factors_cannot_be(inner)
    with naming(layer, LEAVE_OUT):
        return _factored(layer, own)


def _refuse_what_factors_cannot_be(layer: Layer) -> None:
    if getattr(layer, "quantization_mode", None) is not None:
        raise refusal_of(
            layer,
            "it is quantized, and factors are trained in floating point",
            "Overparameterize the model before that, or leave the layer out by `layers`.",
        )
    for constraint in CONSTRAINTS:
        if getattr(layer, constraint, None) is not None:
            raise refusal_of(
                layer,
                f"it has a `{constraint}`, and projecting a product does not say how to move its "
                "factors",
                "Use a regularizer instead, or leave the layer out by `layers`.",
            )
    if not np.isfinite(values_of(layer.kernel)).all():
        raise refusal_of(
            layer,
            "its kernel has entries that are not finite, as after a training that diverged",
            "Load weights from before that, or leave the layer out by `layers`.",
        )


def _factored(layer: Layer, own: Config) -> Layer:
    kind = FACTORED.get(type(layer), FactoredMultiHeadAttention)
    dropped = (*LORA, "quantization_config")
    config = {key: value for key, value in configuration(layer).items() if key not in dropped}
    start = {} if projections(layer) else {"factorization": "identity"}  # which costs no SVD
    factored = kind.from_config(config | own | start)
    with name_scopes(layer):
        factored.build_from_config(layer.get_build_config())
    if start:
        factored.factorization = own["factorization"]
    for old, new in with_kernels(layer, factored):
        _take_kernel(new, old)
    return factored


def _take_kernel(factored: FactoredKernel, layer: Layer) -> None:
    """Give a factored layer the kernel and the bias of a stock one."""
    factored.take_kernel(values_of(layer.kernel).astype("float64"))
    if layer.bias is not None:
        factored.bias.assign(values_of(layer.bias))


def collapsed_layer(layer: FactoredKernel | FactoredMultiHeadAttention) -> Layer:
    """The stock layer that computes what a factored layer does."""
    with name_scopes(layer):
        return layer.collapse()


def cancellation(layer: Layer) -> float:
    """The product of the factors' norms over the norm of their product: 1 at balance.

    Rounding of the factors is magnified by as much in the product. Of several factored kernels in a
    layer the largest.
    """

    def of(factored: FactoredKernel) -> float:
        product = float(np.linalg.norm(factored.exact_kernel()))
        norms = np.prod([np.linalg.norm(values_of(factor)) for factor in factored.factors])
        return float(norms) / product if product else 1.0

    kernels = projections(layer) or [layer]
    return max(of(factored) for factored in kernels if isinstance(factored, FactoredKernel))
