"""FactorMonitor: what it measures is what is there, and training does not notice it."""

import builtins
import copy
import math
import pickle
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_overparam import EndToEnd, FactoredConv2D, FactoredDense, FactorMonitor, kernels_of
from keras_overparam.callbacks import DESCRIPTIONS, run_names

X = np.random.default_rng(0).standard_normal((64, 6)).astype("float32")
Y = X @ np.random.default_rng(1).standard_normal((6, 3)).astype("float32")


def deep_model(rate=0.01, depth=2, units=3, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), FactoredDense(units, depth=depth, name="deep", **options)]
    )
    model.compile(optimizer or keras.optimizers.SGD(rate), "mse")
    return model


def fit(model, monitor, epochs=2, y=Y, **options):
    model.fit(X, y, batch_size=8, shuffle=False, verbose=0, epochs=epochs, callbacks=[monitor])
    return monitor.history


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def layer_history(history, name="deep"):
    return [found["layers"][name] for found in history]


# What is measured -------------------------------------------------------------------------------


def test_the_first_measurement_is_of_the_start_and_the_last_of_the_end():
    model = deep_model()
    start = model.layers[0].exact_kernel()
    history = fit(model, FactorMonitor(None, update_freq=5))
    assert [found["step"] for found in history] == [0, 5, 10, 15, 16]
    for kernel, found in ((start, history[0]), (model.layers[0].exact_kernel(), history[-1])):
        singular = np.linalg.svd(kernel, compute_uv=False)
        found = found["layers"]["deep"]
        np.testing.assert_allclose(found["singular_values"], singular, rtol=1e-6)
        assert found["norm"] == pytest.approx(np.linalg.norm(kernel))
        assert found["preconditioner/largest"] == pytest.approx(2 * singular[0], rel=1e-6)
        assert found["preconditioner/smallest"] == pytest.approx(singular[-1], rel=1e-6)


def test_quantities_are_described_and_nothing_else_is():
    found = layer_history(fit(deep_model(units=1), FactorMonitor(None, 5), y=Y[:, :1]))[0]
    assert set(found) | {"singular_value"} == set(DESCRIPTIONS)


@pytest.mark.parametrize("depth", [2, 3])
def test_balanced_factors_follow_the_rule_up_to_the_rates_square(depth):
    distances = {}
    for rate in (0.02, 0.01):
        history = fit(deep_model(rate, depth), FactorMonitor(None, 4), epochs=1)
        first = layer_history(history)[0]
        assert first["rule/cosine"] > 0.99
        distances[rate] = first["rule/distance"]
    assert distances[0.02] / distances[0.01] == pytest.approx(2, rel=0.05)


def test_independent_factors_are_seen_not_to_follow_it():
    balanced = layer_history(fit(deep_model(), FactorMonitor(None, 4)))
    independent = layer_history(
        fit(deep_model(factorization="independent"), FactorMonitor(None, 4))
    )
    assert balanced[0]["balancedness_gap"] < 1e-5 < 0.1 < independent[0]["balancedness_gap"]
    assert balanced[0]["rule/distance"] < 0.2 * independent[0]["rule/distance"]


def test_kernels_trained_by_end_to_end_are_shown():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="hidden"), layers.Dense(1, name="head")]
    )
    model.compile(EndToEnd(0.01, depth={"head": 3, "hidden": 2}), "mse")
    history = fit(model, FactorMonitor(None, 4), y=Y[:, :1])
    assert set(history[0]["layers"]) == {"hidden", "head"}
    head = history[0]["layers"]["head"]
    assert head["one_output/adaptive_step"] == pytest.approx(head["norm"] ** (4 / 3))
    assert 0 <= head["one_output/momentum_share"] <= 2 / 3 + 1e-6
    assert "rule/cosine" not in head  # the optimizer is the rule


def test_kernels_of_several_axes_are_shown_as_the_matrices_that_they_are():
    inputs = keras.Input((6, 4))
    x = layers.MultiHeadAttention(2, 3, name="mha")(inputs, inputs)
    x = layers.Conv1D(1, 6, name="conv")(layers.Attention(use_scale=True)([x, x]))
    model = keras.Model(inputs, x)
    model.compile(EndToEnd(0.01, depth=2, kernels=kernels_of(model)), "mse")
    monitor = FactorMonitor(None, 1)
    query, conv = (numpy(model.get_layer(n).weights[0]) for n in ("mha", "conv"))
    model.fit(np.ones((8, 6, 4)), np.ones((8, 1, 1)), verbose=0, callbacks=[monitor])
    found = monitor.history[0]["layers"]
    assert set(found) == {f"mha.{n}" for n in ("query", "key", "value", "attention_output")} | {
        "conv"
    }
    for name, matrix in (("mha.query", query.reshape(4, 6)), ("conv", conv.reshape(24, 1))):
        singular = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(found[name]["singular_values"], singular, rtol=1e-5)
    assert "one_output/adaptive_step" in found["conv"]


