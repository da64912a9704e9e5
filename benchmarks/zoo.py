"""Keras's applications and KerasHub's models: which convert, and what they compute then.

    python benchmarks/zoo.py                               into assets/zoo.json
    python benchmarks/zoo.py --models ResNet50 BertBackbone --output /tmp/zoo.json

Each model is made with random weights, overparameterized, collapsed, saved, loaded and trained for
two steps, in another process. What is found about one is kept in runs/zoo/, and is not found
again unless the package or a version changes. KerasHub's are left out where it is not installed.
Takes some hours on two CPU cores: large applications take minutes each.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import keras
import numpy as np
import zoo_models
from turns import ROOT

from keras_overparam import collapse, overparameterize
from running import machine, records
from running.options import positive

BATCH = 2
SEED = 0
LEARNING_RATE = 1e-4
STEPS = 2
LAST_DIGIT = 2.0**-23  # of a float32, relative
TOGETHER = {"Keras": 1, "KerasHub": 12}  # models that share a process: large ones have their own
WORDS = 40  # of the vocabularies of `zoo_models`


# One model ----------------------------------------------------------------------------------------


def lively(model):
    """The model with offsets, scales and statistics that are not those of a start.

    Every variable whose values are all equal gets others, so that none can be lost unnoticed.
    """
    rng = np.random.default_rng(SEED)
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if "float" in weight.dtype and np.ptp(values) == 0:
            scaled = values * rng.uniform(0.5, 1.5, values.shape)
            weight.assign(scaled if values.any() else 0.1 * rng.normal(size=values.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # which makes of its weights what it computes with
    return model


def random_inputs(model, length):
    """A batch of what a functional model takes, in its structure.

    Args:
        model: a functional model.
        length: size of the axes that it leaves open.
    """
    rng = np.random.default_rng(SEED + 1)

    def sample(tensor):
        shape = [BATCH, *(length if size is None else size for size in tensor.shape[1:])]
        if tensor.name.endswith("mask"):
            return np.arange(shape[1]) < np.full(shape, shape[1] - 1)  # the last word is none
        largest = {"segment_ids": 2, "mask_positions": length - 1}.get(tensor.name, WORDS)
        if "int" in tensor.dtype:
            return rng.integers(0, largest, shape)
        return rng.normal(size=shape)

    return keras.tree.map_structure(lambda x: sample(x).astype(x.dtype), model.input)


def outputs(model, inputs):
    """Outputs of a model at inference, as a list of arrays."""
    return [
        keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(inputs, training=False))
    ]


def difference(found, expected):
    """Largest difference of any output, over that output's largest value."""
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True)
    )


def difference_moved(model, inputs, expected):
    """Difference of outputs when the last digit of every weight is moved, up or down at random.

    That is what rounding may do to a model: what conversions change is to be compared with it.
    """
    rng = np.random.default_rng(SEED + 3)
    before = [(w, keras.ops.convert_to_numpy(w)) for w in model.weights if "float" in w.dtype]
    for weight, values in before:
        weight.assign(values * (1 + LAST_DIGIT * rng.choice([-1, 1], values.shape)))
    found = difference(outputs(model, inputs), expected)
    for weight, values in before:
        weight.assign(values)
    return found


def kernels(model):
    """Number of the variables that have "kernel" in their names, and of the parameters in them."""
    found = [w for w in model.weights if "kernel" in w.name and len(w.shape) > 1]
    return np.array([len(found), sum(int(np.prod(w.shape)) for w in found)])


def saved_and_loaded(model, inputs, expected):
    """Difference of a model's outputs after saving and loading, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except ValueError as error:
            return {"not_saved": sentence(error, model)}
        loaded = keras.models.load_model(path)
    return {"difference_loaded": difference(outputs(loaded, inputs), expected)}


def sentence(error, model):
    """A refusal's text, which names a layer; another error goes on."""
    text = str(error)
    if not any(repr(layer.name) in text for layer in model._flatten_layers()):
        raise error
    return text


def saved_unconverted(model, inputs, expected):
    """The same of the original, of which Keras may fail in any way."""
    try:
        return saved_and_loaded(model, inputs, expected)
    except Exception as error:
        return {"not_saved": f"{type(error).__name__}: {error}"}


def trained(model, inputs, expected):
    """Losses of the first steps of a training towards random targets."""
    rng = np.random.default_rng(SEED + 2)
    targets = keras.tree.pack_sequence_as(
        model.output, [rng.normal(size=y.shape).astype(y.dtype) for y in expected]
    )
    losses = keras.tree.map_structure(lambda _: "mean_squared_error", model.output)
    optimizer = keras.optimizers.SGD(LEARNING_RATE, global_clipnorm=1.0)
    # KerasHub's tasks come compiled, and None keeps the metrics that a model has (Keras 3.15).
    model.compile(optimizer, loss=losses, metrics=[], weighted_metrics=[])
    steps = [model.train_on_batch(inputs, targets, return_dict=True) for _ in range(STEPS)]
    return [float(step["loss"]) for step in steps]


