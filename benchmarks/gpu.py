"""What a GPU makes of all this, in one command of under eight minutes.

    KERAS_BACKEND=jax python benchmarks/gpu.py --archives DIR     into assets/benchmark_gpu_jax.json
    KERAS_BACKEND=torch python benchmarks/gpu.py --parts training_step sweep
    python benchmarks/gpu.py --wheels                   packages that it needs, as pip takes them

On any backend; on one without a GPU it measures the processor. Its parts, each in a process of its
own, which has a share of the time, and whose end leaves the others' results alone:

- `limits`: products of square matrices, in float32, with TensorFloat-32, in bfloat16.
- `main_job`: two epochs of the overparameterized tutorial network, and its validation error beside
  those on record for the processor, seed by seed.
- `determinism`: the same seed twice, as it is and with the backend's switch: the same bits?
- `training_step`: a square `FactoredDense` of depth 2 beside a `Dense`, over widths and batches.
- `end_to_end_step`: the rule's step beside Muon's.
- `sweep`: the engine, 128 to 16,384 configurations, as a share of the measured product peak.
- `conversion`: an application there and back, and how far its outputs move.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import ROOT, ratio_row, row, steady, take_turns

from running import records
from running.options import positive

# Beside NumPy, Matplotlib and a backend: what the package and its scripts import.
NEEDS = ("keras==3.15.1", "namex==0.1.0", "optree==0.20.0", "absl-py", "rich", "h5py", "ml-dtypes")
NEEDS += ("filelock", "tqdm", "tensorboard")
PARTS = (
    *("limits", "main_job", "determinism", "training_step", "end_to_end_step", "sweep"),
    "conversion",
)
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
DETERMINISTIC = {  # the environment in which a backend promises the same bits
    "jax": {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"},
    "tensorflow": {"TF_DETERMINISTIC_OPS": "1"},
    "torch": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "DETERMINISTIC": "1"},
}
LEAST = 20  # seconds that a part is worth starting for
POWER = 4


def backend():
    """Name of Keras's backend, without importing it."""
    return os.environ.get("KERAS_BACKEND", "tensorflow")


@contextlib.contextmanager
def precision(name):
    """Within it, products of float32 matrices are computed in float32, or in TensorFloat-32."""
    tf32 = name == "tensorfloat32"
    if backend() == "jax":
        import jax

        with jax.default_matmul_precision("tensorfloat32" if tf32 else "highest"):
            yield
    elif backend() == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = tf32
        yield
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(tf32)
        yield


def storage(name):
    """The type that arrays have at a precision."""
    return "bfloat16" if name == "bfloat16" else "float32"


# Parts: functions of the options that return rows -------------------------------------------------


def limits(options):
    """The rate of products, by precision."""
    from limits import matrix_product

    size, rows = options.peak_size, []
    for name in PRECISIONS:
        with precision(name):
            (times,) = take_turns({name: steady(matrix_product(size, storage(name)))}, 5).values()
        rates = [2 * size**3 / (1e6 * milliseconds) for milliseconds in times]
        rows.append(row(f"product of {size}×{size}, {name}", "GFLOP/s", rates, precision=name))
    return rows


def trainer(layer, width, batch):
    """A step of gradient descent with momentum on one layer, that returns its loss."""
    import keras
    import numpy as np
    from keras import ops

    model = keras.Sequential([keras.Input((width,), dtype=layer.compute_dtype), layer])
    optimizer = keras.optimizers.SGD(1e-4, momentum=0.9)
    optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    x, y = (
        ops.convert_to_tensor(random.normal(size=(batch, width)), layer.compute_dtype)
        for _ in range(2)
    )
    return STEPS[backend()](model, optimizer, x, y)


def _error(outputs, y):
    from keras import ops

    return ops.mean(ops.square(ops.cast(outputs - y, "float32")))


def _jax_step(model, optimizer, x, y):
    import jax

    def loss(trainable, fixed):
        return _error(model.stateless_call(trainable, fixed, x, training=True)[0], y)

    @jax.jit
    def step(trainable, state, fixed):
        value, gradients = jax.value_and_grad(loss)(trainable, fixed)
        return value, *optimizer.stateless_apply(state, gradients, trainable)

    fixed = [v.value for v in model.non_trainable_variables]
    carry = [[v.value for v in some] for some in (model.trainable_variables, optimizer.variables)]

    def advance():
        value, *carry[:] = step(*carry, fixed)
        return value

    return advance


def _torch_step(model, optimizer, x, y):
    variables = model.trainable_variables

    def advance():
        value = _error(model(x, training=True), y)
        model.zero_grad()
        value.backward()
        optimizer.apply([v.value.grad for v in variables], variables)
        return value.detach()

    return advance


def _tensorflow_step(model, optimizer, x, y):
    import tensorflow as tf

    variables = model.trainable_variables

    @tf.function(jit_compile=True)
    def advance():
        with tf.GradientTape() as tape:
            value = _error(model(x, training=True), y)
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    return advance


