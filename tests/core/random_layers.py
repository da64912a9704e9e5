"""Every public layer of Keras with arguments to draw: what random models are made of.

A recipe says which tensors a layer takes, by their number of axes (the batch's included), and how
its arguments are drawn. `CHAINED` can follow any other layer; `FIRST` stand right behind an input,
because what they compute jumps where a value crosses a bound, or they want pixels, words or tokens.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st

import keras_overparam as ko

BACKEND = keras.backend.backend()
SIZE = st.integers(2, 4)
SMALL = st.integers(1, 2)
BOOLEAN = st.booleans()
PADDING = st.sampled_from(["same", "valid"])
ACTIVATION = st.sampled_from([None, "tanh", "relu", "gelu"])
RATE = st.sampled_from([0.0, 0.25])
PIXELS = 255.0
TOKENS = 6  # values of tokens, 0 to 5
LETTERS = ["a", "b", "c", "d"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a layer is drawn.

    Attributes:
        name: of its class in `keras.layers` or `keras_overparam`, or a class.
        axes: numbers of axes of the tensors that it takes.
        arguments: dictionary from its arguments to their values, to strategies of them, or to
            functions from the input's shape to one of both.
        fits: function from the input's shape to whether the layer takes it.
        prepare: function that gives a new layer what it learns from data.
        how: "one" tensor is what it is called on, or "two" of the same shape in a list, or "both"
            as two arguments.
    """

    name: str | type
    axes: tuple[int, ...]
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fits: Callable[[tuple], bool] = lambda shape: True
    prepare: Callable[[keras.layers.Layer, tuple], None] = lambda layer, shape: None
    how: str = "one"

    def drawn(self, draw, shape):
        """A layer for a tensor of the given shape, without the batch's axis."""
        layer = kind_of(self)(**{k: _value(draw, v, shape) for k, v in self.arguments.items()})
        self.prepare(layer, shape)
        return layer


def kind_of(recipe):
    """The class of a recipe's layer."""
    if isinstance(recipe.name, type):
        return recipe.name
    return getattr(keras.layers, recipe.name, None) or getattr(ko, recipe.name)


def _value(draw, value, shape):
    """The value of an argument."""
    if getattr(value, "of_shape", False):
        value = value(shape)
    if isinstance(value, st.SearchStrategy):
        value = draw(value)
    if isinstance(value, Recipe):
        return value.drawn(draw, shape)
    return [_value(draw, v, shape) for v in value] if isinstance(value, list) else value


def of_shape(function):
    """Marks a function from the input's shape to an argument's value or strategy."""
    function.of_shape = True
    return function


def wide(least):
    """Whether every spatial axis has at least so many places."""
    return lambda shape: min(shape[:-1]) >= least


def _each(names, axes, arguments=None, **options):
    """Recipes of several layers with the same arguments."""
    return [Recipe(name, axes, arguments or {}, **options) for name in names.split()]


def _by_rank(name, arguments, suffix="D", **options):
    """Recipes of a layer for one, two and three spatial axes."""
    return [
        Recipe(f"{name}{n}{suffix}", (n + 2,), arguments, **options)
        for n in (1, 2, 3)
        if hasattr(keras.layers, f"{name}{n}{suffix}")
    ]


FACTORED = {"Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D"}
ANY = (2, 3, 4, 5)
SPATIAL = (3, 4, 5)
CONVOLUTION = {"kernel_size": SMALL, "padding": PADDING, "use_bias": BOOLEAN}
FILTERS = CONVOLUTION | {"filters": SIZE, "activation": ACTIVATION}
# To one place, TensorFlow 2.21 ends the process in it (SIGFPE); in float64 it has no 3D kernel,
# nor of other pooling over three axes.
ADAPTIVE = {"output_size": 2, "dtype": "float32"}
RECURRENT = {"units": SIZE, "return_sequences": BOOLEAN, "go_backwards": BOOLEAN}
CELLS = [Recipe(f"{name}Cell", (2,), {"units": SIZE}) for name in ("LSTM", "GRU", "SimpleRNN")]
STACK = st.lists(st.sampled_from(CELLS), min_size=1, max_size=2)
STACK_OF_CELLS = Recipe("StackedRNNCells", (2,), {"cells": STACK})
CELL = st.sampled_from([*CELLS, STACK_OF_CELLS])
DENSE = Recipe("Dense", (2, 3, 4), {"units": SIZE, "use_bias": BOOLEAN, "activation": ACTIVATION})
CONVOLUTIONAL_MEMORY = {"filters": SMALL, "kernel_size": SMALL, "padding": "same"}


