"""Keras's own tests, with this package's classes in the place of the stock ones.

    .venv/bin/python tests/keras_own_tests.py tensorflow jax torch
    .venv/bin/python tests/keras_own_tests.py jax --source keras-3.15.1/keras/src -k DenseTest

The tests are those of the installed version, from the source distribution on PyPI, which is
downloaded into a temporary folder: the package that pip installs has none. First `FactoredDense`
and the others stand where `Dense` and the others did, then `EndToEnd` with depth 1, which is plain
gradient descent, where `SGD` did. Each failure is one of those listed here with its reason, or is
printed, and the exit status is 1. What fails with the stock classes too does not count: such tests
are run again without this package. Takes about half an hour a backend on one CPU core.
"""

import argparse
import fnmatch
import importlib.metadata
import json
import linecache
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

FILES = {
    "layers": [
        *("layers/layer_test.py", "layers/core/dense_test.py", "layers/core/einsum_dense_test.py"),
        *("layers/convolutional/conv_test.py", "layers/convolutional/depthwise_conv_test.py"),
        *("layers/attention/multi_head_attention_test.py", "layers/core/wrapper_test.py"),
        *("layers/rnn/time_distributed_test.py", "layers/rnn/bidirectional_test.py"),
        *("models/cloning_test.py", "models/sequential_test.py", "models/functional_test.py"),
        *("models/model_test.py", "models/variable_mapping_test.py"),
        *("saving/saving_lib_test.py", "saving/saving_api_test.py", "saving/file_editor_test.py"),
        *("saving/serialization_lib_test.py", "saving/object_registration_test.py"),
        *("callbacks", "trainers/trainer_test.py", "trainers/compile_utils_test.py"),
    ],
    "optimizer": [
        *("optimizers/sgd_test.py", "optimizers/optimizer_test.py", "optimizers/muon_test.py"),
        *("optimizers/loss_scale_optimizer_test.py", "optimizers/multi_optimizer_test.py"),
        *("optimizers/optimizer_sparse_test.py", "optimizers/schedules", "callbacks"),
        *("models/model_test.py", "saving/saving_lib_test.py", "saving/saving_api_test.py"),
        *("trainers/trainer_test.py", "trainers/compile_utils_test.py"),
    ],
}
LAYERS = [
    *("Dense", "EinsumDense", "MultiHeadAttention"),
    *("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D"),
]
SECONDS = 900  # for one test
# Tests that start processes: these would need this plugin too.
LEFT_OUT = "not multiprocessing"

# What fails, by a part of the reason, or by a pattern of the test's name where there is a `::`.
# docs/compatibility.md says the same.
DIFFERENCES = {
    "refused: quantization": [
        "is left as it is: its kernel is a product of factors",
        "cannot have the weights of a quantized type",
        # What a refusal leaves undone is found by a later line, or is caught by the test.
        "*::test_*quantize*",
        "*::test_awq*",
        "*::test_gptq*",
    ],
    "refused: LoRA": ["`lora_rank` is not supported by", "*::test_enable_lora*"],
    "refused: kernel constraints": ["`kernel_constraint` is not supported by"],
    "refused: weights of a stock layer": [
        "its factors first. Load those of a stock layer into a stock layer",
        "*::test_model_api_endpoint_h5",
    ],
    "counts, names or shapes of the variables": [
        *("*::LayerTest::test_build_on_call", "*::LayerTest::test_layer_tracking"),
        *("*::LayerTest::test_metric_tracking", "*::LayerTest::test_trainable_init_arg"),
        *("*::SequentialTest::test_*flow*", "*::ModelTest::test_?et_state_tree"),
        *("*::VariableMappingTest::*", "*::SaveModelTests::test_objects_to_skip"),
        *("saving/file_editor_test.py::*::test_basics", "*::SavingTest::test_scalar_weight"),
        "*::DenseTest::test_dense_sparse",  # the gradient of the kernel, which is no variable
        "inhomogeneous shape after 1 dimensions",  # of a model's weights, put into one array
    ],
    "sparse gradients, where the factors are multiplied first": ["*::test_fit_sparse_*"],
    "the class of a configuration that names the stock layer": [
        "*::SerializationLibTest::test_*registered_name*_passes_through"
    ],
    # On JAX one entry of 3,430 is 4.7e-5 and should be 4.5e-5, to 1e-3 of that and 1e-6.
    "rounding, where terms cancel": ["*::ConvCorrectnessTest::test_conv3d0"],
    "the losses of a training of the stock layer": [
        *("*::TestTrainer::test_fit_flow*", "*::TestTrainer::test_on_batch_methods_*"),
        *("*::TestTrainer::test_loss_weights", "*::TestTrainer::test_nested_inputs"),
    ],
}