@pytest.mark.parametrize("scaled", [False, True])
def test_kernels_of_one_of_several_optimizers_are_shown(scaled):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no optimizer of several")
    keras.utils.set_random_seed(0)
    dense = [layers.Dense(4, name="hidden"), layers.Dense(3, name="head")]
    model = keras.Sequential([keras.Input((6,)), *dense])
    rule = EndToEnd(0.01, depth={"head": 3}, gradient_accumulation_steps=2)
    others = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    several = keras.optimizers.OptimizerMap(others, {".*head/.*": rule})
    several = keras.optimizers.MultiOptimizer(several)
    model.compile(keras.optimizers.LossScaleOptimizer(several, 8.0) if scaled else several, "mse")
    history = fit(model, FactorMonitor(None, 1), epochs=1)
    assert [found["step"] for found in history] == [0, 1, 2, 3, 4]
    assert all(set(found["layers"]) == {"head"} for found in history)
    largest = [found["preconditioner/largest"] for found in layer_history(history, "head")]
    assert len(set(largest)) == 5


def test_nested_layers_convolutions_and_attention_have_names_of_their_own():
    inner = keras.Sequential([keras.Input((4, 4, 2)), FactoredConv2D(3, 2, name="conv")], name="in")
    inputs = keras.Input((4, 4, 2))
    outputs = FactoredDense(3, name="deep")(layers.Flatten()(inner(inputs)))
    model = keras.Model(inputs, outputs, name="outer")
    model.compile("sgd", "mse")
    images = np.ones((8, 4, 4, 2), "float32")
    monitors = [FactorMonitor(None), FactorMonitor(None, layers="conv")]
    model.fit(images, np.ones((8, 3)), verbose=0, callbacks=monitors)
    assert set(monitors[0].history[0]["layers"]) == {"in.conv", "deep"}
    assert set(monitors[1].history[0]["layers"]) == {"in.conv"}


