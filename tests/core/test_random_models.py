"""Conversion of random models: the outputs are kept, and all else; or a sentence says why not."""

import re
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import random_layers as recipes
import random_models
from fuzzing import SLOW_TO_COMPILE, fuzzed
from hypothesis import HealthCheck, Phase, assume, given, note, settings
from hypothesis import strategies as st
from keras import ops

from keras_overparam import collapse, overparameterize
from keras_overparam.holding import all_layers
from keras_overparam.layers import FactoredKernel

# Keras warns of layers that drop a mask; and where a layer returns its input, as some augmentations
# do at inference, it makes another input in its place, and warns of that one's name.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not support mask"),
    pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict"),
]
RELATIVE = 1e-6  # of what weights are moved by, to see what rounding may do to outputs
ROOM = 30  # for more rounding errors than these moves make
# Classes of layers that may be refused, and what the reason then says.
UNTOLD = "itself, so its configuration cannot say"  # of saving a layer factored
REFUSED = {
    "SpectralNormalization": ["it uses a variable of the layer"],  # its kernel
    "Gated": [UNTOLD],
    "GroupedQueryAttention": [UNTOLD],
    "Chain": [UNTOLD, "a `Lambda` layer whose `function` is a Python lambda"],  # loaded to copy it
}
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def outputs(model, inputs):
    """Outputs at inference, as float64 arrays."""
    results = keras.tree.flatten(model(inputs, training=False))
    return [ops.convert_to_numpy(ops.cast(y, "float64")) for y in results]


def values(model):
    """Copies of all weights."""
    return [np.array(ops.convert_to_numpy(v)) for v in model.weights]


def policies(layer):
    """The types in which a layer and what is in it compute."""
    return {layer.compute_dtype}.union(*map(policies, layer._layers))


def bounds(model, inputs, expected):
    """How far each output may be from the expected one, by rounding.

    That is measured: every weight is moved by a little, and the outputs move with it.
    """
    before = values(model)
    rng = np.random.default_rng(0)
    moves = [0.0] * len(expected)
    for _ in range(2):
        for variable, value in zip(model.weights, before, strict=True):
            if value.dtype.kind == "f":
                variable.assign(value * (1 + RELATIVE * rng.normal(size=value.shape)))
        moves = list(map(max, moves, distances(outputs(model, inputs), expected)))
    for variable, value in zip(model.weights, before, strict=True):
        variable.assign(value)
    coarsest = max(EPSILON.get(name, 0.0) for name in policies(model))
    return [
        ROOM * (move + (RELATIVE + coarsest) * np.abs(y).max(initial=1e-6))
        for move, y in zip(moves, expected, strict=True)
    ]


def distances(found, expected):
    """Largest difference of each output."""
    return [np.abs(a - b).max(initial=0.0) for a, b in zip(found, expected, strict=True)]


def inside(layer):
    """A layer and all in it."""
    return [layer, *(deeper for inner in layer._layers for deeper in inside(inner))]


def or_refused(convert, model):
    """What a conversion returns; None if it is refused, in words that name a layer that may be."""
    try:
        return convert(model)
    except ValueError as error:
        text = str(error)
        assert text.startswith("No layer of ") or by_one_of(model, text), text
        note(f"refused: {text}")
        return None


def by_one_of(model, text):
    """Whether a refusal names a layer of the model, of a class that is refused for that reason."""
    known = {layer.name: type(layer).__name__ for layer in inside(model)}
    named = re.match(r"The layer '([^']+)' (of the class|makes)", text)
    return named is not None and any(why in text for why in REFUSED.get(known[named[1]], []))


def saved_and_loaded(model, folder):
    """A model after a round trip through a file."""
    path = Path(folder) / "model.keras"
    model.save(path)
    return keras.models.load_model(path, safe_mode=False)


def survives_unconverted(model, inputs, expected):
    """Whether Keras itself saves and loads a model so that its outputs stay."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = outputs(saved_and_loaded(model, folder), inputs)
        except Exception as error:  # whatever Keras raises
            note(f"Keras itself: {error!r}")
            return False
    return max(distances(found, expected)) == 0


class Check:
    """Compares the conversions of a model with it.

    Args:
        model: the original.
        inputs: a batch for it.
    """

    def __init__(self, model, inputs):
        self.model = model
        self.inputs = inputs
        self.expected = outputs(model, inputs)
        self.bounds = bounds(model, inputs, self.expected)

    def computes_the_same(self, model, what):
        """The outputs are those of the original, to rounding."""
        for index, (found, bound) in enumerate(
            zip(distances(outputs(model, self.inputs), self.expected), self.bounds, strict=True)
        ):
            name = self.model.output_names[index] if hasattr(self.model, "output_names") else index
            assert found <= bound, f"{what}: output {name} is off by {found:.1e} > {bound:.1e}"

    def saves(self, model, what):
        """A file keeps all of it, unless a sentence says why not, or Keras itself cannot."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                loaded = or_refused(lambda m: saved_and_loaded(m, folder), model)
                if loaded is not None:
                    self.computes_the_same(loaded, f"{what}, loaded")
            except Exception:
                if survives_unconverted(self.model, self.inputs, self.expected):
                    raise

    def converts(self, convert, model, what):
        """Convert a model, and compare."""
        new = or_refused(convert, model)
        if new is not None:
            self.computes_the_same(new, what)
            self.saves(new, what)
        return new