# As a plugin of pytest, in the process that runs the tests ----------------------------------------


STOCK = {}  # by identity: what stands in the place of a stock class


def pytest_configure(config):
    """Put this package's classes in the stock ones' place."""
    for marker in ("requires_trainable_backend", "multi_device"):
        config.addinivalue_line("markers", marker)
    replace = {"layers": _layers, "optimizer": _optimizer, "stock": dict}
    STOCK.update(replace[os.environ["CLASSES"]]())


def _layers():
    import keras
    from keras.src import layers

    import keras_overparam

    ours = {}
    for name in LAYERS:
        new = getattr(keras_overparam, f"Factored{name}")
        ours[id(getattr(layers, name))] = new
        setattr(layers, name, new)
        setattr(keras.layers, name, new)
    _adapt_what_tests_look_into()
    return ours


def _optimizer():
    import keras
    from keras.src import optimizers
    from keras.src.optimizers import sgd

    import keras_overparam

    class SGD(keras_overparam.EndToEnd):
        """Plain gradient descent, with the arguments of Keras's in their order."""

        def __init__(
            self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=None, **kwargs
        ):
            own = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
            super().__init__(learning_rate, **{"depth": 1, **own, **kwargs})

    SGD.__qualname__ = SGD.__name__  # a test pickles it
    globals()["SGD"] = keras.saving.register_keras_serializable(package="in_its_place")(SGD)
    ours = {id(sgd.SGD): SGD}
    optimizers.ALL_OBJECTS_DICT["sgd"] = SGD
    optimizers.SGD = sgd.SGD = keras.optimizers.SGD = SGD
    return ours


def _adapt_what_tests_look_into():
    """Count variables as the stock layers' and set their weights by `set_kernel`.

    A factored layer has other variables, by its nature; the rest of such a test is run.
    """
    import keras
    import numpy as np
    from keras.src.testing import test_case

    from keras_overparam.layers import FactoredKernel, FactoredMultiHeadAttention

    run_layer_test, set_weights = test_case.TestCase.run_layer_test, keras.Layer.set_weights
    kernel = FactoredKernel.kernel

    def without_counts(self, layer_cls, *args, **kwargs):
        kept = {k: v for k, v in kwargs.items() if not k.startswith("expected_num_trainable")}
        return run_layer_test(self, layer_cls, *args, **kept)

    def set_stock_weights(layer, weights):
        weights = list(weights)
        if isinstance(layer, FactoredMultiHeadAttention) and len(weights) != len(layer.weights):
            for inner in layer.projections:
                inner.set_weights([weights.pop(0) for _ in range(1 + (inner.bias is not None))])
        elif isinstance(layer, FactoredKernel) and (
            [np.shape(w) for w in weights[:1]] == [tuple(layer._kernel_shape)]
            and len(weights) == 1 + (getattr(layer, "bias", None) is not None)
        ):
            layer.set_kernel(weights[0])
            for value in weights[1:]:
                layer.bias.assign(value)
        else:
            set_weights(layer, weights)

    class Kernel:
        """A product that can be assigned to and is an array, as a variable is."""

        def __init__(self, layer):
            self.layer = layer

        def assign(self, value):
            self.layer.set_kernel(keras.ops.convert_to_numpy(value))

        def numpy(self):
            return keras.ops.convert_to_numpy(kernel.fget(self.layer))

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.numpy(), dtype)

        def __getattr__(self, name):
            return getattr(self.numpy(), name)

    def kernel_of(layer):
        caller = sys._getframe(1)
        line = linecache.getline(caller.f_code.co_filename, caller.f_lineno)
        by_test = caller.f_code.co_filename.endswith("_test.py")
        uses = (".assign(", "np.", ".numpy()", "assertAllClose", "_kernel_value")
        return Kernel(layer) if by_test and any(use in line for use in uses) else kernel.fget(layer)

    test_case.TestCase.run_layer_test = without_counts
    keras.Layer.set_weights = set_stock_weights
    FactoredKernel.kernel = property(kernel_of, kernel.fset)


def pytest_collection_modifyitems(items):
    """Replace what test files imported by name."""
    for item in items:
        for name, value in list(vars(item.module).items()):
            if id(value) in STOCK:
                setattr(item.module, name, STOCK[id(value)])


