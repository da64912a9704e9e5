"""The zoo's harness, on tiny models; and, in the long run, on all of Keras's applications."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import zoo
import zoo_models

from publishing import zoo_tables
from running import records

APPLICATIONS = [e.name for e in zoo_models.entries().values() if e.library == "Keras"]


@keras.saving.register_keras_serializable("test_zoo")
class OfItsOwn(keras.layers.Layer):
    """Makes what it holds."""

    def build(self, input_shape):
        self.dense = keras.layers.Dense(3, name="dense")
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


def tiny(*layers):
    """An entry of a small model of an image and a text that leave their sizes open."""

    def make():
        image = keras.Input((4, 4, 3), name="image")
        words = keras.Input((None,), dtype="int32", name="token_ids")
        mask = keras.Input((None,), dtype="int32", name="padding_mask")
        x = keras.layers.Conv2D(2, 3)(image)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        y = keras.layers.Embedding(zoo.WORDS, 3)(words)
        y = y * keras.ops.expand_dims(keras.ops.cast(mask, "float32"), -1)
        for layer in layers:
            y = layer()(y)
        inputs = {"image": image, "token_ids": words, "padding_mask": mask}
        return keras.Model(inputs, {"seen": x, "read": y})

    return zoo_models.Entry("tiny", "Keras", make)


def test_a_model_that_converts():
    found = zoo.examined(tiny(lambda: keras.layers.Dense(2)), depth=3)
    assert (found["kernels"], found["kernels_factored"], found["share_of_kernels"]) == (2, 2, 1)
    assert found["parameters"] == found["parameters_collapsed"] < found["parameters_deep"]
    assert 0 < found["difference_overparameterized"] < 1e-5 > found["difference_collapsed"]
    assert found["difference_loaded"] == 0
    assert 0 < found["difference_moved"] < 1e-5
    assert found["original_unchanged"] and found["class_kept"]
    assert len(found["losses"]) == zoo.STEPS and all(map(math.isfinite, found["losses"]))


def test_a_model_that_cannot_be_saved_meanwhile():
    found = zoo.examined(tiny(lambda: OfItsOwn(name="own")), depth=2)
    if "difference_loaded" not in found:
        assert "'own'" in found["not_saved"]
    assert found["original"] == {"difference_loaded": 0}


def test_the_variables_of_a_start_are_told_from_others():
    model = zoo.lively(tiny(lambda: keras.layers.Dense(2)).make())
    for weight in model.weights:
        assert np.ptp(keras.ops.convert_to_numpy(weight)) > 0, weight.path


def test_a_refusal_names_a_layer_and_other_errors_go_on():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="head")])
    assert zoo.sentence(ValueError("The layer 'head' is refused."), model)
    with pytest.raises(ValueError, match="something else"):
        zoo.sentence(ValueError("something else"), model)


def run(monkeypatch, folder, worker, names=("A", "B", "C")):
    """The report of a run on models that are not there, whose worker is the test's."""
    entries = {n: zoo_models.Entry(n, "KerasHub", lambda: None) for n in names}
    monkeypatch.setattr(zoo_models, "entries", lambda: entries)
    monkeypatch.setattr(zoo, "in_another_process", worker)
    options = SimpleNamespace(depth=2, runs=folder, limit=1)
    return list(zoo.find_all(list(names), options))


def test_a_process_that_ends_early_is_a_finding_about_its_model(monkeypatch, tmp_path):
    tried = []

    def worker(names, options):
        tried.append(list(names))
        if names[0] == "A":
            monkeypatch.setattr(zoo, "examined", lambda entry, depth: {"refused": "no"})
            zoo.examine(names[:1], options)  # and then it is killed, at the second
        if names[0] == "C":
            zoo.examine(names, options)
        return "It was killed."

    found = run(monkeypatch, tmp_path, worker)
    assert tried == [["A", "B", "C"], ["B", "C"], ["C"]]
    assert found == [
        {"model": "A", "library": "KerasHub", "refused": "no"},
        {"model": "B", "library": "KerasHub", "failed": "It was killed."},
        {"model": "C", "library": "KerasHub", "refused": "no"},
    ]


def test_what_is_known_is_not_found_again_unless_the_code_changed(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "examined", lambda entry, depth: {"refused": "no"})
    tried = []

    def worker(names, options):
        tried.append(names)
        zoo.examine(names, options)

    first = run(monkeypatch, tmp_path, worker)
    assert run(monkeypatch, tmp_path, worker) == first and len(tried) == 1
    monkeypatch.setattr(zoo, "circumstances", lambda depth: {"code": "another"})
    run(monkeypatch, tmp_path, worker)
    assert tried == [["A", "B", "C"]] * 2


def test_errors_of_a_model_are_findings(monkeypatch, tmp_path, capsys):
    def broken(entry, depth):
        raise TypeError("no such thing")

    monkeypatch.setattr(zoo, "examined", broken)
    found = run(monkeypatch, tmp_path, zoo.examine, names=("A",))
    assert found[0]["failed"] == "TypeError: no such thing"
    assert "Traceback" in capsys.readouterr().err


def test_tables(tmp_path):
    good = zoo.examined(tiny(lambda: keras.layers.Dense(2)), depth=2)
    good["losses"] = [1.25, None]  # as JSON has what is not finite
    report = zoo.circumstances(2) | {
        "device": "a device",
        "models": [
            {"model": "Good", "library": "Keras", **good},
            {"model": "Bad", "library": "KerasHub", "refused": "The layer 'x|y'\n\nis <odd>."},
            {"model": "Worse", "library": "KerasHub", "refused": "The layer 'z'\n\nis <odd>."},
            {"model": "Other", "library": "KerasHub", "refused": "The layer 'z' is new."},
        ],
    }
    path = tmp_path / "zoo.json"
    records.write_json(path, json.loads(json.dumps(report)))
    made = zoo_tables.parts(path)
    assert made["zoo_summary"].startswith("- Keras: 1 of 1 models convert;")
    assert "- KerasHub: none of 3 models converts." in made["zoo_summary"]
    assert "| 2 of 2 (100%) |" in made["zoo_converted"] and "Bad" not in made["zoo_converted"]
    assert "| 1.25, not finite |" in made["zoo_converted"]
    assert made["zoo_refused"].splitlines()[-2:] == [
        "| Bad, Worse | The layer 'x\\|y' is &lt;odd>. |",
        "| Other | The layer 'z' is new. |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications(name):
    """All convert, can be saved, and train."""
    found = zoo.examined(zoo_models.entries()[name], depth=2)
    assert "refused" not in found, found["refused"]
    assert found["kernels_factored"] > 0 and found["original_unchanged"] and found["class_kept"]
    assert found["parameters"] == found["parameters_collapsed"]
    rounding = 10 * max(found["difference_moved"], 1e-6)
    assert found["difference_overparameterized"] < rounding > found["difference_collapsed"]
    assert found["difference_loaded"] == 0
    assert math.isfinite(found["losses"][0])  # with random weights, some originals diverge too
