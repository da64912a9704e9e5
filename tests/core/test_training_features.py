"""What Keras offers around a training, with factored layers and with the rule in its place."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_overparam import EndToEnd, FactoredDense

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = (X @ RNG.normal(size=(6, 3)) + 0.1).astype("float32")
START = (0.5 * RNG.normal(size=(6, 3))).astype("float32")
SEVERAL = hasattr(keras.optimizers, "MultiOptimizer")
ON_ALL = [
    ({"policy": "mixed_float16"}, "mixed_float16"),
    ({"around": keras.optimizers.LossScaleOptimizer}, "loss scale"),
    ({"optimizer": {"gradient_accumulation_steps": 2}}, "accumulated gradients"),
    (
        {"optimizer": {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2}},
        "averages",
    ),
    ({"optimizer": {"use_ema": True, "ema_momentum": 0.5}}, "averages at the end"),
    ({"optimizer": {"momentum": 0.5, "nesterov": True}}, "momentum"),
    ({"compile": {"run_eagerly": True}}, "run eagerly"),
    ({"compile": {"jit_compile": False}}, "not compiled"),
    ({"fit": {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}}, "class weights"),
    ({"fit": {"sample_weight": np.linspace(0, 2, 64)}}, "sample weights"),
]
NOT_ON_TORCH = [
    ({"compile": {"jit_compile": True}}, "compiled"),
    ({"compile": {"steps_per_execution": 3}}, "several steps in one execution"),
]
FEATURES = ON_ALL + (NOT_ON_TORCH if BACKEND != "torch" else [])


def several(optimizer):
    """An optimizer that has the kernels' one, and another for the biases."""
    if not SEVERAL:
        pytest.skip("this Keras has no optimizer of several")
    others = keras.optimizers.SGD(0.002)
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(others, {r".*(kernel|factor_\d)": optimizer})
    )


def numpy(tensor):
    return np.array(ops.convert_to_numpy(tensor))


def model_of(kind, rate=0.002, around=None, optimizer=(), compile=(), depth=2, units=3):
    """A layer of the same start: factored, trained by the rule in its place, or plain."""
    layer = FactoredDense(units, depth=depth) if kind == "factored" else keras.layers.Dense(units)
    model = keras.Sequential([keras.Input((6,)), layer])
    if kind == "factored":
        layer.set_kernel(START[:, :units])
    else:
        layer.kernel.assign(START[:, :units])
    options = dict(optimizer) | ({"depth": depth} if kind == "rule" else {})
    made = (EndToEnd if kind == "rule" else keras.optimizers.SGD)(rate, **options)
    model.compile(around(made) if around else made, "mse", **dict(compile))
    return model


def fit(model, epochs=4, callbacks=(), **options):
    return model.fit(
        *(X, Y, 8, epochs), shuffle=False, verbose=0, callbacks=list(callbacks), **options
    )


def kernel_of(model):
    return numpy(model.layers[-1].kernel).astype("float32")


def distance(one, other):
    """How far two kernels are apart, relative to how far the other one moved."""
    return np.linalg.norm(one - other) / np.linalg.norm(other - START)


@pytest.mark.parametrize("feature", [f for f, _ in FEATURES], ids=[name for _, name in FEATURES])
def test_factors_stay_with_the_rule(feature):
    around = {k: v for k, v in feature.items() if k in ("around", "optimizer", "compile")}
    keras.config.set_dtype_policy(feature.get("policy", "float32"))
    try:
        models = [model_of(kind, **around) for kind in ("factored", "rule")]
        for model in models:
            fit(model, **feature.get("fit", {}))
    finally:
        keras.config.set_dtype_policy("float32")
    factored, rule = map(kernel_of, models)
    assert np.linalg.norm(rule - START) > 0.1
    assert distance(factored, rule) < 0.02


@pytest.mark.parametrize(
    "feature",
    [{"policy": "mixed_float16"}, {"around": keras.optimizers.LossScaleOptimizer}],
    ids=["mixed_float16", "loss scale"],
)
def test_depth_one_stays_with_sgd(feature):
    keras.config.set_dtype_policy(feature.get("policy", "float32"))
    try:
        models = [
            model_of(kind, around=feature.get("around"), depth=1) for kind in ("rule", "plain")
        ]
        for model in models:
            fit(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert distance(*map(kernel_of, models)) < 1e-4


@pytest.mark.parametrize("kind", ["factored", "rule"])
def test_an_optimizer_for_each_part(kind, tmp_path):
    model = model_of(kind, around=several)
    fit(model)
    assert distance(kernel_of(model), kernel_of(trained(kind))) < 1e-4
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        fit(one, epochs=2)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def trained(kind, **options):
    model = model_of(kind)
    fit(model, **options)
    return model


# Callbacks --------------------------------------------------------------------------------------


class Interrupt(keras.callbacks.Callback):
    """Ends a training as a crash would, in the middle of its third epoch."""

    def on_train_batch_end(self, batch, logs=None):
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 20:
            raise KeyboardInterrupt


class Scores(keras.callbacks.Callback):
    """Gives each epoch a score, and keeps the weights after it."""

    def __init__(self, *scores):
        super().__init__()
        self.scores, self.weights = scores, []

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]
        self.weights.append(self.model.get_weights())


STATEFUL = {"factored": {"momentum": 0.9}, "rule": {"momentum": 0.9, "tolerance": 0.01}}