@of_shape
def _divisors(shape):
    return st.sampled_from([n for n in range(1, shape[-1] + 1) if shape[-1] % n == 0])


@of_shape
def _flat(shape):
    return (math.prod(shape),)


@of_shape
def _axes_in_some_order(shape):
    return st.permutations(range(1, len(shape) + 1)).map(tuple)


@of_shape
def _projection(shape):
    """Equation of `EinsumDense` on all axes."""
    outer = "bcde"[: len(shape) - 1]
    return f"a{outer}x,xy->a{outer}y"


@of_shape
def _projected(shape):
    return SIZE.map(lambda units: (*shape[:-1], units))


def adapted(layer, shape):
    """Gives a layer the statistics of some data."""
    layer.adapt(np.random.default_rng(1).normal(1.0, 2.0, (16, *shape)).astype("float32"))


EINSUM = {"equation": _projection, "output_shape": _projected, "bias_axes": "y"}
CHAINED = [
    # Core and activations
    DENSE,
    Recipe("Dense", (2, 3), {"units": SIZE, "lora_rank": 1}),
    Recipe("Conv2D", (4,), {"filters": SIZE, "kernel_size": 2, "lora_rank": 1}, wide(2)),
    Recipe("EinsumDense", (2, 3, 4), EINSUM),
    Recipe("Activation", ANY, {"activation": st.sampled_from(["tanh", "silu", "softplus"])}),
    Recipe("ActivityRegularization", ANY, {"l2": 0.1}),
    Recipe("Lambda", ANY, {"function": lambda x: x * 0.5}),
    Recipe("Identity", ANY),
    Recipe("Masking", (3,)),
    *_each("ELU LeakyReLU PReLU ReLU", ANY),
    Recipe("Softmax", ANY, fits=lambda shape: shape[-1] > 1),
    # Regularization
    *_each("Dropout AlphaDropout GaussianDropout", ANY, {"rate": RATE}),
    Recipe("GaussianNoise", ANY, {"stddev": 0.1, "seed": st.sampled_from([None, 7])}),
    *_by_rank("SpatialDropout", {"rate": RATE}),
    # Convolution and pooling
    *_by_rank("Conv", FILTERS, fits=wide(2)),
    *_by_rank("Conv", FILTERS | {"strides": SMALL}, suffix="DTranspose"),
    *_by_rank("SeparableConv", FILTERS | {"depth_multiplier": SMALL}, fits=wide(2)),
    *_by_rank("DepthwiseConv", CONVOLUTION | {"depth_multiplier": SMALL}, fits=wide(2)),
    *_by_rank("MaxPooling", {"pool_size": SMALL}, fits=wide(2))[:2],
    Recipe("MaxPooling3D", (5,), {"pool_size": SMALL, "dtype": "float32"}, fits=wide(2)),
    *_by_rank("AveragePooling", {"pool_size": SMALL, "padding": PADDING}, fits=wide(2))[:2],
    Recipe("AveragePooling3D", (5,), {"pool_size": SMALL, "dtype": "float32"}, fits=wide(2)),
    *_by_rank("GlobalMaxPooling", {"keepdims": BOOLEAN}),
    *_by_rank("GlobalAveragePooling", {"keepdims": BOOLEAN}),
    *_by_rank("AdaptiveAveragePooling", ADAPTIVE, fits=wide(2)),
    *_by_rank("AdaptiveMaxPooling", ADAPTIVE, fits=wide(2)),
    # Recurrence
    Recipe("LSTM", (3,), RECURRENT),
    Recipe("GRU", (3,), RECURRENT | {"reset_after": BOOLEAN}),
    Recipe("SimpleRNN", (3,), RECURRENT),
    Recipe("RNN", (3,), {"cell": CELL, "return_sequences": BOOLEAN}),
    *(
        Recipe("Bidirectional", (3,), {"layer": Recipe(name, (3,), {"units": SIZE})})
        for name in ("LSTM", "GRU")
    ),
    *(Recipe(f"ConvLSTM{n}D", (n + 3,), CONVOLUTIONAL_MEMORY) for n in (1, 2, 3)),
    Recipe("TimeDistributed", (3, 4), {"layer": DENSE}),
    # Normalization
    Recipe("BatchNormalization", ANY, {"scale": BOOLEAN, "center": BOOLEAN}),
    Recipe("LayerNormalization", ANY, {"center": BOOLEAN}, lambda shape: shape[-1] > 2),
    Recipe("GroupNormalization", SPATIAL, {"groups": _divisors}, wide(2)),
    *_each("RMSNormalization UnitNormalization", ANY),
    Recipe(
        "SpectralNormalization",
        (2, 3, 4),
        {"layer": DENSE, "power_iterations": SMALL},
    ),
    # Reshaping
    Recipe("Flatten", SPATIAL),
    Recipe("Permute", SPATIAL, {"dims": _axes_in_some_order}),
    Recipe("Reshape", SPATIAL, {"target_shape": _flat}),
    Recipe("RepeatVector", (2,), {"n": SIZE}),
    *_by_rank("Cropping", {"cropping": 1}, fits=wide(3)),
    *_by_rank("UpSampling", {"size": SMALL}, fits=lambda shape: math.prod(shape) < 200),
    *_by_rank("ZeroPadding", {"padding": 1}, fits=lambda shape: math.prod(shape) < 200),
    # Ours
    Recipe("FactoredLinear", (2, 3), {"units": SIZE, "depth": SMALL}),
    Recipe("FactoredDense", (2, 3), {"units": SIZE, "depth": SIZE, "width": 2}),
    Recipe("FactoredConv2D", (4,), {"filters": SIZE, "kernel_size": SMALL}, wide(2)),
    Recipe("FactoredMultiHeadAttention", (3,), {"num_heads": 2, "key_dim": 2}, how="both"),
]