def pytest_runtest_setup(item):
    """End a test that takes too long."""

    def late(*_):
        raise TimeoutError(f"{item.nodeid} took more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)


def pytest_runtest_teardown():
    """Leave time to the others."""
    signal.alarm(0)


def pytest_runtest_logreport(report):
    """Keep what became of a test, at once: a process may end."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        reason = crash.message if crash else str(report.longrepr or "")[-600:]
        test = {"test": report.nodeid, "outcome": report.outcome, "reason": reason}
        with open(os.environ["OUTCOMES"], "a") as file:
            file.write(f"{json.dumps(test)}\n")


# As a command -------------------------------------------------------------------------------------


def downloaded(folder):
    """Keras's source with its tests, of the installed version."""
    version = importlib.metadata.version("keras")
    wanted = [f"keras=={version}", "--no-deps", "--no-binary", ":all:", "--dest", folder]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], check=True)
    with tarfile.open(next(Path(folder).glob("keras-*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return Path(folder) / f"keras-{version}" / "keras" / "src"


def outcomes(backend, classes, source, tests, chosen=None):
    """What became of each test: by name, of the last report of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcomes"
        environment = os.environ | {
            "KERAS_BACKEND": backend,
            "CLASSES": classes,
            "OUTCOMES": str(file),
            "PYTHONPATH": str(Path(__file__).parent),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [sys.executable, "-m", "pytest", "-p", Path(__file__).stem, "-c", os.devnull]
        options = ["-p", "no:cacheprovider", "--import-mode=importlib", "-q", "--tb=no"]
        options += ["--continue-on-collection-errors", "-W", "ignore", f"--rootdir={source}"]
        choice = ["-k", f"({chosen}) and {LEFT_OUT}" if chosen else LEFT_OUT]
        file.touch()
        run = subprocess.run(
            [*command, *options, *choice, *(str(source / test) for test in tests)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        if run.returncode not in (0, 1, 5):  # passed, some failed, none chosen
            raise RuntimeError(f"{tests} did not run to their end on {backend}:\n{run.stdout}")
        reports = [json.loads(line) for line in file.read_text().splitlines()]
    return {report["test"]: report for report in reports}


def difference(report):
    """The difference that a failure is an instance of; None if none."""
    reason = " ".join(report["reason"].split())
    for said, signs in DIFFERENCES.items():
        for sign in signs:
            if fnmatch.fnmatch(report["test"], sign) if "::" in sign else sign in reason:
                return said
    return None


def examined(backend, source, chosen, files):
    """Run the tests on a backend and print what differs; the number of failures not listed."""
    found = {}
    for classes, names in FILES.items():
        # A process each: what one leaves behind, another does not find.
        for name in (name for name in names if not files or name in files):
            tests = outcomes(backend, classes, source, [name], chosen)
            _judge(backend, source, tests)
            print(f"{backend}, {classes}, {name}: {dict(counts(tests))}", flush=True)
            found |= {(classes, test): report for test, report in tests.items()}
    print(f"\n{backend}: {len(found)} tests")
    for outcome, number in counts(found).most_common():
        print(f"{number:5} {outcome}")
    return counts(found)["NOT LISTED"]


def _judge(backend, source, tests):
    """Give each failure its reason, and run those that have none again with the stock classes."""
    for report in tests.values():
        if report["outcome"] == "failed":
            report["outcome"] = difference(report) or "NOT LISTED"
    unlisted = [test for test, report in tests.items() if report["outcome"] == "NOT LISTED"]
    stock = outcomes(backend, "stock", source, unlisted) if unlisted else {}
    for test in unlisted:
        if stock.get(test, {}).get("outcome") == "failed":
            tests[test]["outcome"] = "fails with the stock classes too"
        else:
            print(f"  NOT LISTED {test}: {' '.join(tests[test]['reason'].split())[:300]}")


def counts(tests):
    """How many tests had each outcome."""
    return Counter(report["outcome"] for report in tests.values())


def main():
    """Run the tests on the given backends."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("backends", nargs="+", choices=["tensorflow", "jax", "torch"])
    parser.add_argument("--source", type=Path, help="Keras's folder keras/src, with its tests")
    parser.add_argument("-k", dest="chosen", help="which tests, as for pytest")
    parser.add_argument("--files", nargs="+", help="which of the files, all if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = options.source.resolve() if options.source else downloaded(folder)
        failures = [
            examined(backend, source, options.chosen, options.files) for backend in options.backends
        ]
    sys.exit(any(failures))


if __name__ == "__main__":
    main()
