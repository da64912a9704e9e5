"""What users do with stock layers, done with factored ones: the same, or one clear sentence."""

import inspect
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_overparam
from keras_overparam import FactoredDense, FactoredEinsumDense, FactoredMultiHeadAttention

OURS = ["depth", "width", "factorization", "factor_regularizer"]
CASES = {  # the stock layer's arguments by position, and the shape of its input
    "Dense": ((4,), (2, 6)),
    "Conv1D": ((4, 3), (2, 8, 3)),
    "Conv2D": ((4, 3), (2, 6, 6, 3)),
    "Conv3D": ((4, 2), (2, 4, 4, 4, 2)),
    "DepthwiseConv2D": ((3,), (2, 6, 6, 3)),
    "EinsumDense": (("ab,bc->ac", 4), (2, 6)),
    "MultiHeadAttention": ((2, 3), (2, 5, 6)),
}
WITH_KERNEL = [name for name in CASES if name != "MultiHeadAttention"]


def classes(name):
    return getattr(keras_overparam, f"Factored{name}"), getattr(layers, name)


def built(name, **arguments):
    layer = classes(name)[0](*CASES[name][0], name="mine", **arguments)
    shape = CASES[name][1]
    layer.build(*([shape, shape] if name == "MultiHeadAttention" else [shape]))
    return layer


def inputs_of(name):
    return np.random.default_rng(0).normal(size=CASES[name][1]).astype("float32")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_stock_arguments_come_first_in_their_order_and_ours_by_keyword(name):
    factored, stock = classes(name)
    ours = list(inspect.signature(factored).parameters.values())
    theirs = list(inspect.signature(stock).parameters.values())
    assert [p.name for p in ours] == [*(p.name for p in theirs[:-1]), *OURS, "kwargs"]
    for mine, given in zip(ours, theirs[:-1], strict=False):
        assert (mine.kind, mine.default) == (given.kind, given.default)
    assert all(p.kind is p.KEYWORD_ONLY for p in ours if p.name in OURS)


def test_linear_has_the_order_of_dense():
    parameters = inspect.signature(keras_overparam.FactoredLinear).parameters
    dense = list(inspect.signature(layers.Dense).parameters)
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == [name for name in dense if name in positional]
    with pytest.raises(TypeError, match="positional"):
        keras_overparam.FactoredLinear(4, "zeros", None, None, None, 3)


@pytest.mark.parametrize("name", CASES)
def test_every_argument_can_be_given_by_position(name):
    factored, stock = classes(name)
    parameters = list(inspect.signature(stock).parameters.values())[:-1]
    values = {
        "kernel_initializer": "he_normal",
        "depthwise_initializer": "he_normal",
        "kernel_regularizer": "l2",
        "depthwise_regularizer": "l2",
        "bias_regularizer": "l1",
        "activation": "relu",
    }
    given = list(CASES[name][0])
    given += [values.get(p.name, p.default) for p in parameters[len(given) :]]
    ours, theirs = factored(*given).get_config(), stock(*given).get_config()
    shared = set(theirs) - {"name"} - {"kernel_constraint", "depthwise_constraint"}
    unsupported = {"lora_rank", "lora_alpha", "quantization_config", "gptq_unpacked_column_size"}
    assert shared - unsupported <= set(ours)
    assert {key: ours[key] for key in shared & set(ours)} == {
        key: theirs[key] for key in shared & set(ours)
    }


@pytest.mark.parametrize("name", CASES)
def test_a_constraint_of_the_kernel_is_refused_by_position_too(name):
    factored, stock = classes(name)
    names = list(inspect.signature(stock).parameters)
    which = "depthwise_constraint" if "Depthwise" in name else "kernel_constraint"
    given = list(CASES[name][0])
    defaults = [p.default for p in inspect.signature(stock).parameters.values()]
    given += defaults[len(given) : names.index(which)]
    with pytest.raises(ValueError, match=f"`{which}` is not supported by {factored.__name__} '"):
        factored(*given, "non_neg")
    with pytest.raises(TypeError, match="multiple values"):
        factored(*given, None, **{which: None})