def check(model, inputs, depth):
    """A model is converted there and back, and is itself not touched."""
    before = values(model)
    this = Check(model, inputs)
    deep = this.converts(lambda m: overparameterize(m, depth), model, "overparameterized")
    flat = this.converts(collapse, model if deep is None else deep, "collapsed")
    assert flat is not None or deep is None, "what was overparameterized cannot be collapsed"
    for old, new in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(new, old)
    if flat is not None and not any(map(is_changed, inside(model))):
        assert shapes(flat) == shapes(model)


def is_changed(layer):
    """Whether a collapsed layer has other weights than the original: factors, or LoRA's."""
    ours = type(layer).__module__.startswith("keras_overparam")
    return ours or getattr(layer, "lora_enabled", False)


def shapes(model):
    """Names and shapes of the weights that are trained, and of those that are not."""
    return [
        [(w.name, tuple(w.shape)) for w in weights]
        for weights in (model.trainable_weights, model.non_trainable_weights)
    ]


def public_layers():
    """Names of the classes of layers in Keras's public interface, aliases once."""
    members = (getattr(keras.layers, name) for name in dir(keras.layers))
    kinds = {m for m in members if isinstance(m, type) and issubclass(m, keras.layers.Layer)}
    return {kind.__name__ for kind in kinds}


def made(recipe):
    """Names of the layers that a recipe makes, arguments included."""
    values = [v for v in recipe.arguments.values() if not isinstance(v, st.SearchStrategy)]
    inner = [v for value in values for v in (value if isinstance(value, list) else [value])]
    return {recipes.kind_of(recipe).__name__}.union(
        *(made(r) for r in inner if isinstance(r, recipes.Recipe))
    )


ANYWHERE = [*recipes.CHAINED, *recipes.MERGING, *random_models.OWN]
FIRST = [recipe for kind in random_models.KINDS.values() for recipe in kind.first]
ALL = [*FIRST, *recipes.CHAINED, *recipes.MERGING, *recipes.CELLS, recipes.STACK_OF_CELLS]


def test_every_public_layer_of_keras_has_a_recipe_or_a_reason_for_none():
    excluded = recipes.EXCLUDED.keys()
    if recipes.BACKEND != "tensorflow":
        excluded |= recipes.ONLY_TENSORFLOW
    assert set().union(*map(made, ALL)) & public_layers() == public_layers() - excluded - {
        "InputLayer"
    }


def test_every_recipe_is_used_for_some_input():
    used = set()
    for kind in random_models.KINDS.values():
        x = keras.KerasTensor((None, *kind.shapes[-1]))
        chained = [] if kind.needed else recipes.CHAINED + recipes.MERGING
        used.update(id(r) for r in kind.first + chained if random_models.takes(r, x))
    unused = [r.name for r in FIRST + recipes.CHAINED + recipes.MERGING if id(r) not in used]
    assert unused == []


def once(body):
    """Run a test's body on the simplest drawing."""
    chosen = settings(
        max_examples=1,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(st.data())(body))()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow) if SLOW_TO_COMPILE and kind != "vector" else kind
        for kind in random_models.KINDS
    ],
)
def test_every_layer(kind):
    """A model with a branch for each layer that takes such an input."""

    @once
    def test(data):
        among = [r for r in ANYWHERE if recipes.kind_of(r).__name__ not in REFUSED]
        case = random_models.branches(data.draw, kind, among)
        check(case.model, case.inputs, case.depth)


@pytest.mark.parametrize("name", sorted(REFUSED.keys() - {"Chain"}))
def test_a_layer_that_may_be_refused(name):
    """It is, for the reason that it may be, or converts: never something between."""

    @once
    def test(data):
        among = [r for r in ANYWHERE if recipes.kind_of(r).__name__ == name]
        case = random_models.branches(data.draw, "sequence", among)
        assert any(type(layer).__name__ == name for layer in case.model.layers)
        check(case.model, case.inputs, case.depth)


@fuzzed(quick=40, data=st.data())
def test_random_models(data):
    case = random_models.drawn_case(data.draw)
    note(repr(case))
    assume(can_be_called(case.model, case.inputs))
    check(case.model, case.inputs, case.depth)


def can_be_called(model, inputs):
    """Whether Keras computes a model that it made.

    Lookups that count tokens return integers where they announce floats, and TextVectorization
    drops an axis that it announces, so that what comes after them fails (Keras 3.15). A model with
    factored layers must not fail.
    """
    try:
        outputs(model, inputs)
    except Exception:  # whatever the layers raise
        if any(isinstance(layer, FactoredKernel) for layer in all_layers(model)):
            raise
        return False
    return True
