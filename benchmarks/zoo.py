"""Keras's applications and KerasHub's models: which convert, and what they compute then.

    python benchmarks/zoo.py                               into assets/zoo.json
    python benchmarks/zoo.py --models ResNet50 BertBackbone --output /tmp/zoo.json

Each model is made with random weights, overparameterized, collapsed, saved, loaded and trained for
two steps, in a process of its own. What is found about one is kept in runs/zoo/, and is not found
again unless the package or a version changes. KerasHub's are left out where it is not installed.
Takes about an hour on two CPU cores.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import zoo_models
from turns import ROOT

from keras_overparam import collapse, overparameterize
from plumbing import records
from plumbing.options import positive

BATCH = 2
SEED = 0
LEARNING_RATE = 1e-4
STEPS = 2
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


def kernels(model):
    """Number of the variables that have "kernel" in their names, and of the parameters in them."""
    found = [w for w in model.weights if "kernel" in w.name and len(w.shape) > 1]
    return np.array([len(found), sum(int(np.prod(w.shape)) for w in found)])


def saved_and_loaded(model, inputs, expected):
    """Difference of a model's outputs after saving and loading, or the sentence why it cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
        except ValueError as error:
            return {"not_saved": str(error)}
        loaded = keras.models.load_model(path)
    return {"difference_loaded": difference(outputs(loaded, inputs), expected)}


def trained(model, inputs, expected):
    """Losses of the first steps of a training towards random targets."""
    rng = np.random.default_rng(SEED + 2)
    targets = keras.tree.pack_sequence_as(
        model.output, [rng.normal(size=y.shape).astype(y.dtype) for y in expected]
    )
    losses = keras.tree.map_structure(lambda _: "mean_squared_error", model.output)
    model.compile(keras.optimizers.SGD(LEARNING_RATE, global_clipnorm=1.0), loss=losses)
    steps = [model.train_on_batch(inputs, targets, return_dict=True) for _ in range(STEPS)]
    return [float(step["loss"]) for step in steps]


def examined(entry, depth):
    """What is found about one model."""
    keras.utils.set_random_seed(SEED)
    model = lively(entry.make())
    inputs = random_inputs(model, entry.length)
    expected = outputs(model, inputs)
    found = {"model": entry.name, "library": entry.library, "parameters": model.count_params()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            deep = overparameterize(model, depth)
        except ValueError as error:
            return found | {"refused": str(error)}
        flat = collapse(deep)
    found["warnings"] = sorted({str(w.message) for w in caught if w.category is UserWarning})
    found["class_kept"] = type(deep) is type(model)
    (number, size), (left, size_left) = kernels(model), kernels(deep)
    found |= {"kernels": int(number), "kernels_factored": int(number - left)}
    found |= {"share_of_kernels": float(1 - size_left / size)}
    found["parameters_deep"] = deep.count_params()
    deep_outputs = outputs(deep, inputs)
    found["difference_overparameterized"] = difference(deep_outputs, expected)
    found["difference_collapsed"] = difference(outputs(flat, inputs), expected)
    found["original_unchanged"] = difference(outputs(model, inputs), expected) == 0
    del model, flat  # the largest models leave no room for another one
    found |= saved_and_loaded(deep, inputs, deep_outputs)
    return found | {"losses": trained(deep, inputs, deep_outputs)}


# All of them --------------------------------------------------------------------------------------


def circumstances(depth):
    """What a finding depends on: versions, the number of factors, and a digest of the package."""
    digest = hashlib.sha256()
    for path in (*sorted((ROOT / "keras_overparam").rglob("*.py")), *sorted(zoo_files())):
        digest.update(path.read_bytes())
    return {"versions": records.versions(), "depth": depth, "code": digest.hexdigest()[:16]}


def zoo_files():
    """The files of this benchmark."""
    return Path(__file__).parent.glob("zoo*.py")


def in_its_own_process(name, path, options):
    """What another process finds about a model; how it ended, if it did not finish."""
    command = [sys.executable, __file__, "--one", name, "--output", path]
    command += ["--depth", str(options.depth)]
    found = {"model": name, "library": zoo_models.entries()[name].library}
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
    except subprocess.TimeoutExpired:
        return found | {"failed": f"It took longer than {options.limit} s."}
    if run.returncode:
        last = (run.stderr.strip() or "nothing was said").splitlines()[-1]
        return found | {"failed": f"The process ended with {run.returncode}: {last}"}
    return records.read_json(path)["found"]


def known(path, now):
    """What was found before in the same circumstances, or None."""
    if not path.exists():
        return None
    content = records.read_json(path)
    return content["found"] if content["circumstances"] == now else None


def find_all(names, options):
    """Findings about the named models, the known ones from the folder of what was found."""
    folder = records.make_folder(options.runs)
    now = circumstances(options.depth)
    for name in names:
        path = folder / f"{name}.json"
        found = known(path, now)
        if found is None:
            found = in_its_own_process(name, path, options)
        print(f"{name:30s} {in_words(found)}", flush=True)
        yield found


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
    parser.add_argument("--one", choices=zoo_models.entries(), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Examine one model, or all in turn, and leave what was found as JSON."""
    options = parse(arguments)
    now = circumstances(options.depth)
    if options.one:
        found = examined(zoo_models.entries()[options.one], options.depth)
        records.write_json(options.output, {"circumstances": now, "found": found})
        return
    names = options.models or zoo_models.entries()
    found = list(find_all(names, options))
    records.write_json(options.output, now | {"device": records.device_name(), "models": found})
    failed = [each["model"] for each in found if "failed" in each]
    if failed:
        sys.exit(f"zoo.py: error: neither converted nor refused: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