# Attributes that are set later --------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_an_activation_taken_away(name):
    layer = built(name, activation="softmax")
    x = inputs_of(name)
    np.testing.assert_allclose(numpy(layer(x)).sum(-1), 1, atol=1e-5)
    layer.activation = None
    assert not np.allclose(numpy(layer(x)).sum(-1), 1)
    plain = layer.collapse()
    assert plain.activation is keras.activations.linear
    np.testing.assert_allclose(numpy(layer(x)), numpy(plain(x)), atol=1e-5)
    layers.deserialize(layers.serialize(layer))


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_a_regularizer_set_later_counts_for_what_is_built_later(name):
    which = "depthwise_regularizer" if "Depthwise" in name else "kernel_regularizer"
    layer = built(name, **{which: "l2"})
    before = [numpy(loss) for loss in layer.losses]
    setattr(layer, which, None)
    assert [numpy(loss) for loss in layer.losses] == before != []
    layer = classes(name)[0](*CASES[name][0])
    setattr(layer, which, keras.regularizers.L1(0.1))
    layer.build(CASES[name][1])
    expected = 0.1 * np.abs(layer.exact_kernel()).sum()
    np.testing.assert_allclose([numpy(loss) for loss in layer.losses], [expected], rtol=1e-5)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_other_attributes_set_before_building(name):
    layer = classes(name)[0](*CASES[name][0])
    layer.use_bias, layer.trainable, layer.name = False, False, "other"
    layer.build(CASES[name][1])
    assert len(layer.weights) == 2 and not layer.trainable_weights
    assert layer.get_config()["name"] == "other"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("attribute", ["kernel_constraint", "lora_rank", "quantization_config"])
def test_what_factors_cannot_heed_cannot_be_set_either(name, attribute):
    layer = built(name)
    assert getattr(layer, attribute) is None
    with pytest.raises(
        ValueError, match=rf"`{attribute}` is not supported by .* 'mine': .*collaps"
    ):
        setattr(layer, attribute, 2)


# LoRA, quantization, weights of a stock layer -----------------------------------------------------


def mixed_model():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(4), FactoredDense(4, name="deep"), layers.Dense(3)]
    )