CONVERTED = [recipe for recipe in CHAINED if recipe.name in FACTORED]

MERGING = [
    *_each("Add Subtract Multiply Average Maximum Minimum Concatenate", ANY, how="two"),
    Recipe("Dot", (2, 3), {"axes": -1, "normalize": BOOLEAN}, how="two"),
    Recipe("Attention", (3,), {"use_scale": BOOLEAN}, how="two"),
    Recipe("AdditiveAttention", (3,), {"use_scale": BOOLEAN}, how="two"),
    Recipe("MultiHeadAttention", (3,), {"num_heads": SMALL, "key_dim": SMALL}, how="both"),
    Recipe(
        "GroupQueryAttention",
        (3,),
        {"head_dim": 2, "num_query_heads": 2, "num_key_value_heads": SMALL},
        how="both",
    ),
]

# First layers -------------------------------------------------------------------------------------

AUGMENTATIONS = (
    "AutoContrast Equalization RandomColorDegeneration:factor RandomColorJitter "
    "RandomElasticTransform RandomBrightness:factor RandomContrast:factor RandomErasing "
    "RandomFlip RandomGaussianBlur RandomGrayscale RandomHue:factor RandomInvert "
    "RandomPerspective RandomPosterization:factor=4 RandomRotation:factor "
    "RandomSaturation:factor RandomSharpness:factor RandomShear "
    "RandomTranslation:height_factor,width_factor RandomZoom:height_factor Solarization MixUp "
    "CutMix RandAugment AugMix"
)


def _augmentation(text):
    """Recipe of a layer on pixels, from its name and the arguments that it wants."""
    name, _, wanted = text.partition(":")
    pairs = (argument.partition("=") for argument in wanted.split(",") if argument)
    arguments = {key: float(value or 0.2) for key, _, value in pairs}
    return Recipe(name, (4,), {k: int(v) if v >= 1 else v for k, v in arguments.items()})


