"""The tutorial network is the one of the paper: sizes, start, objective, schedule, batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments.mnist import tutorial_cnn
from experiments.mnist.settings import Settings
from experiments.mnist.tutorial_cnn import build_network
from keras_overparam import collapse

IMAGES = np.random.default_rng(0).integers(0, 256, size=(300, 28, 28, 1), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 10, size=300).astype(np.int32)


@pytest.fixture(scope="module")
def networks():
    return {depth: build_network(Settings(depth=depth, seed=3)) for depth in (1, 2)}


def test_parameters_are_those_of_the_paper(networks):
    original, overparameterized = networks[1].count_params(), networks[2].count_params()
    assert (original, overparameterized) == (1_663_370, 1_925_614)
    assert round(100 * (overparameterized / original - 1), 1) == 15.8


def test_each_dense_matrix_becomes_two_in_succession(networks):
    shapes = [
        [tuple(f.shape) for f in networks[2].get_layer(n).factors] for n in ("dense1", "logits")
    ]
    assert shapes == [[(3136, 512), (512, 512)], [(512, 10), (10, 10)]]


def test_start(networks):
    for network in networks.values():
        for weight in network.weights:
            values = weight.numpy()
            if "bias" in weight.path:
                assert np.all(values == np.float32(0.0 if "conv1" in weight.path else 0.1))
            elif values.size > 1000:
                assert np.abs(values).max() <= 0.2  # truncated at two standard deviations
                assert values.std() == pytest.approx(0.088, rel=0.05)  # 0.1, truncated
                assert abs(values.mean()) < 0.01


def test_networks_of_one_seed_share_what_they_can(networks):
    original, overparameterized = networks[1], networks[2]
    for name in ("conv1", "conv2"):
        for a, b in zip(
            original.get_layer(name).get_weights(),
            overparameterized.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        original.get_layer("dense1").kernel.numpy(),
        overparameterized.get_layer("dense1").factors[0].numpy(),
    )
    other = build_network(Settings(seed=4))
    assert not np.allclose(other.get_weights()[0], original.get_weights()[0])


@pytest.mark.parametrize(("depth", "regularize"), [(1, "product"), (2, "product"), (2, "factors")])
def test_objective_is_cross_entropy_plus_half_l2_of_dense_weights_and_biases(depth, regularize):
    network = build_network(Settings(depth=depth, regularize=regularize))
    x = tutorial_cnn.scale(IMAGES[:64])
    logits = network(x, training=False)
    total = float(network.compute_loss(x=x, y=LABELS[:64], y_pred=logits, training=False))
    matrices = []
    for name in ("dense1", "logits"):
        layer = network.get_layer(name)
        factored = depth > 1 and regularize == "factors"
        matrices += [layer.bias, *(layer.factors if factored else [layer.kernel])]
    l2 = 5e-4 * sum(0.5 * np.sum(np.asarray(m, "float64") ** 2) for m in map(np.array, matrices))
    log_probabilities = np.asarray(tf.nn.log_softmax(logits), "float64")
    cross_entropy = -log_probabilities[np.arange(64), LABELS[:64]].mean()
    assert float(network.l2.result()) == pytest.approx(l2, rel=1e-5)
    assert float(network.cross_entropy.result()) == pytest.approx(cross_entropy, rel=1e-5)
    assert total == pytest.approx(l2 + cross_entropy, rel=1e-5)


def test_without_regularization_the_objective_is_the_cross_entropy():
    network = build_network(Settings(depth=2, regularize="none"))
    assert network.losses == []


def test_learning_rate_falls_by_five_percent_per_pass_counted_in_examples():
    network = build_network(Settings())
    tutorial_cnn.compile_network(network, Settings(), train_size=55_000)
    optimizer = network.optimizer
    for step in (0, 858, 859, 860, 1718, 1719, 6874, 6875, 8592):
        optimizer.iterations.assign(step)
        expected = 0.01 * 0.95 ** (step * 64 // 55_000)
        assert float(optimizer.learning_rate) == pytest.approx(expected, rel=1e-6)
    assert optimizer.momentum == 0.9


def test_ten_epochs_take_the_tutorials_number_of_steps():
    ends = tutorial_cnn.epoch_ends(Settings(epochs=10), 55_000)
    assert ends[-1] == 10 * 55_000 // 64 == 8593
    assert tutorial_cnn.epoch_ends(Settings(epochs=2), 55_000) == ends[:2]


def test_batches_come_in_file_order_and_wrap_like_the_tutorials():
    taken = list(tutorial_cnn.batches(IMAGES, LABELS, 2, 7))
    assert len(taken) == 5
    for step, (x, y) in enumerate(taken, start=2):
        offset = (step * 64) % (300 - 64)
        expected = (IMAGES[offset : offset + 64].astype("float32") - 127.5) / 255
        np.testing.assert_allclose(x, expected, atol=1e-7)
        np.testing.assert_array_equal(y, LABELS[offset : offset + 64])


def test_no_thread_of_tf_data_can_hold_up_the_end_of_an_epoch():
    assert tutorial_cnn.batches(IMAGES, LABELS, 0, 2).options().autotune.enabled is False


def test_pixels_are_scaled_to_plus_minus_one_half():
    np.testing.assert_allclose(tutorial_cnn.scale(np.array([0, 255], np.uint8)), [-0.5, 0.5])


def test_collapsed_network_is_plain_keras_and_the_same_function(networks):
    network = networks[2]
    single = collapse(tutorial_cnn.plain(network))
    assert single.count_params() == 1_663_370
    assert [layer.name for layer in single.layers] == [layer.name for layer in network.layers]
    assert all(type(layer).__module__.startswith("keras.") for layer in single.layers)
    np.testing.assert_allclose(
        tutorial_cnn.logits(single, IMAGES),
        tutorial_cnn.logits(network, IMAGES),
        rtol=1e-4,
        atol=1e-4,
    )


def test_run_names_differ_when_settings_do_and_forget_what_means_nothing():
    assert Settings(seed=1).run_name != Settings(seed=2).run_name
    assert Settings(learning_rate=0.02).run_name != Settings().run_name
    assert Settings(regularize="factors", width=7).run_name == Settings().run_name
    assert Settings(depth=2, regularize="factors").run_name != Settings(depth=2).run_name


@pytest.mark.parametrize(("jit", "compiled"), [("on", True), ("off", False)])
def test_jit_is_what_was_asked_for(jit, compiled):
    settings = Settings(depth=2, jit=jit)
    network = build_network(settings)
    tutorial_cnn.compile_network(network, settings, 270)
    assert network.jit_compile is compiled
    history = network.fit(tutorial_cnn.batches(IMAGES, LABELS, 0, 2), verbose=0, shuffle=False)
    assert np.isfinite(history.history["loss"][0])


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision(precision):
    settings = Settings(depth=2, mixed_precision=precision)
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        network = build_network(settings)
        tutorial_cnn.compile_network(network, settings, 270)
        data = tutorial_cnn.batches(IMAGES, LABELS, 0, 1)
        history = network.fit(data, verbose=0, shuffle=False).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.get_layer("dense1").compute_dtype == precision
    assert network.output.dtype == "float32"
    assert np.isfinite(history["loss"][0])
    assert network.optimizer.name.lower().startswith(
        "loss_scale" if precision == "float16" else "sgd"
    )