class Alike(keras.Model):
    """Its layers have one name."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.hidden = [layer(6, name="hidden") for _ in range(3)]
        self.other = layer(6, name="hidden_1")
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        for layer in (*self.hidden, self.other):
            x = layer(x)
        return self.head(x)


@pytest.mark.parametrize("layer", [FactoredDense, layers.Dense])
def test_layers_of_the_same_name_are_all_shown(layer):
    model = Alike(layer)
    model(X)
    model.compile("sgd" if layer is FactoredDense else EndToEnd(0.01, exclude=["head"]), "mse")
    kernels = [np.array(ops.convert_to_numpy(one.kernel)) for one in (*model.hidden, model.other)]
    monitors = [FactorMonitor(None), FactorMonitor(None, layers="hidden$")]
    model.fit(X, Y, verbose=0, callbacks=monitors)
    found, chosen = (monitor.history[0]["layers"] for monitor in monitors)
    names = ["hidden", "hidden_2", "hidden_3", "hidden_1"]
    assert set(found) == set(names) and set(chosen) == set(names[:3])
    for name, kernel in zip(names, kernels, strict=True):
        assert found[name]["norm"] == pytest.approx(np.linalg.norm(kernel), rel=1e-5)


def test_what_was_measured_is_printed_without_its_arrays():
    monitor = FactorMonitor(None, 5)
    first, *_, last = fit(deep_model(), monitor)
    deep = first["layers"]["deep"]
    largest, smallest = deep["singular_values"][0], deep["singular_values"][-1]
    text = f"'singular_values': <3 numbers, {largest:.4g} to {smallest:.4g}>"
    assert text in repr(deep) and text in repr(first) and text in str(monitor.history)
    assert f"'norm': {deep['norm']:.4g}" in repr(deep)
    lines = monitor.summary().splitlines()
    assert [line.split()[0] for line in lines] == ["step", "0", "5", "10", "15", "16"]
    assert len({len(line) for line in lines}) == 1
    names = ("norm", "effective_rank", "balancedness_gap", "rule/cosine")
    norm, rank, gap, cosine = (f"{deep[name]:.4g}" for name in names)
    assert lines[1].split() == ["0", "deep", norm, rank, f"{largest:.4g}", gap, cosine]
    assert lines[-1].split()[-1] == "-"  # the last step was not followed by another
    assert "rule/cosine" not in last["layers"]["deep"]


def test_what_was_measured_can_be_copied_and_saved():
    history = fit(deep_model(), FactorMonitor(None, 5))
    for again in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert repr(again) == repr(history)


def test_a_summary_of_nothing_has_the_columns_names():
    assert FactorMonitor(None).summary().split() == ["step", "layer"]


# When -------------------------------------------------------------------------------------------


def test_once_an_epoch():
    history = fit(deep_model(), FactorMonitor(None, "epoch"), epochs=3)
    assert [found["step"] for found in history] == [0, 8, 16, 24]


def test_steps_count_on_through_several_fits_and_after_a_restart():
    model, monitor = deep_model(), FactorMonitor(None, 5)
    for _ in range(2):
        fit(model, monitor, epochs=1)
    assert [found["step"] for found in monitor.history] == [0, 5, 8, 10, 15, 16]
    history = fit(model, FactorMonitor(None, 5), epochs=1)
    assert [found["step"] for found in history] == [20, 24]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has none there")
@pytest.mark.parametrize(
    ("batches", "steps", "updates"),
    [(8, [0, 8, 12, 16], [4, 4, 4, 0]), (10, [0, 8, 14, 18, 20], [4, 2, 4, 2, 0])],
)
def test_several_steps_in_one_execution(batches, steps, updates):
    """The last execution of an epoch may be of fewer, of which Keras does not tell."""
    model = deep_model()
    model.compile(keras.optimizers.SGD(0.01), "mse", steps_per_execution=4)
    x, y = np.resize(X, (8 * batches, 6)), np.resize(Y, (8 * batches, 3))
    monitor = FactorMonitor(None, 6)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0, epochs=2, callbacks=[monitor])
    assert [found["step"] for found in monitor.history] == steps
    assert [found["updates"] for found in monitor.history] == updates
    assert model.optimizer.iterations == 2 * batches
    for found in layer_history(monitor.history)[:-1]:
        assert found["rule/cosine"] > 0.99


@pytest.mark.parametrize("update_freq", [1, 3, "epoch"])
def test_accumulated_gradients_are_one_step(update_freq):
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=3)
    history = fit(deep_model(optimizer=optimizer), FactorMonitor(None, update_freq), epochs=3)
    steps = {1: [*range(9)], 3: [0, 3, 6, 8], "epoch": [0, 2, 5, 8]}[update_freq]
    assert [found["step"] for found in history] == steps
    assert [found["updates"] for found in history] == [1] * (len(steps) - 1) + [0]
    for found in layer_history(history)[:-1]:
        assert found["rule/cosine"] > 0.99
    # What was measured is what an optimizer of whole batches does.
    model, monitor = deep_model(), FactorMonitor(None, update_freq)
    model.fit(X, Y, batch_size=24, shuffle=False, verbose=0, callbacks=[monitor])
    whole = layer_history(monitor.history)[0]
    np.testing.assert_allclose(layer_history(history)[0]["norm"], whole["norm"], rtol=1e-6)


def test_steps_that_a_loss_scale_skips_are_none():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-4), 2.0**127)
    model = deep_model(optimizer=optimizer)
    history = fit(model, FactorMonitor(None, 1), epochs=2, y=100 * Y)
    taken = int(optimizer.inner_optimizer.iterations)
    assert 0 < taken < 16
    assert [found["step"] for found in history] == [*range(taken + 1)]
    for found in layer_history(history)[:-1]:
        assert found["rule/cosine"] > 0.99


@pytest.mark.parametrize("first", ["monitor", "backup"])
def test_a_training_that_is_resumed_goes_on_with_its_curves(tmp_path, first):
    """Whichever of the two callbacks comes first."""

    def callbacks(monitor):
        backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
        return [monitor, backup] if first == "monitor" else [backup, monitor]

    histories = []
    for epochs in (2, 4):
        monitor = FactorMonitor(None, 3)
        deep_model().fit(*(X, Y), 8, epochs, verbose=0, shuffle=False, callbacks=callbacks(monitor))
        histories += monitor.history
    through = fit(deep_model(), FactorMonitor(None, 3), epochs=4)
    assert [found["step"] for found in histories] == [
        0,
        3,
        6,
        9,
        12,
        15,
        16,
        18,
        21,
        24,
        27,
        30,
        32,
    ]
    resumed = {found["step"]: found["layers"]["deep"] for found in histories}
    for found in through:
        assert resumed[found["step"]]["norm"] == found["layers"]["deep"]["norm"]


def test_an_epochs_metrics_are_at_the_step_where_it_ended(tmp_path):
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=4)
    fit(deep_model(optimizer=optimizer), FactorMonitor(tmp_path, hparams={"rate": 0.01}), epochs=3)
    assert [event.step for event in read(tmp_path).Tensors("metrics/loss")] == [2, 4, 6]


def test_callbacks_may_be_called_by_ones_own_loop():
    model = deep_model()
    monitor = FactorMonitor(None, 2)
    callbacks = keras.callbacks.CallbackList([monitor], model=model)
    callbacks.on_train_begin()
    for batch in range(5):
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch, model.train_on_batch(X, Y, return_dict=True))
    callbacks.on_train_end()
    assert [found["step"] for found in monitor.history] == [0, 2, 4, 5]
    assert [found["updates"] for found in monitor.history] == [1, 1, 1, 0]


def test_a_kernel_that_does_not_move_is_not_compared_with_the_rule():
    first = layer_history(fit(deep_model(rate=0.0, units=1), FactorMonitor(None), y=Y[:, :1]))[0]
    assert "norm" in first
    assert not {"rule/cosine", "rule/distance", "one_output/momentum_share"} & set(first)


# Training does not notice -----------------------------------------------------------------------


def test_the_weights_are_the_same_without_it(tmp_path):
    weights = []
    for callbacks in ([], [FactorMonitor(tmp_path, 1)]):
        model = deep_model()
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, epochs=2, callbacks=callbacks)
        weights.append(model.get_weights())
    for with_it, without in zip(*weights, strict=True):
        np.testing.assert_array_equal(with_it, without)


def test_a_training_that_diverges_goes_on(tmp_path):
    history = fit(deep_model(rate=1e6), FactorMonitor(tmp_path, 1), epochs=3)
    assert len(history) == 25
    assert history[-1]["layers"] == {}
    assert math.isfinite(history[0]["layers"]["deep"]["norm"])


def test_a_full_disk_is_warned_of_once(tmp_path, monkeypatch):
    from tensorboard.summary.writer.record_writer import RecordWriter

    write, calls = RecordWriter.write, []

    def until_full(writer, data):
        calls.append(data)
        if len(calls) == 20:
            raise OSError(28, "No space left on device")
        write(writer, data)

    monkeypatch.setattr(RecordWriter, "write", until_full)
    with pytest.warns(UserWarning, match=r"No space left on device.*training goes on") as caught:
        history = fit(deep_model(), FactorMonitor(tmp_path, 2))
    assert sum("training goes on" in str(one.message) for one in caught) == 1
    assert len(history) == 9
    assert len(calls) == 20  # nothing after the failure, which would leave a gap


def test_a_folder_that_cannot_be_written_is_warned_of(tmp_path):
    (tmp_path / "factors").write_text("a file is in the way")
    with pytest.warns(UserWarning, match="cannot be written"):
        history = fit(deep_model(), FactorMonitor(tmp_path, 5))
    assert len(history) == 5


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{"update_freq": 0}, {"update_freq": "x"}, {"largest": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="must be a positive integer"):
        FactorMonitor(None, **arguments)


def test_a_model_with_nothing_to_show():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="the model has none"):
        fit(model, FactorMonitor(None))
    with pytest.raises(ValueError, match=r"the model has deep\. Received: layers='other'"):
        fit(deep_model(), FactorMonitor(None, layers="other"))


def test_a_model_that_is_not_built():
    model = keras.Sequential([FactoredDense(3)], name="later")
    model.compile("sgd", "mse")
    monitor = FactorMonitor(None)
    monitor.set_model(model)
    with pytest.raises(ValueError, match="The kernels of 'later' are known once it is built"):
        monitor.on_train_begin()


@pytest.mark.filterwarnings("ignore:`build:UserWarning")  # of Keras, which goes on
@pytest.mark.parametrize("layer", [FactoredDense, layers.Dense])
def test_a_model_that_keras_calls_built_and_whose_layers_are_not(layer):
    model = Alike(layer, name="later")
    model.build((None, 6))
    model.compile(EndToEnd(0.01), "mse")
    monitor = FactorMonitor(None)
    monitor.set_model(model)
    for asks in (lambda: kernels_of(model), monitor.on_train_begin):
        with pytest.raises(ValueError, match="The kernels of 'later' are known once it is built"):
            asks()
    model(X)
    monitor.on_train_begin()
    assert kernels_of(model)


def test_without_tensorboard_it_says_what_to_do(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        fit(deep_model(), FactorMonitor(tmp_path))
    assert fit(deep_model(), FactorMonitor(None))


# What TensorBoard reads -------------------------------------------------------------------------


def read(folder, layer=""):
    """The monitor's run, or the run of one of its layers."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "factors" / layer))
    events.Reload()
    return events