IMAGES = [
    *map(_augmentation, AUGMENTATIONS.split()),
    Recipe("ContrastLimitedAdaptiveHistogramEqualization", (4,), {"tile_grid_size": (2, 2)}),
    Recipe("CenterCrop", (4,), {"height": 3, "width": 4}),
    Recipe("RandomCrop", (4,), {"height": 3, "width": 4}),
    Recipe(
        "Resizing",
        (4,),
        {"height": SIZE, "width": SIZE, "interpolation": st.sampled_from(["bilinear", "nearest"])},
    ),
    Recipe(
        "Pipeline",
        (4,),
        {"layers": [Recipe("RandomFlip", (4,)), Recipe("Rescaling", (4,), {"scale": 0.1})]},
    ),
]
NUMBERS = [
    Recipe("Normalization", ANY, {"axis": -1}, prepare=adapted),
    Recipe("Normalization", ANY, {"axis": -1, "invert": True}, prepare=adapted),
    Recipe("Rescaling", ANY, {"scale": 0.5, "offset": 0.25}),
    Recipe("Discretization", (2,), {"num_bins": SIZE, "output_mode": "multi_hot"}, prepare=adapted),
]
SIGNALS = [
    Recipe(
        "MelSpectrogram",
        (2,),
        {
            "fft_length": 16,
            "sequence_stride": 8,
            "num_mel_bins": 4,
            "sampling_rate": 100,
        },
    ),
    Recipe(
        "STFTSpectrogram",
        (3,),
        {
            "frame_length": 16,
            "frame_step": 8,
            "mode": st.sampled_from(["log", "magnitude"]),
        },
    ),
]
EMBEDDING = {"input_dim": TOKENS, "output_dim": SIZE, "mask_zero": BOOLEAN}
INTEGERS = [
    Recipe("Embedding", (2,), EMBEDDING),
    Recipe("ReversibleEmbedding", (2,), EMBEDDING | {"tie_weights": BOOLEAN}),
    Recipe(
        "CategoryEncoding",
        (2,),
        {"num_tokens": TOKENS, "output_mode": st.sampled_from(["multi_hot", "count"])},
    ),
]
MODES = st.sampled_from(["multi_hot", "count"])
INTEGERS_OF_TENSORFLOW = [
    Recipe("Hashing", (2,), {"num_bins": TOKENS, "output_mode": MODES, "salt": 3}),
    Recipe(
        "IntegerLookup",
        (2,),
        {"output_mode": MODES},
        prepare=lambda layer, shape: layer.adapt(np.array([[1], [2], [4]])),
    ),
    Recipe("IntegerLookup", (2,), {"output_mode": "multi_hot", "vocabulary": [1, 2, 4]}),
]


def _count(layer, shape):
    layer.adapt(np.array(LETTERS[:3]))


WORDS = [
    Recipe("StringLookup", (2,), {"output_mode": MODES}, prepare=_count),
    Recipe("StringLookup", (2,), {"output_mode": MODES, "vocabulary": LETTERS[:2]}),
    Recipe(
        "StringLookup",
        (2,),
        {"output_mode": "tf_idf"},
        prepare=_count,
    ),
    Recipe(
        "TextVectorization",
        (2,),
        {"output_mode": MODES, "max_tokens": TOKENS},
        fits=lambda shape: shape == (1,),
        prepare=_count,
    ),
    Recipe("Hashing", (2,), {"num_bins": TOKENS, "output_mode": MODES}),
]
CROSSED = [
    Recipe("HashedCrossing", (2,), {"num_bins": TOKENS, "output_mode": "one_hot"}, how="two"),
]

# Layers that models are not made of, and why.
EXCLUDED = {
    "Layer": "abstract",
    "Wrapper": "abstract",
    "TFSMLayer": "holds a SavedModel on disk, in which no layer is left",
    "JaxLayer": "holds a function of JAX, which has no configuration that says what it computes",
    "FlaxLayer": "holds a module of Flax, which is not among the requirements",
    "TorchModuleWrapper": "holds a module of PyTorch, which only the PyTorch backend calls",
    "MaxNumBoundingBoxes": "takes a dictionary of boxes and passes images on unchanged",
}
ONLY_TENSORFLOW = {
    "Hashing",
    "HashedCrossing",
    "IntegerLookup",
    "StringLookup",
    "TextVectorization",
}
