"""Factored convolutions and einsum layers: the function of the stock layers, and the way back."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_overparam
from keras_overparam import balancedness_gap

CASES = {
    "Conv1D": (
        {"filters": 6, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
        (2, 9, 4),
    ),
    "Conv2D": (
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        (2, 9, 9, 4),
    ),
    "Conv2D, groups": (
        {"filters": 6, "kernel_size": (3, 1), "groups": 2, "use_bias": False},
        (2, 9, 9, 4),
    ),
    "Conv3D": ({"filters": 3, "kernel_size": 2, "kernel_regularizer": "l2"}, (2, 4, 4, 4, 2)),
    "DepthwiseConv2D": (
        {"kernel_size": 3, "depth_multiplier": 2, "depthwise_regularizer": "l2"},
        (2, 6, 6, 3),
    ),
    "EinsumDense": (
        {"equation": "abc,cde->abde", "output_shape": (None, 2, 5), "bias_axes": "de"},
        (2, 3, 4),
    ),
    "EinsumDense, permuted": (
        {"equation": "abc,dac->adb", "output_shape": (5, 3), "kernel_regularizer": "l1"},
        (2, 3, 4),
    ),
}
PATCHES = (2, 9, 9, 4)


def classes(name):
    stock = name.split(",")[0]
    return getattr(keras_overparam, f"Factored{stock}"), getattr(layers, stock)


def numpy(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def inputs_of(shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def moved(layer):
    """The layer with weights that are not those of a start."""
    rng = np.random.default_rng(1)
    layer.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def assert_close(found, expected):
    expected = numpy(expected)
    np.testing.assert_allclose(numpy(found), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_computes_what_the_stock_layer_with_its_kernel_does(name, depth):
    factored, stock = classes(name)
    arguments, shape = CASES[name]
    layer = factored(depth=depth, **arguments)
    layer.build(shape)
    moved(layer)
    plain = layer.collapse()
    assert type(plain) is stock and plain.name == layer.name
    np.testing.assert_allclose(numpy(plain.kernel), layer.exact_kernel(), rtol=1e-6)
    np.testing.assert_allclose(numpy(layer.kernel), layer.exact_kernel(), atol=1e-5)
    x = inputs_of(shape)
    assert_close(layer(x), plain(x))
    np.testing.assert_allclose(  # the kernel's penalty, which Keras averages over nothing
        [numpy(loss) for loss in layer.losses], [numpy(loss) for loss in plain.losses], rtol=1e-4
    )


@pytest.mark.parametrize("name", CASES)
def test_takes_a_kernel_balanced(name):
    factored, stock = classes(name)
    arguments, shape = CASES[name]
    plain, layer = stock(**arguments), factored(depth=2, **arguments)
    plain.build(shape)
    layer.build(shape)
    layer.set_kernel(ops.convert_to_numpy(plain.kernel))
    np.testing.assert_allclose(layer.exact_kernel(), numpy(plain.kernel), atol=1e-6)
    assert float(balancedness_gap([numpy(f) for f in layer.factors])) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_is_made_again_from_its_configuration(name):
    factored, _ = classes(name)
    arguments, shape = CASES[name]
    layer = factored(depth=2, width=7, factor_regularizer="l2", **arguments)
    layer.build(shape)
    again = layers.deserialize(layers.serialize(layer))  # which builds it, too
    again.set_weights(layer.get_weights())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again.exact_kernel(), layer.exact_kernel())
    assert len(again.losses) == len(layer.losses) > 0


@pytest.mark.parametrize("name", CASES)
def test_starts_as_the_stock_layer_does(name):
    factored, stock = classes(name)
    arguments, shape = CASES[name]
    initializer = "depthwise_initializer" if "Depthwise" in name else "kernel_initializer"
    arguments = arguments | {initializer: keras.initializers.HeNormal(seed=3)}
    layer, plain = factored(**arguments), stock(**arguments)
    layer.build(shape)
    plain.build(shape)
    np.testing.assert_allclose(layer.exact_kernel(), numpy(plain.kernel), atol=1e-6)


@pytest.mark.parametrize("factorization", ["independent", "identity"])
def test_other_starts(factorization):
    for name in ("Conv2D", "EinsumDense, permuted"):
        factored, _ = classes(name)
        arguments, shape = CASES[name]
        layer = factored(depth=3, factorization=factorization, **arguments)
        layer.build(shape)
        norms = [np.linalg.norm(numpy(factor)) for factor in layer.factors]
        assert min(norms) > 0.1
        if factorization == "identity":
            identities = [np.array_equal(f, np.eye(*f.shape)) for f in map(numpy, layer.factors)]
            assert sum(identities) == 2


@pytest.mark.parametrize(("batch", "convolutions"), [(1, 2), (40, 1)])
def test_the_order_of_multiplication_does_not_change_a_convolution(batch, convolutions):
    """Few output positions: a convolution and a 1×1 convolution; many: the product first."""
    layer = keras_overparam.FactoredConv2D(8, 3, strides=4)
    x = inputs_of((batch, 9, 9, 4))
    layer.build(x.shape)
    assert len(layer._segments(x.shape)) == convolutions
    moved(layer)
    assert_close(layer(x), layer.collapse()(x))


def test_mixed_precision():
    layer = keras_overparam.FactoredConv2D(6, 3, dtype="mixed_float16")
    outputs = layer(inputs_of(PATCHES))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    np.testing.assert_allclose(
        numpy(outputs), numpy(layer.collapse()(inputs_of(PATCHES))), atol=1e-2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_constraint": "non_neg"}, "kernel_constraint"),
        ({"lora_rank": 2}, "lora_rank"),
        ({"depth": 0}, "depth"),
        ({"width": [2, 3]}, "width"),
        ({"factorization": "even"}, "factorization"),
    ],
)
def test_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_overparam.FactoredConv2D(4, 3, **arguments)


def test_refuses_what_needs_a_stock_layer():
    layer = keras_overparam.FactoredConv2D(4, 3)
    with pytest.raises(ValueError, match="set"):
        layer.set_kernel(np.ones((3, 3, 4, 4)))
    layer.build(PATCHES)
    with pytest.raises(ValueError, match="collapse"):
        layer.enable_lora(2)
    with pytest.raises(NotImplementedError, match="collapse"):
        layer.quantize("int8")
    with pytest.raises(ValueError, match="shape"):
        layer.set_kernel(np.ones((3, 3, 4, 5)))


def test_attention_refuses_what_its_projections_do():
    for arguments in ({"kernel_constraint": "non_neg"}, {"depth": 0}, {"factorization": "even"}):
        (name,) = arguments
        with pytest.raises(ValueError, match=name):
            keras_overparam.FactoredMultiHeadAttention(2, 3, **arguments)


def test_attention_with_a_regularizer_of_its_factors_and_a_mask():
    layer = keras_overparam.FactoredMultiHeadAttention(
        2, 3, factor_regularizer="l2", kernel_regularizer="l1"
    )
    query, value = inputs_of((2, 4, 6)), inputs_of((2, 3, 7))
    mask = np.array([[[True, False, True]] * 4, [[True, True, False]] * 4])
    outputs = layer(query, value, attention_mask=mask)
    assert len(layer.losses) == 8
    again = layers.deserialize(layers.serialize(layer))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(again(query, value, attention_mask=mask)), numpy(outputs))
    assert_close(layer.collapse()(query, value, attention_mask=mask), outputs)