def layout_of(events):
    """The dashboard's charts, as `FactorMonitor` describes them."""
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    return {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in Layout.FromString(content).category
    }


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    monitor = FactorMonitor(folder, 5, largest=2, hparams={"rate": 0.01, "start": "balanced"})
    return folder, fit(deep_model(), monitor)


def test_every_quantity_is_a_described_chart(logged):
    folder, history = logged
    events = read(folder, "deep")
    tags = set(events.Tags()["tensors"])
    numbers = {f"weights/{name}" for name in history[0]["layers"]["deep"]}
    assert tags == numbers | {"weights/singular_value/1", "weights/singular_value/2"}
    for tag in tags:
        assert events.SummaryMetadata(tag).summary_description
    steps = [event.step for event in events.Tensors("weights/norm")]
    assert steps == [found["step"] for found in history]
    (first, *_) = events.Tensors("weights/norm")
    assert first.tensor_proto.float_val[0] == pytest.approx(history[0]["layers"]["deep"]["norm"])


def test_charts_texts_and_hyperparameters_are_there(logged):
    from tensorboard.plugins.hparams import metadata

    events = read(logged[0])
    assert list(layout_of(events)) == [
        "Training",
        "End-to-end rule",
        "Preconditioner",
        "Spectrum of the products",
    ]
    (text,) = events.Tensors("about")[0].tensor_proto.string_val
    assert "| deep | FactoredDense | 2 | 6×3 · 3×3 |" in text.decode()
    assert "a point every 5 updates" in text.decode()
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    hparams = metadata.parse_session_start_info_plugin_data(content).hparams
    assert hparams["rate"].number_value == 0.01
    assert hparams["start"].string_value == "balanced"
    assert len(events.Tensors("metrics/loss")) == 2