STEPS = {"jax": _jax_step, "torch": _torch_step, "tensorflow": _tensorflow_step}


def training_step(options):
    """A factored layer's step beside a plain one's."""
    rows = []
    for name in PRECISIONS:
        for width in options.widths:
            for batch in options.batches:
                with precision(name):
                    rows += _layers(name, width, batch, options.rounds)
    return rows


def _layers(name, width, batch, rounds):
    import keras

    from keras_overparam import FactoredDense

    policy = "mixed_bfloat16" if name == "bfloat16" else "float32"
    layers = {
        "Dense": keras.layers.Dense(width, dtype=policy),
        "FactoredDense": FactoredDense(width, depth=2, dtype=policy, factorization="independent"),
    }
    jobs = {which: steady(trainer(layer, width, batch)) for which, layer in layers.items()}
    times, where = take_turns(jobs, rounds), f"width {width}, batch {batch}, {name}"
    facts = {"width": width, "batch": batch, "precision": name}
    return [
        *(row(f"{which}, {where}", "ms per step", times[which], **facts) for which in layers),
        ratio_row(f"FactoredDense / Dense, {where}", times, *reversed(layers), **facts),
    ]


def end_to_end_step(options):
    """The rule's step beside Muon's, by shape and move of the kernel."""
    from end_to_end_step import MOVES, job, optimizers

    rows = []
    for width in options.widths:
        for move in MOVES:
            known = optimizers(None)
            peers = {name: known[name] for name in ("Muon", "EndToEnd, exact", "EndToEnd, kept")}
            with precision("float32"):
                jobs = {
                    name: job(optimizer, (width, width), None, move, options.steps)
                    for name, optimizer in peers.items()
                }
                times = take_turns(jobs, options.rounds)
            where = f"{width}×{width}, full rank, {move:g}"
            rows += [row(f"{name}, {where}", "ms per step", times[name]) for name in peers]
            rows += [
                ratio_row(f"{name} / Muon, {where}", times, name, "Muon")
                for name in ("EndToEnd, exact", "EndToEnd, kept")
            ]
    return rows


def sweep(options):
    """The engine's iterations on a problem of the paper's size, as a share of the peak."""
    import numpy as np
    from limits import matrix_product
    from sweep import engine, timed

    random, rows = np.random.default_rng(0), []
    features = random.normal(size=(options.examples, 128))
    target = features @ random.normal(size=128)
    with precision("float32"):
        peak = steady(matrix_product(options.peak_size))
        for count in options.configurations:
            job = timed(engine(features, target, 2, count), options.steps)
            times = take_turns({"peak": peak, "engine": job}, options.rounds)
            work = 4 * features.size * count * options.steps
            per_operation = np.array(times["peak"]) / (2 * options.peak_size**3)
            what, facts = f"engine, depth 2, {count} configurations", {"configurations": count}
            each = np.array(times["engine"]) * 1e3 / (options.steps * count)
            rows.append(row(what, "µs per configuration-iteration", each, **facts))
            share = work * per_operation / times["engine"]
            rows.append(row(f"share of the peak, {what}", "ratio", share, **facts))
    return rows


def conversion(options):
    """An application there and back, at the precision that the backend computes in by itself."""
    from conversion import converted

    chosen = argparse.Namespace(size=options.size, batch=8, depth=2, rounds=options.rounds, steps=3)
    rows, found = converted(options.model, chosen)
    ways = ("difference_overparameterized", "difference_collapsed")
    return rows + [row(f"{options.model}, {way}", "of the largest", [found[way]]) for way in ways]


def determinism(options):
    """How many of two trainings of one seed end with the same bits, as it is and by the switch."""
    rows = []
    for how, switch in (("as it is", {}), ("with the switch", DETERMINISTIC[backend()])):
        digests = {_digest_elsewhere(options, switch) for _ in range(2)}
        same = row(f"the same bits twice, {how}", "of 2", [3 - len(digests)], switch=switch)
        rows.append(same)
    return rows


def _digest_elsewhere(options, switch):
    command = [sys.executable, __file__, "--digest", "--steps", str(options.steps)]
    run = subprocess.run(
        command, env=os.environ | switch, stdout=subprocess.PIPE, text=True, check=True
    )
    return run.stdout.splitlines()[-1]


def digest(steps):
    """Digest of a small convolutional network's weights after some steps."""
    import keras
    import numpy as np

    from keras_overparam import FactoredConv2D, FactoredDense

    if os.environ.get("DETERMINISTIC"):
        import torch

        torch.use_deterministic_algorithms(True)
    keras.utils.set_random_seed(0)
    flat, pool = keras.layers.Flatten(), keras.layers.MaxPooling2D()
    layers = [FactoredConv2D(16, 5, activation="relu"), pool, flat, FactoredDense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *layers])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(64 * steps, 28, 28, 1)).astype("float32")
    model.fit(x, x[:, :10, 0, 0], batch_size=64, verbose=0)
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(weight.tobytes())
    return found.hexdigest()


