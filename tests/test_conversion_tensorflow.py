"""Conversion of well-known models, and what a collapsed model is good for: shipping it."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversion import difference, lively

from keras_overparam import FactoredConv2D, collapse, overparameterize

# Of the model `flat`, of which no output is a sum of more products, in whatever order.
ROUNDING = 128 * np.finfo("float32").eps


def images(count, size):
    return np.random.default_rng(1).normal(size=(count, size, size, 3)).astype("float32")


def application(make, size):
    keras.utils.set_random_seed(0)
    return lively(
        make(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)
    )


@pytest.mark.parametrize(
    ("name", "layers", "rate", "steps"),
    [
        ("MobileNet", None, 1e-3, 5),
        *(  # which take a minute and more
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("MobileNetV2", None, 1e-4, 20), ("ResNet50", None, 1e-5, 5))
        ),
    ],
)
def test_applications_there_trained_and_back(name, layers, rate, steps):
    model, x = application(getattr(keras.applications, name), 32), images(4, 32)
    expected = model.predict(x, verbose=0)
    deep = overparameterize(model, layers=layers)
    assert difference(deep.predict(x, verbose=0), expected) < 1e-5
    assert difference(collapse(deep).predict(x, verbose=0), expected) < 1e-5
    deep.compile(keras.optimizers.SGD(rate), loss=keras.losses.MeanSquaredError())
    deep.fit(x, np.eye(10)[:4], batch_size=4, epochs=steps, verbose=0)
    trained = deep.predict(x, verbose=0)
    flat = collapse(deep)
    assert difference(trained, expected) > 1e-4
    assert difference(flat.predict(x, verbose=0), trained) < 1e-5
    assert flat.count_params() == model.count_params()
    assert [w.path for w in flat.weights] == [w.path for w in model.weights]


@pytest.fixture
def flat():
    """A small collapsed model and an input."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.DepthwiseConv2D(3),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu", name="body"),
            keras.layers.Dense(4, name="head"),
        ]
    )
    return collapse(overparameterize(model, 3)), images(5, 8)


def test_a_collapsed_model_loads_where_the_package_is_not(flat, tmp_path):
    model, x = flat
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = """
import sys
sys.modules["keras_overparam"] = None  # an import of it fails
import keras, numpy as np
model = keras.models.load_model("model.keras")
np.save("y.npy", model.predict(np.load("x.npy"), verbose=0))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert difference(np.load(tmp_path / "y.npy"), model(x)) < ROUNDING


def test_a_collapsed_model_is_exported(flat, tmp_path):
    model, x = flat
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    assert difference(served.serve(x), model(x)) < ROUNDING


@pytest.mark.filterwarnings("ignore:.*np.object:FutureWarning")  # Keras's look at NumPy
def test_a_collapsed_model_runs_in_onnx(flat, tmp_path):
    import onnxruntime

    model, x = flat
    expected = np.asarray(model(x))  # Keras exports models that were called
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: x})
    assert difference(outputs, expected) < ROUNDING


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_a_collapsed_model_is_quantized(flat):
    model, x = flat
    expected = np.asarray(model(x))
    model.quantize("int8")
    assert model.get_layer("body").quantization_mode == "int8"
    assert difference(model(x), expected) < 0.1


def test_a_collapsed_model_takes_lora(flat):
    model, x = flat
    expected = np.asarray(model(x))
    model.get_layer("body").enable_lora(2)
    assert difference(model(x), expected) < ROUNDING
    model.get_layer("body").lora_kernel_b.assign(np.ones((2, 16)))
    assert difference(model(x), expected) > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"optimizer": keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)},
    ],
)
def test_an_overparameterized_model_trains_compiled_and_with_accumulation(arguments):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    deep = overparameterize(model)
    deep.compile(**{"optimizer": "sgd", "loss": "mse"} | arguments)
    losses = deep.fit(images(16, 8), np.ones((16, 2)), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert difference(collapse(deep)(images(2, 8)), deep(images(2, 8))) < 1e-5


def test_channels_first():
    layer = FactoredConv2D(4, 3, data_format="channels_first", padding="same")
    x = images(2, 8).transpose(0, 3, 1, 2)
    layer.build(x.shape)
    # Compiled: TensorFlow's own kernels want channels last on some CPUs.
    outputs = [tf.function(one, jit_compile=True)(x) for one in (layer, layer.collapse())]
    assert outputs[0].shape == (2, 4, 8, 8)
    assert difference(*outputs) < 1e-5


def test_mixed_precision_is_kept():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(8, dtype="mixed_bfloat16"),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    deep = overparameterize(model)
    assert [layer.compute_dtype for layer in deep.layers] == ["bfloat16", "float32"]
    assert [layer.compute_dtype for layer in collapse(deep).layers] == ["bfloat16", "float32"]


def test_the_summary_reads_well():
    lines = []
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="head")])
    overparameterize(model).summary(print_fn=lambda text, **_: lines.append(text))
    assert "head (FactoredDense)" in "\n".join(lines)