def tensorboards(folder):
    """What TensorBoard's own process knows of a folder of logs."""
    from tensorboard import context
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer

    logs = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    return data_provider.MultiplexerDataProvider(logs, str(folder)), context.RequestContext()


def test_layers_are_runs_and_have_a_colour_each_in_the_charts_that_they_share(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), FactoredDense(4, name="hidden"), FactoredDense(3, name="head")]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    fit(model, FactorMonitor(tmp_path, 5))
    provider, request = tensorboards(tmp_path)
    found = provider.list_scalars(request, experiment_id="", plugin_name="scalars")
    assert set(found) == {"factors/hidden", "factors/head"}
    assert set(found["factors/hidden"]) - set(found["factors/head"]) == {"weights/singular_value/4"}


def test_names_that_no_folder_can_have_or_that_some_systems_take_for_one():
    runs = {
        "..": "layer",
        "Deep": "Deep",
        "deep": "deep_1",
        "a:b": "a_b",
        "a*b": "a_b_1",
        "aux": "aux_",
        "aux.deep": "aux_.deep",
        "auxiliary": "auxiliary",
        "n" * 300: "n" * 100,
        "слой": "____",
    }
    assert run_names(list(runs)) == runs


def test_layers_whose_names_differ_in_case_only_have_files_of_their_own(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), FactoredDense(4, name="Deep"), FactoredDense(3, name="deep")]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    history = fit(model, FactorMonitor(tmp_path))
    assert list(history[0]["layers"]) == ["Deep", "deep"]
    for name, folder in (("Deep", "Deep"), ("deep", "deep_1")):
        (first, _) = read(tmp_path, folder).Tensors("weights/norm")
        norm = history[0]["layers"][name]["norm"]
        assert first.tensor_proto.float_val[0] == pytest.approx(norm)