def main_job(options):
    """The main job's epochs, beside the processor's on record."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "reproduce" / "mnist_cnn.py", "--overparam"]
        command += ["--epochs", str(options.epochs), "--dataset", options.dataset]
        command += ["--archives", options.archives] * bool(options.archives)
        subprocess.run([*map(str, command), "--output", folder], check=True)
        (path,) = Path(folder).glob("*/record.jsonl")
        record = records.Record.at(path)
        epochs, outcome = record.of_kind("epoch"), record.outcome()
    rows = [
        row("main job, test error", "%", [outcome["test_error_percent"]]),
        row("main job", "ms per step", [epochs[-1]["milliseconds_per_step"]]),
        row("main job, first epoch, compilation in it", "s", [epochs[0]["seconds"]]),
    ]
    what = f"validation error after {options.epochs} epochs"
    rows.append(row(f"main job, {what}", "%", [epochs[-1]["validation_error_percent"]]))
    there = [published["validation_error_percent"] for published in _on_record(options.epochs)]
    return rows + ([row(f"on record for processors, {what}", "%", there)] if there else [])


def _on_record(epoch):
    """The given epoch of the published runs of the overparameterized network."""
    for path in sorted((ROOT / "assets" / "mnist_cnn").glob("mnist-depth2-product-*.jsonl.gz")):
        record = records.Record.at(path)
        if record.of_kind("start")[0]["settings"]["learning_rate"] == 0.01:
            yield from (line for line in record.of_kind("epoch") if line["epoch"] == epoch)


# All of them --------------------------------------------------------------------------------------


def in_another_process(part, options, arguments, seconds):
    """What a part found, or how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.json"
        command = [sys.executable, __file__, *arguments, "--worker", part, "--output", str(path)]
        started = time.monotonic()
        try:
            code = subprocess.run(command, timeout=seconds).returncode
            ended = None if code == 0 else f"ended with status {code}"
        except subprocess.TimeoutExpired:
            ended = f"took longer than the {seconds:.0f} s that were left"
        found = json.loads(path.read_text()) if path.exists() else {"rows": []}
    taken = round(time.monotonic() - started, 1)
    return found | {"seconds": taken} | ({"failed": ended} if ended else {})


def work(part, options):
    """Leave a part's rows, with what they were measured on."""
    rows = globals()[part](options)
    from running import machine

    for line in rows:
        print(f"{line['what']:64s} {line['median']:10.4g} {line['unit']}", flush=True)
    where = {"device": machine.device_name(), "versions": records.versions()}
    records.write_json(options.output, where | {"rows": rows})


def parse(arguments=None):
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    count, several = {"type": positive(int)}, {"type": positive(int), "nargs": "+"}
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", **count, default=450, help="for all of it (%(default)s)")
    parser.add_argument("--archives", help="folder with the four MNIST archives")
    parser.add_argument("--dataset", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--epochs", **count, default=2, help="of the main job (%(default)s)")
    parser.add_argument("--widths", **several, default=[512, 2048, 8192])
    parser.add_argument("--batches", **several, default=[64, 512, 4096])
    parser.add_argument("--configurations", **several, default=[128, 1024, 4096, 16_384])
    parser.add_argument("--examples", **count, default=2565, help="of the sweep's problem")
    parser.add_argument("--peak-size", **count, default=8192)
    parser.add_argument("--model", default="ResNet50", help="of keras.applications")
    parser.add_argument("--size", **count, default=224, help="of its images")
    parser.add_argument("--rounds", **count, default=5)
    parser.add_argument("--steps", **count, default=20)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--wheels", action="store_true", help="print what it needs, and end")
    parser.add_argument("--worker", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--digest", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measure all parts for which there is time, and leave after each what there is so far."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    if options.wheels:
        print(*NEEDS)
    elif options.digest:
        print(digest(options.steps))
    elif options.worker:
        work(options.worker, options)
    else:
        measure(options, arguments)


def measure(options, arguments):
    """All parts."""
    output = options.output or ROOT / "assets" / f"benchmark_gpu_{backend()}.json"
    deadline, found = time.monotonic() + options.seconds, {}
    for part in options.parts:
        left = deadline - time.monotonic()
        print(f"\n== {part}, {left:.0f} s left", flush=True)
        if left < LEAST:
            found[part] = {"rows": [], "failed": f"left out: {left:.0f} s were left"}
        else:
            found[part] = in_another_process(part, options, arguments, left)
        records.write_json(output, {"parts": found})
    failed = {part: what["failed"] for part, what in found.items() if "failed" in what}
    print(f"\nResults: {output}")
    if failed:
        sys.exit(f"gpu.py: error: {failed}")


if __name__ == "__main__":
    main()