def converted(model, depth):
    """A model overparameterized and collapsed again, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        deep = overparameterize(model, depth)
        flat = collapse(deep)
    return deep, flat, sorted({str(w.message) for w in caught if w.category is UserWarning})


def examined(entry, depth):
    """What is found about one model."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED)
    model = lively(entry.make())
    inputs = random_inputs(model, entry.length)
    expected = outputs(model, inputs)
    found = {"parameters": model.count_params()}
    found["difference_moved"] = difference_moved(model, inputs, expected)
    try:
        deep, flat, found["warnings"] = converted(model, depth)
    except ValueError as error:
        found["refused"] = sentence(error, model)
        return found | {"original": saved_unconverted(model, inputs, expected)}
    found |= compared(model, deep, flat, inputs, expected)
    del flat  # the largest models leave no room for another one
    deep_outputs = outputs(deep, inputs)
    found |= saved_and_loaded(deep, inputs, deep_outputs)
    if found.get("difference_loaded") != 0:
        found["original"] = saved_unconverted(model, inputs, expected)
    del model
    return found | {"losses": trained(deep, inputs, deep_outputs)}


def compared(model, deep, flat, inputs, expected):
    """What a model's conversions are beside it."""
    (number, size), (left, size_left) = kernels(model), kernels(deep)
    return {
        "class_kept": type(deep) is type(model),
        "kernels": int(number),
        "kernels_factored": int(number - left),
        "share_of_kernels": float(1 - size_left / size),
        "parameters_deep": deep.count_params(),
        "parameters_collapsed": flat.count_params(),
        "difference_overparameterized": difference(outputs(deep, inputs), expected),
        "difference_collapsed": difference(outputs(flat, inputs), expected),
        "original_unchanged": difference(outputs(model, inputs), expected) == 0,
    }


# All of them --------------------------------------------------------------------------------------


def circumstances(depth):
    """What a finding depends on: versions, the number of factors, and a digest of the package."""
    digest = hashlib.sha256()
    for folder, pattern in (("keras_overparam", "*.py"), ("benchmarks", "zoo*.py")):
        for path in sorted((ROOT / folder).rglob(pattern)):
            digest.update(path.read_bytes())
    return {"versions": records.versions(), "depth": depth, "code": digest.hexdigest()[:16]}


def examine(names, options):
    """Leave what is found about each model in the folder of what was found."""
    now = circumstances(options.depth)
    for name in names:
        entry = zoo_models.entries()[name]
        found = {"model": name, "library": entry.library}
        try:
            found |= examined(entry, options.depth)
        except Exception as error:  # a finding too
            traceback.print_exc()
            found["failed"] = f"{type(error).__name__}: {error}"
        path = Path(options.runs) / f"{name}.json"
        records.write_json(path, {"circumstances": now, "found": found})


def known(name, options, now):
    """What was found about a model in the same circumstances, or None."""
    path = Path(options.runs) / f"{name}.json"
    if not path.exists():
        return None
    content = records.read_json(path)
    return content["found"] if content["circumstances"] == now else None


def in_another_process(names, options):
    """Let another process find out about some models; how it ended."""
    command = [sys.executable, __file__, "--worker", "--models", *names]
    command += ["--depth", str(options.depth), "--runs", str(options.runs)]
    try:
        run = subprocess.run(command, timeout=options.limit * len(names))
    except subprocess.TimeoutExpired:
        return f"It took longer than {options.limit} s."
    return f"Its process ended with {run.returncode}."


def find_all(names, options):
    """Findings about the named models, of which the known ones are not found again."""
    records.make_folder(options.runs)
    now = circumstances(options.depth)
    unknown = [name for name in names if known(name, options, now) is None]
    ended = {}  # by the model that a process was at when it ended
    while unknown:
        first = zoo_models.entries()[unknown[0]].library
        several = [n for n in unknown if zoo_models.entries()[n].library == first]
        how = in_another_process(several[: TOGETHER[first]], options)
        left = [name for name in unknown if known(name, options, now) is None]
        if left[:1] == unknown[:1]:
            ended[left.pop(0)] = how
        unknown = left
    for name in names:
        found = {"model": name, "library": zoo_models.entries()[name].library}
        yield known(name, options, now) or found | {"failed": ended[name]}


def in_words(found):
    """A finding in a line."""
    for way in ("failed", "refused"):
        if way in found:
            return f"{way}: {found[way]}"
    ways = ("difference_overparameterized", "difference_collapsed", "difference_loaded")
    differences = ", ".join(f"{found[way]:.0e}" for way in ways if way in found)
    factored = f"{found['kernels_factored']} of {found['kernels']}"
    return f"{factored} kernels, {differences}, losses {found['losses']}" + (
        f", not saved: {found['not_saved']}" if "not_saved" in found else ""
    )


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=zoo_models.entries(), metavar="MODEL")
    parser.add_argument("--depth", type=positive(int), default=2)
    parser.add_argument("--limit", type=positive(int), default=3600, help="seconds for a model")
    parser.add_argument("--runs", default=ROOT / "runs" / "zoo", help="folder of what was found")
    parser.add_argument("--output", type=Path, default=ROOT / "assets" / "zoo.json")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Find out about all models, and leave it as JSON."""
    options = parse(arguments)
    names = list(options.models or zoo_models.entries())
    if options.worker:
        examine(names, options)
        return
    found = list(find_all(names, options))
    for each in found:
        print(f"{each['model']:24s} {in_words(each)}")
    report = circumstances(options.depth) | {"device": machine.device_name(), "models": found}
    records.write_json(options.output, report)
    failed = [each["model"] for each in found if "failed" in each]
    if failed:
        sys.exit(f"zoo.py: error: neither converted nor refused: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