def test_hyperparameters_that_differ_between_runs_are_first(tmp_path):
    from tensorboard.plugins.hparams import backend_context

    for rate in (0.01, 0.02):
        hparams = {"a": 1, "b": "same", "rate": rate}
        fit(deep_model(rate), FactorMonitor(tmp_path / str(rate), hparams=hparams), epochs=1)
    provider, request = tensorboards(tmp_path)
    known = backend_context.Context(SimpleNamespace(data_provider=provider, logdir="", flags=None))
    contents = known.hparams_metadata(request, "")
    found = known.experiment_from_metadata(request, "", True, contents, [])
    assert [(one.name, one.differs) for one in found.hparam_infos] == [
        ("rate", True),
        ("a", False),
        ("b", False),
    ]
    assert found.metric_infos[0].name.tag == "metrics/loss"


@pytest.mark.parametrize("units", [3, 1])
@pytest.mark.parametrize("factored", [True, False])
def test_every_chart_of_the_layout_finds_tags(tmp_path, units, factored):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 10, 0.9)
    if factored:
        model = deep_model(units=units, optimizer=keras.optimizers.SGD(schedule))
    else:
        model = keras.Sequential([keras.Input((6,)), layers.Dense(units, name="dense")])
        model.compile(EndToEnd(schedule), "mse")
    fit(model, FactorMonitor(tmp_path, 5), y=Y[:, :units])
    events = read(tmp_path)
    layout = layout_of(events)
    assert ("Layers of one output" in layout) == (units == 1)
    assert ("End-to-end rule" in layout) == factored
    tags = read(tmp_path, "deep" if factored else "dense").Tags()["tensors"]
    for charts in layout.values():
        for patterns in charts.values():
            for pattern in patterns:
                assert any(re.match(pattern, tag) for tag in tags), pattern
    (text,) = events.Tensors("about")[0].tensor_proto.string_val
    assert "| learning_rate | ExponentialDecay(initial_learning_rate=0.01," in text.decode()


@pytest.mark.parametrize("first", ["monitor", "backup"])
def test_tensorboard_shows_a_resumed_training_once(tmp_path, first):
    """A training that is killed after its last backup leaves points that the next one replaces."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import plugin_event_accumulator

    def fit_with(*others):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "kept", delete_checkpoint=False)
        ours = FactorMonitor(tmp_path, 3)
        pair = [ours, backup] if first == "monitor" else [backup, ours]
        deep_model().fit(X, Y, 8, 4, verbose=0, shuffle=False, callbacks=[*pair, *others])

    def killed(batch, logs):
        if steps_taken.pop() == 22:
            raise KeyboardInterrupt

    steps_taken = list(range(32, 0, -1))
    with pytest.raises(KeyboardInterrupt):
        fit_with(keras.callbacks.LambdaCallback(on_train_batch_end=killed))
    fit_with()
    about, deep = (
        plugin_event_accumulator.EventAccumulator(str(tmp_path / folder)).Reload()
        for folder in ("factors", "factors/deep")
    )
    steps = [event.step for event in deep.Tensors("weights/norm")]
    assert steps == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 32]
    assert [event.step for event in about.Tensors("about")] == [0, 0]


class Adversarial(keras.Model):
    """Trained by an optimizer that `compile` does not know."""

    def __init__(self, holds=True, **kwargs):
        super().__init__(**kwargs)
        self.generator = FactoredDense(3, name="generator")
        self.holds = holds

    def build(self, shape):
        self.generator.build(shape)
        mine = keras.optimizers.SGD(0.01)
        mine.build(self.trainable_variables)
        self.optimizers = [mine]
        if self.holds:
            self.mine = mine

    def call(self, x):
        return self.generator(x)

    def train_on_batch(self, x, y=None, **kwargs):
        variables = self.trainable_variables
        self.optimizers[0].apply([ops.ones(v.shape) for v in variables], variables)


def trained_by_hand(model, monitor):
    """What `fit` does with callbacks, on any backend."""
    callbacks = keras.callbacks.CallbackList([monitor], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(4):
        callbacks.on_train_batch_begin(batch)
        model.train_on_batch(None)
        callbacks.on_train_batch_end(batch)
    callbacks.on_epoch_end(0, {})
    callbacks.on_train_end()


def test_an_optimizer_that_the_model_holds_is_counted():
    model = Adversarial()
    model.build((None, 4))
    model.compile()
    monitor = FactorMonitor(None, 1)
    trained_by_hand(model, monitor)
    assert [found["step"] for found in monitor.history] == [0, 1, 2, 3, 4]


def test_an_optimizer_that_is_not_found_is_said():
    model = Adversarial(holds=False)
    model.build((None, 4))
    model.compile()
    monitor = FactorMonitor(None, 1)
    with pytest.warns(UserWarning, match="There were none, and yet the kernels changed"):
        trained_by_hand(model, monitor)
    assert monitor.history == []