def warned_of(action):
    """What is warned of, but for what Keras says of its own layers (inputs, dropout, softmax)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(w.message) for w in caught if "Factored" in str(w.message)]


def test_a_partly_factored_model_is_quantized_but_for_the_factors():
    model = mixed_model()
    (message,) = warned_of(lambda: model.quantize("int8"))
    assert message.startswith("FactoredDense 'deep' is left as it is") and "collapse()" in message
    first, deep, last = model.layers
    assert first.quantization_mode == last.quantization_mode == "int8"
    assert deep.quantization_mode is None
    assert np.isfinite(model.predict(np.ones((2, 6)), verbose=0)).all()


def test_a_collapsed_model_is_quantized_and_takes_lora():
    model = keras_overparam.collapse(mixed_model())
    assert warned_of(lambda: model.quantize("int8")) == []
    assert {layer.quantization_mode for layer in model.layers} == {"int8"}
    keras_overparam.collapse(mixed_model()).get_layer("deep").enable_lora(2)


def test_a_quantized_attention_layer_keeps_its_projections():
    layer = built("MultiHeadAttention")
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layer(inputs, inputs))
    messages = warned_of(lambda: model.quantize("int8"))
    assert len(messages) == 4 and all("is left as it is" in message for message in messages)
    assert len(layer.projections[0].factors) == 2


@pytest.mark.parametrize("name", CASES)
def test_weights_of_a_quantized_type_are_refused(name):
    factored, _ = classes(name)
    with pytest.raises(ValueError, match=r"Factored.* '.*' cannot have the weights of a quantized"):
        layer = factored(*CASES[name][0], dtype="int8_from_float32")
        layer.build(*[CASES[name][1]] * (2 if name == "MultiHeadAttention" else 1))


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_lora_is_refused_with_what_to_do(name):
    with pytest.raises(ValueError, match=r"`lora_rank` is .* 'mine': collapse\(\) the layer, and"):
        built(name).enable_lora(2)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_weights_of_a_stock_layer_are_refused_in_one_sentence(name, tmp_path):
    factored, stock = classes(name)
    arguments, shape = CASES[name]

    def model(kind):
        return keras.Sequential([keras.Input(shape[1:]), kind(*arguments, name="mine")])

    model(stock).save_weights(tmp_path / "stock.weights.h5")
    ours = model(factored)
    before = ours.get_weights()
    with pytest.raises(ValueError, match=rf"nothing for {factored.__name__} 'mine' in the file"):
        ours.load_weights(tmp_path / "stock.weights.h5")
    store = {str(i): w for i, w in enumerate(model(stock).get_weights())}
    with pytest.raises(ValueError, match=rf"{factored.__name__} 'mine' has variables of the shap"):
        ours.layers[0].load_own_variables(store)
    for a, b in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_without_a_seed_a_layer_starts_as_the_stock_one_would(name):
    outputs = []
    for kind in classes(name):
        keras.utils.set_random_seed(3)
        layer = kind(*CASES[name][0])
        x = inputs_of(name)
        outputs.append(numpy(layer(x, x) if name == "MultiHeadAttention" else layer(x)))
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_what_a_width_does_not_let_through_is_said():
    layer = built("Dense", width=1)
    kernel = np.diag([4.0, 3.0, 0.0, 0.0, 0.0, 0.0])[:, :4]
    with pytest.warns(UserWarning, match=r"FactoredDense 'mine' .* loses 6.0e-01 of its norm"):
        layer.set_kernel(kernel)
    np.testing.assert_allclose(numpy(layer.kernel)[0, 0], 4, rtol=1e-6)
    layer.set_kernel(np.diag([4.0, 0, 0, 0, 0, 0])[:, :4])  # without a warning


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"width": [2, 2]}, {"factorization": "no"}], ids=lambda w: next(iter(w))
)
def test_errors_of_factors_name_the_layer(wrong):
    for name in ("Dense", "MultiHeadAttention"):
        factored = classes(name)[0]
        with pytest.raises(ValueError, match=f"{factored.__name__} 'mine': `{next(iter(wrong))}`"):
            built(name, **wrong)
    with pytest.raises(ValueError, match="FactoredDense 'mine'` must be a non-empty array of fin"):
        built("Dense").set_kernel(np.full((6, 4), np.nan))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of PyTorch")
def test_compilation_and_tracing_warn_of_nothing_but_with_stock_layers():
    import torch

    def warnings_of(kind, function):
        model = keras.Sequential([keras.Input((6,)), kind(4), kind(3)])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function(model)
        return {str(warning.message)[:60] for warning in caught}

    x = torch.ones(2, 6)
    for function in (
        lambda model: torch.compile(model, backend="eager")(x),
        lambda model: torch.jit.trace(model, x),
    ):
        stock = warnings_of(layers.Dense, function)
        assert warnings_of(FactoredDense, function) <= stock


# Shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_KERNEL)
@pytest.mark.parametrize("size", [None, 0])
def test_channels_that_are_not_known_or_none(name, size):
    layer = classes(name)[0](*CASES[name][0], name="mine")
    with pytest.raises(ValueError, match="'mine' cannot be built: the inputs must have axes"):
        layer.build((*CASES[name][1][:-1], size))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_none(name):
    if keras.backend.backend() == "tensorflow" and "Conv" in name:
        pytest.skip("TensorFlow on a CPU does not convolve it in stock layers either")
    x = inputs_of(name)[:0]
    layer, twice = built(name), name == "MultiHeadAttention"
    outputs = layer(x, x) if twice else layer(x)
    expected = (
        layer.compute_output_shape(x.shape, x.shape)
        if twice
        else (layer.compute_output_shape(x.shape))
    )
    assert tuple(outputs.shape) == tuple(expected) and outputs.shape[0] == 0


@pytest.mark.parametrize(
    ("equation", "shape", "output_shape", "factors"),
    [
        ("ab,b->ab", (2, 6), 6, [(1, 1), (1, 6)]),  # nothing is summed
        ("ab,b->a", (2, 6), (), [(6, 1), (1, 1)]),  # everything is
        ("ab,bc->abc", (2, 6), (6, 3), [(1, 1), (1, 18)]),
    ],
)
def test_einsum_with_a_kernel_without_rows_or_columns(equation, shape, output_shape, factors):
    layer, stock = (
        kind(equation, output_shape) for kind in (FactoredEinsumDense, layers.EinsumDense)
    )
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    stock.build(shape)
    layer.build(shape)
    assert [tuple(factor.shape) for factor in layer.factors] == factors
    layer.set_kernel(numpy(stock.kernel))
    np.testing.assert_allclose(numpy(layer(x)), numpy(stock(x)), atol=1e-5)
    np.testing.assert_allclose(numpy(layer.collapse()(x)), numpy(stock(x)), atol=1e-5)


@pytest.mark.parametrize("name", ["Dense", "Conv2D", "MultiHeadAttention"])
def test_a_layer_is_called_as_its_stock_layer_and_not_as_its_class(name):
    """What `tf.function(layer)` and other wrappers look at."""
    layer = built(name)
    assert inspect.signature(layer) == inspect.signature(layer.__call__)


def test_training_is_taken_as_by_dense():
    layer = built("Dense")
    x = ops.convert_to_tensor(inputs_of("Dense"))
    np.testing.assert_array_equal(numpy(layer.call(x, training=True)), numpy(layer.call(x)))


@pytest.mark.parametrize(
    "options", [{}, {"use_causal_mask": True}, {"return_attention_scores": True}]
)
@pytest.mark.parametrize("arguments", [{}, {"use_gate": True}, {"value_dim": 5, "output_shape": 4}])
def test_attention_is_called_as_the_stock_layer(options, arguments):
    if "use_gate" not in inspect.signature(layers.MultiHeadAttention).parameters:
        arguments = {k: v for k, v in arguments.items() if k != "use_gate"}
    if (
        keras.backend.backend() == "jax"
        and "value_dim" in arguments
        and "return_attention_scores" not in options
    ):
        pytest.skip("Keras 3.15 on JAX cannot attend to values of another size than the keys'")
    layer = FactoredMultiHeadAttention(2, 3, **arguments)
    x = inputs_of("MultiHeadAttention")
    layer.build(x.shape, x.shape)
    plain = layer.collapse()
    found, expected = (keras.tree.flatten(each(x, x, x, **options)) for each in (layer, plain))
    for mine, stock in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(mine), numpy(stock), atol=1e-5)
    symbol = keras.KerasTensor((None, 5, 6))
    spec, wanted = (keras.tree.flatten(each(symbol, symbol, **options)) for each in (layer, plain))
    assert [s.shape for s in spec] == [s.shape for s in wanted]


class Calling(layers.Layer):
    """Uses `call` of the layer that it holds, and not the layer, as `TimeDistributed` does."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner.call(x)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_precision_where_keras_is_calling_another_layer(name):
    """Each factored layer's output has the type of the stock one's, whoever calls it."""

    def found(kind, policy, outer, **arguments):
        inner = kind(*CASES[name][0], dtype=policy, **arguments)
        inner.build(CASES[name][1])
        wrapper = Calling(inner, dtype=outer)
        x = ops.cast(inputs_of(name), wrapper.compute_dtype)
        direct = inner.call(ops.cast(x, inner.variable_dtype))
        return [standard(each.dtype) for each in (wrapper(x), inner(x), direct)]

    standard = keras.backend.standardize_dtype
    for case in (
        ("float32", "mixed_bfloat16"),
        ("mixed_bfloat16", "float32"),
        ("bfloat16", "bfloat16"),
        ("mixed_bfloat16", "mixed_bfloat16"),
    ):
        factored, stock = (found(kind, *case) for kind in classes(name))
        assert factored == stock, case


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_a_kernel_cannot_be_replaced_unnoticed(name):
    with pytest.raises(AttributeError, match="'mine' is a product.*set_kernel"):
        built(name).kernel = np.zeros(3)


