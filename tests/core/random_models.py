"""Random models of the layers in `random_layers`: functional, sequential, subclassed, nested."""

import contextlib
import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np
import random_layers as recipes
from hypothesis import strategies as st
from keras import ops

LARGEST = 300  # places of a tensor that another layer may follow
BATCH = 3
PACKAGE = "random_models"


# Layers and models of a user's ------------------------------------------------------------------


@keras.saving.register_keras_serializable(PACKAGE)
class Residual(keras.layers.Layer):
    """Holds a layer that it was given, and a scale of its own."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        if not self.inner.built:  # as it is when it was loaded
            self.inner.build(input_shape)

    def call(self, x):
        return self.scale * self.inner(x)

    def get_config(self):
        return super().get_config() | {"inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner=inner, **config)


@keras.saving.register_keras_serializable(PACKAGE)
class Gated(keras.layers.Layer):
    """Makes two layers itself, one in `__init__` and one in `build`."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.value = keras.layers.Dense(units, name="value")

    def build(self, input_shape):
        self.value.build(input_shape)
        self.gates = {"gate": keras.layers.Dense(self.units, activation="sigmoid", name="gate")}
        self.gates["gate"].build(input_shape)

    def call(self, x):
        return self.value(x) * self.gates["gate"](x)

    def get_config(self):
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(PACKAGE)
class Shifted(keras.layers.Layer):
    """Adds what it learned from data, which is no variable: it is kept in a store of its own."""

    learned = np.zeros(())

    def call(self, x):
        return x + ops.cast(self.learned, x.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def save_own_variables(self, store):
        store["learned"] = self.learned

    def load_own_variables(self, store):
        self.learned = np.array(store["learned"])


@keras.saving.register_keras_serializable(PACKAGE)
class Chain(keras.Model):
    """A subclassed model: layers in a list, one after the other."""

    def __init__(self, steps, **kwargs):
        super().__init__(**kwargs)
        self.steps = list(steps)

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x

    def get_config(self):
        steps = [keras.saving.serialize_keras_object(step) for step in self.steps]
        return super().get_config() | {"steps": steps}

    @classmethod
    def from_config(cls, config):
        return cls(
            [keras.saving.deserialize_keras_object(s) for s in config.pop("steps")], **config
        )


def _learned(layer, shape):
    layer.learned = np.array(0.75)


OWN = [
    recipes.Recipe(Residual, (2, 3), {"inner": recipes.DENSE}),
    recipes.Recipe(Gated, (2, 3), {"units": recipes.SIZE}),
    recipes.Recipe(Shifted, recipes.ANY, prepare=_learned),
]


# Inputs -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        shapes: list of its shapes; the last one every layer takes that takes this kind.
        values: function from a generator and a shape to an array.
        first: recipes of the layers that may stand right behind it.
        needed: whether one of them must.
        dtype: of the input.
    """

    shapes: list
    values: Callable
    first: list
    needed: bool = False
    dtype: str = "float32"


def _normal(rng, shape):
    return rng.normal(size=shape).astype("float32")


def _pixels(rng, shape):
    return rng.uniform(0, recipes.PIXELS, shape).astype("float32")


def _tokens(rng, shape):
    return rng.integers(0, recipes.TOKENS, shape).astype("int32")


def _words(rng, shape):
    return rng.choice(recipes.LETTERS, shape)


KINDS = {
    "vector": Kind([(1,), (2,), (4,)], _normal, recipes.NUMBERS),
    "sequence": Kind([(2, 3), (4, 2), (3, 4)], _normal, recipes.NUMBERS),
    "image": Kind([(4, 4, 1), (4, 5, 3)], _normal, recipes.NUMBERS),
    "pixels": Kind([(4, 6, 3)], _pixels, recipes.IMAGES, needed=True),
    "volume": Kind([(2, 3, 2, 2), (3, 3, 3, 4)], _normal, recipes.NUMBERS),
    "film": Kind([(2, 2, 2, 2, 1)], _normal, []),
    "signal": Kind([(32,)], _normal, recipes.SIGNALS, needed=True),
    "channel": Kind([(32, 1)], _normal, recipes.SIGNALS, needed=True),
    "tokens": Kind([(2,), (3,)], _tokens, recipes.INTEGERS, needed=True, dtype="int32"),
}
if recipes.BACKEND == "tensorflow":
    KINDS["tokens"].first.extend(recipes.INTEGERS_OF_TENSORFLOW)
    KINDS["words"] = Kind([(2,), (1,)], _words, recipes.WORDS, needed=True, dtype="string")
    KINDS["crossed"] = Kind([(1,)], _tokens, recipes.CROSSED, needed=True, dtype="int32")
NUMERIC = ["vector", "sequence", "image", "volume"]


# Growing ----------------------------------------------------------------------------------------


def takes(recipe, x):
    """Whether a recipe's layer can be called on a tensor."""
    shape = x.shape[1:]
    return len(x.shape) in recipe.axes and math.prod(shape) <= LARGEST and recipe.fits(shape)


def called(layer, how, x, other):
    """A layer called on one tensor or two."""
    if how == "one":
        return layer(x)
    return layer([x, other]) if how == "two" else layer(x, other)


class Draft:
    """A functional model in the making.

    Args:
        draw: function from a strategy to a value of it.
        tensors: symbolic tensors to start from.
    """

    def __init__(self, draw, tensors):
        self.draw = draw
        self.tensors = list(tensors)
        self.used = set()  # identities of those that something was called on
        self.calls = []  # triples of a layer, how it was called, and on which shape

    def one(self):
        """Some tensor."""
        return self._used(self.draw(st.sampled_from(self.tensors)))

    def _used(self, x):
        self.used.add(id(x))
        return x

    def leaves(self):
        """The tensors that nothing was called on."""
        return [x for x in self.tensors if id(x) not in self.used]

    def like(self, shape):
        """Some tensor of a shape, possibly one that a factor sets apart; None if there is none."""
        alike = [x for x in self.tensors if x.shape == shape]
        if not alike:
            return None
        x = self._used(self.draw(st.sampled_from(alike)))
        return x / 2 if self.draw(st.booleans()) else x

    def grow(self, steps):
        """Add tensors."""
        ways = [self.converted, self.layer, self.layer, self.merged, self.again, self.nested]
        ways.append(self.operation)
        for _ in range(self.draw(st.integers(2, steps))):
            found = self.draw(st.sampled_from(ways))()
            if found is not None:
                self.tensors.append(found)

    def call(self, recipe, x):
        """The output of a layer drawn by a recipe."""
        layer = recipe.drawn(self.draw, x.shape[1:])
        self.calls.append((layer, recipe.how, x.shape))
        return called(layer, recipe.how, x, self.like(x.shape))

    def layer(self, among=None):
        """A layer on some tensor."""
        x = self.one()
        fitting = [r for r in among or recipes.CHAINED + OWN if takes(r, x)]
        return self.call(self.draw(st.sampled_from(fitting)), x) if fitting else None

    def converted(self):
        """A layer that conversion replaces, on some tensor."""
        return self.layer(recipes.CONVERTED)

    def merged(self):
        """A layer on two tensors of the same shape."""
        return self.layer(recipes.MERGING)

    def again(self):
        """A layer that was called before, on another tensor."""
        if not self.calls:
            return None
        layer, how, shape = self.draw(st.sampled_from(self.calls))
        return called(layer, how, self.like(shape), self.like(shape))

    def operation(self):
        """What no layer computes."""
        x = self.one()
        compute = self.draw(st.sampled_from([ops.tanh, ops.negative, lambda x: x + ops.abs(x)]))
        return compute(x)

    def nested(self):
        """A model as a layer."""
        x = self.one()
        if len(x.shape) < 2 or math.prod(x.shape[1:]) > LARGEST:
            return None
        kind = self.draw(st.sampled_from([functional, sequential, subclassed]))
        model = kind(self.draw, x.shape[1:], 2)
        self.calls.append((model, "one", x.shape))
        return model(x)


def functional(draw, shape, steps):
    """A functional model of one input and one output."""
    x = keras.Input(shape)
    draft = Draft(draw, [x])
    draft.grow(steps)
    return keras.Model(x, draft.tensors[-1])


def chain(draw, shape, steps):
    """Layers that can follow each other."""
    draft = Draft(draw, [keras.Input(shape)])
    layers = []
    for _ in range(draw(st.integers(1, steps))):
        alone = [r for r in recipes.CHAINED + OWN if r.how == "one"]
        found = draft.layer(draw(st.sampled_from([alone, recipes.CONVERTED])))
        if found is None:
            break
        draft.tensors = [found]
        layers.append(draft.calls[-1][0])
    return layers


def sequential(draw, shape, steps):
    """A sequential model."""
    return keras.Sequential([keras.Input(shape), *chain(draw, shape, steps)])


def subclassed(draw, shape, steps):
    """A model that computes in `call`."""
    model = Chain(chain(draw, shape, steps))
    model(keras.Input(shape))  # as a graph is made: whether it can be computed, the test asks
    return model


# Whole models -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, a batch of inputs for it, and the depth to convert it to."""

    model: keras.Model
    inputs: object
    depth: int

    def __repr__(self):
        return f"{in_words(self.model)} at depth {self.depth}"


def in_words(layer):
    """A layer and what is in it."""
    inner = ", ".join(map(in_words, layer._layers))
    policy = "" if layer.dtype_policy.name == "float32" else f":{layer.dtype_policy.name}"
    return f"{type(layer).__name__}{policy}" + (f"({inner})" if inner else "")


def branches(draw, kind, among):
    """A model of one input of a kind, with an output for each layer that takes it.

    Args:
        draw: function from a strategy to a value of it.
        kind: name of a kind.
        among: recipes of the layers, besides those that must stand behind such an input.
    """
    kind = KINDS[kind]
    shape = kind.shapes[-1]
    x = keras.Input(shape, dtype=kind.dtype)
    results = [called(r.drawn(draw, shape), r.how, x, x) for r in kind.first if takes(r, x)]
    results = [keras.layers.Dense(2)(result) for result in results]
    if not kind.needed:
        found = [r for r in among if takes(r, x)]
        results += [called(r.drawn(draw, shape), r.how, x, x) for r in found]
    inputs = kind.values(np.random.default_rng(0), (BATCH, *shape))
    return Case(lively(keras.Model(x, results), 0), inputs, 2)


@contextlib.contextmanager
def policy(name):
    """Within it layers have a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def lively(model, seed):
    """The model with random values in place of offsets and scales that are all equal."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        values = ops.convert_to_numpy(weight)
        if "float" in weight.dtype and (values == values.flat[0]).all():
            scaled = values * rng.uniform(0.5, 1.5, values.shape)
            weight.assign(scaled if values.any() else 0.3 * rng.normal(size=values.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # which makes of its weights what it computes with
    return model


POLICIES = st.sampled_from(["float32"] * 9 + ["float64", "mixed_bfloat16", "mixed_float16"])


def _inputs(draw, drawn):
    """Symbolic inputs, and tensors behind them, for drawn kinds and shapes."""
    inputs, tensors = {}, []
    for index, (kind, shape) in enumerate(drawn):
        x = keras.Input(shape, dtype=KINDS[kind].dtype, name=f"{kind}_{index}")
        inputs[x.name] = x
        # (Equalization gives out its input itself, of which Keras makes a circle.)
        fitting = [r for r in KINDS[kind].first if takes(r, x) and r.name != "Equalization"]
        if fitting and (KINDS[kind].needed or draw(st.booleans())):
            recipe = draw(st.sampled_from(fitting))
            with policy("float32"):  # of which not all have another
                x = called(recipe.drawn(draw, shape), recipe.how, x, x)
        if "float" not in x.dtype:  # counts, which not all layers take
            x = ops.cast(x, "float32")
        tensors.append(x)
    return inputs, tensors


def _whole(draw, drawn):
    """A functional model of several inputs and outputs."""
    inputs, tensors = _inputs(draw, drawn)
    draft = Draft(draw, tensors)
    draft.grow(4)
    results = draft.leaves() or draft.tensors[-1:]
    if len(drawn) == 1:
        (inputs,) = inputs.values()
    return keras.Model(inputs, results if len(results) > 1 else results[0])


def drawn_case(draw):
    """A random model with random weights, and a batch for it.

    Not a strategy: Keras seeds its layers by Python's generator, which strategies must not touch.

    Args:
        draw: function from a strategy to a value of it.
    """
    seed = draw(st.integers(0, 99))
    keras.utils.set_random_seed(seed)
    build = draw(st.sampled_from([_whole, _whole, _whole, sequential, subclassed]))
    names = draw(
        st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=3)
        if build is _whole
        else st.sampled_from(NUMERIC).map(lambda name: [name])
    )
    drawn = [(name, draw(st.sampled_from(KINDS[name].shapes))) for name in names]
    with policy(draw(POLICIES)):
        model = build(draw, drawn) if build is _whole else build(draw, drawn[0][1], 4)
    for layer in model.layers:
        layer.trainable = draw(st.integers(0, 5)) > 0
    rng = np.random.default_rng(seed)
    values = [KINDS[kind].values(rng, (BATCH, *shape)) for kind, shape in drawn]
    named = {f"{kind}_{index}": values[index] for index, (kind, _) in enumerate(drawn)}
    return Case(
        lively(model, seed), named if len(values) > 1 else values[0], draw(st.integers(1, 3))
    )