@pytest.mark.parametrize("kind", ["factored", "rule"])
def test_a_training_that_is_interrupted_and_resumed_ends_with_the_same_bits(kind, tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        fit(model_of(kind, optimizer=STATEFUL[kind]), callbacks=[backup(), Interrupt()])
    resumed, through = (model_of(kind, optimizer=STATEFUL[kind]) for _ in range(2))
    resumed.set_weights([0 * weight + 1 for weight in resumed.get_weights()])
    fit(resumed, callbacks=[backup()])
    fit(through)
    for a, b in zip(resumed.get_weights(), through.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("kind", ["factored", "rule"])
def test_the_best_epoch_is_saved_and_restored(kind, weights_only, tmp_path):
    path = tmp_path / ("best.weights.h5" if weights_only else "best.keras")
    options = {"monitor": "score", "mode": "min", "save_best_only": True}
    scores = Scores(3.0, 1.0, 2.0, 2.0)
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, save_weights_only=weights_only, verbose=0, **options
    )
    stopping = keras.callbacks.EarlyStopping(
        "score", patience=2, mode="min", restore_best_weights=True
    )
    model = trained(kind, callbacks=[scores, checkpoint, stopping])
    again = model_of(kind) if weights_only else keras.saving.load_model(path)
    if weights_only:
        again.load_weights(path)
    assert len(scores.weights) == 4
    for one in (model, again):
        for a, b in zip(one.get_weights(), scores.weights[1], strict=True):
            np.testing.assert_array_equal(a, b)
    assert np.any(model.get_weights()[0] != scores.weights[-1][0])
    fit(again, epochs=1)


@pytest.mark.parametrize("kind", ["factored", "rule"])
def test_callbacks_change_the_learning_rate(kind):
    plateau = keras.callbacks.ReduceLROnPlateau("score", factor=0.5, patience=1, mode="min")
    scheduler = keras.callbacks.LearningRateScheduler(
        lambda epoch, _: [2e-3, 2e-3, 1e-3, 5e-4][epoch]
    )
    scores = Scores(1.0, 1.0, 1.0, 1.0)
    for callbacks in ([scores, plateau], [scheduler]):
        model = trained(kind, callbacks=callbacks)
        expected = model_of(kind)
        for rate in (2e-3, 2e-3, 1e-3, 5e-4):
            expected.optimizer.learning_rate = rate
            fit(expected, epochs=1)
        for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# Other ways to a training -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["factored", "rule"])
def test_batches_one_by_one_a_clone_and_a_loaded_model_train_alike(kind, tmp_path):
    model = model_of(kind, optimizer=STATEFUL[kind])
    fit(model, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    clone.compile(type(model.optimizer).from_config(model.optimizer.get_config()), "mse")
    clone.optimizer.build(clone.trainable_variables)
    for mine, others in ((clone, model), (clone.optimizer, model.optimizer)):
        for variable, other in zip(mine.variables, others.variables, strict=True):
            variable.assign(numpy(other))  # on JAX, not the same buffer
    batches = keras.models.clone_model(model)
    batches.set_weights(model_of(kind).get_weights())
    batches.compile(model_of(kind, optimizer=STATEFUL[kind]).optimizer, "mse")
    for start in [*range(0, 64, 8)] * 2:
        batches.train_on_batch(X[start : start + 8], Y[start : start + 8])
    for one in (model, loaded, clone):
        fit(one, epochs=1)
    for one in (loaded, clone, batches):
        for a, b in zip(one.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND == "jax", reason="the same on all backends, and slow to compile there")
@pytest.mark.parametrize("kind", ["factored", "rule"])
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn", "ignore::DeprecationWarning:sklearn")
def test_estimators_of_scikit_learn(kind):
    pytest.importorskip("sklearn", reason="the reproduce extra installs scikit-learn")
    from keras.wrappers import SKLearnClassifier, SKLearnRegressor

    def classifier(X, y, depth):
        model = model_of(kind, 0.1, depth=depth)
        model.add(keras.layers.Softmax())
        model.compile(model.optimizer, "categorical_crossentropy")
        return model

    fitting = {"epochs": 40, "verbose": 0}
    regressor = SKLearnRegressor(model_of(kind, 0.1, units=1), fit_kwargs=fitting)
    assert regressor.fit(X, Y[:, 0]).score(X, Y[:, 0]) > 0.9
    labels = np.argmax(Y, axis=-1)
    options = {"model_kwargs": {"depth": 3}, "fit_kwargs": fitting}
    found = SKLearnClassifier(classifier, **options).fit(X, labels)
    assert np.mean(found.predict(X) == labels) > 0.8


@pytest.mark.skipif(BACKEND == "jax", reason="the same on all backends, and slow to compile there")
@pytest.mark.parametrize("kind", ["factored", "rule"])
# keras-tuner 1.4.8 calls methods of `threading` that are deprecated.
@pytest.mark.filterwarnings("ignore:(currentThread|getName)\\(\\) is:DeprecationWarning")
def test_a_search_over_depth(kind, tmp_path):
    tuner = pytest.importorskip("keras_tuner", reason="a tuner is not required")

    def build(hp):
        return model_of(kind, depth=hp.Int("depth", 1, 3))

    search = tuner.GridSearch(build, "loss", max_trials=3, directory=tmp_path)
    search.search(X, Y, batch_size=8, shuffle=False, epochs=2, verbose=0)
    scores = {}
    for trial in search.oracle.get_best_trials(3):
        depth = trial.hyperparameters["depth"]
        scores[depth] = trial.score
        loss = fit(model_of(kind, depth=depth), epochs=2).history["loss"]
        assert trial.score == pytest.approx(min(loss), rel=1e-4)
    assert set(scores) == {1, 2, 3}
    assert search.get_best_hyperparameters()[0]["depth"] == min(scores, key=scores.get)