def test_a_kernel_that_a_call_asks_for_is_tied_to_the_factors():
    class Tied(layers.Layer):
        def __init__(self, source):
            super().__init__()
            self.source = source

        def call(self, x):
            return ops.matmul(x, self.source.kernel)

    source, inputs = FactoredDense(6), keras.Input((6,))
    model = keras.Model(inputs, Tied(source)(source(inputs)))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, before = inputs_of("Dense"), numpy(source.factors[0])
    model.fit(x, x, verbose=0)
    assert np.abs(numpy(source.factors[0]) - before).max() > 1e-3
    expected = (x @ source.exact_kernel() + numpy(source.bias)) @ source.exact_kernel()
    np.testing.assert_allclose(numpy(model(x)), expected, atol=1e-5)


# What is frozen -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_collapse_keeps_the_kernel_or_the_bias_frozen(name):
    layer = built(name, **({"bias_axes": "c"} if name == "EinsumDense" else {}))
    for factor in layer.factors:
        factor.trainable = False
    assert [v.path.split("/")[-1] for v in layer.collapse().trainable_variables] == ["bias"]
    layer.factors[0].trainable, layer.bias.trainable = True, False
    assert [v.path.split("/")[-1] for v in layer.collapse().trainable_variables] == ["kernel"]


def test_collapse_keeps_projections_frozen():
    layer = built("MultiHeadAttention")
    query, key, value, _ = layer.projections
    query.trainable = False
    key.bias.trainable = False
    for factor in value.factors:
        factor.trainable = False
    flat = layer.collapse()
    assert [inner.trainable for inner in flat._layers[:4]] == [False, True, True, True]
    frozen = [v.path.split("/")[-2:] for v in flat.non_trainable_variables if "seed" not in v.path]
    expected = ["query/kernel", "query/bias", "key/bias", "value/kernel"]
    assert ["/".join(path) for path in frozen] == expected


def test_collapse_keeps_the_weights_of_an_activation_frozen():
    layer = built("Dense", activation=layers.PReLU())
    layer(inputs_of("Dense"))
    layer.activation.alpha.trainable = False
    assert not layer.collapse().activation.alpha.trainable


@pytest.mark.parametrize("name", CASES)
def test_regularizers_without_a_name(name):
    """A `lambda` cannot be made from text, and need not be, there and back."""
    argument = "depthwise_regularizer" if name == "DepthwiseConv2D" else "kernel_regularizer"
    layer = built(name, **{argument: lambda x: ops.sum(x**2)})
    flat = layer.collapse()
    assert len(layer.losses) == len(flat.losses) == (4 if name == "MultiHeadAttention" else 1)
    np.testing.assert_allclose(
        [numpy(loss) for loss in flat.losses], [numpy(loss) for loss in layer.losses], rtol=1e-4
    )
