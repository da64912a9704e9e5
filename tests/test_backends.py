"""The scripts on JAX and on PyTorch, where TensorFlow is not installed, end where it ends."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from faults.contents import lost_lines, recorded

import consequences
import end_to_end_rule
import gas_sensor
import report
from experiments.consequences import runs as consequences_runs
from experiments.gas_sensor import results
from experiments.vector_field import field
from experiments.vector_field.figures import report as report_of_field
from experiments.vector_field.settings import Settings as FieldSettings
from keras_overparam.sweep import engine
from running import records

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ["jax", "torch"]
DIGITS = ["--dataset", "digits"]
MAIN = ["--overparam", *DIGITS, "--epochs", "2", "--seeds", "3", "--device", "cpu"]
SWEEP = ["--dataset", "diabetes", "--iterations", "20", "--seeds", "0", "1"]
RULE = [*SWEEP, "--problems", "l2", "l4", "--depths", "2"]
MEMORY = ["--dataset", "diabetes", "--seeds", "0"]
MEMORY_STEPS = 100
INTERRUPTED = 130
# What is not there on a backend, by script and options: what its sentence says.
REFUSED = {
    "jax": [
        ("mnist_cnn", "--device gpu:99", "gpu:99 asks for a GPU, but JAX sees"),
        ("gas_sensor", "--strategy multi-worker", "KERAS_BACKEND=jax has mirrored"),
        ("other_networks", "--publish", "KERAS_BACKEND is jax; leave --publish out"),
    ],
    "torch": [
        ("consequences", "--device gpu:99", "gpu:99 asks for a GPU, but PyTorch sees"),
        ("mnist_cnn", "--strategy mirrored", "mirrored is not there on the backend torch"),
        ("gas_sensor", "--strategy multi-worker", "multi-worker is not there on the backend torch"),
        ("probe", "--publish", "KERAS_BACKEND is torch; leave --publish out"),
    ],
}
# Command lines, one after another, in a process that has no TensorFlow. The first one is
# interrupted after an epoch, and started again; the sweeps go on where TensorFlow left off.
SCRIPT = """
import sys
sys.modules["tensorflow"] = None
import importlib, json, pathlib
import consequences, end_to_end_rule, gas_sensor, mnist_cnn, report
from experiments.consequences import runs as consequences_runs
from experiments.mnist import training

job = json.loads(sys.argv[1])
epoch = training.Run._epoch

def interrupted(*arguments):
    epoch(*arguments)
    raise KeyboardInterrupt

training.Run._epoch = interrupted
try:
    mnist_cnn.main(job["main"])
except SystemExit as ended:
    assert ended.code == 130
training.Run._epoch = epoch
mnist_cnn.main(job["main"])
gas_sensor.main(job["sweep"])
end_to_end_rule.main(job["rule"])
consequences_runs.STEPS = job["memory_steps"]
consequences.main(job["memory"])
report.main(["--output", job["report"]])

def refused(script, options):
    try:
        importlib.import_module(script).main([*options.split(), "--output", job["refused"]])
    except SystemExit as ended:
        return ended.code

said = [refused(script, options) for script, options, _ in job["refusals"]]
pathlib.Path(job["refused"]).write_text(json.dumps(said))
assert sys.modules["tensorflow"] is None
"""


def commands(folder):
    given = {"main": MAIN, "sweep": SWEEP, "rule": RULE, "memory": MEMORY}
    return {name: [*line, "--output", str(folder / name)] for name, line in given.items()}


def python(*arguments, backend, **environment):
    """A process of Python on another backend, which must end well or be interrupted."""
    pytest.importorskip(backend, reason="the extra test or torch installs it")
    path = os.pathsep.join([str(ROOT), str(ROOT / "reproduce")])
    run = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode in (0, INTERRUPTED), run.stderr[-3000:]
    assert "UserWarning" not in run.stderr
    return run


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Folder of sweeps that are interrupted on this backend, within the first."""
    folder = tmp_path_factory.mktemp("begun") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Clock, "rang", lambda _: True)
        save = engine.Checkpoint.save

        def interrupted(checkpoint, arrays):
            save(checkpoint, arrays)
            if arrays["iteration"] > 5:
                raise KeyboardInterrupt

        patch.setattr(engine.Checkpoint, "save", interrupted)
        with pytest.raises(SystemExit):
            gas_sensor.main([*SWEEP, "--output", str(folder)])
    assert len(list(folder.glob("*/sweep*.npz"))) == 1
    return folder


@pytest.fixture(scope="module", params=BACKENDS)
def elsewhere(request, tmp_path_factory, begun):
    """Folder of what the scripts left on another backend, and its name."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(begun, folder / "sweep")
    files = {name: str(folder / name) for name in ("report", "refused")}
    job = commands(folder) | files | {"memory_steps": MEMORY_STEPS}
    job["refusals"] = REFUSED[request.param]
    python("-c", SCRIPT, json.dumps(job), backend=request.param)
    return folder, request.param


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Folder of what they leave on this one."""
    folder = tmp_path_factory.mktemp("here")
    gas_sensor.main(commands(folder)["sweep"])
    end_to_end_rule.main(commands(folder)["rule"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consequences_runs, "STEPS", MEMORY_STEPS)
        consequences.main(commands(folder)["memory"])
    report.main(["--output", str(folder / "report")])
    return folder


def test_the_main_job_is_interrupted_and_goes_on(elsewhere):
    folder, backend = elsewhere
    (run,) = (path for path in (folder / "main").iterdir() if path.is_dir())
    record = records.Record(run)
    assert f"-{backend}-" in run.name
    assert record.backends() == {backend}
    assert record.lines()[0]["versions"][backend]
    assert len(record.of_kind("resume")) == 1 and len(record.of_kind("epoch")) == 2
    outcome = record.outcome()
    assert outcome["status"] == "finished" and outcome["test_error_percent"] < 60  # of ten classes
    assert outcome["collapsed_largest_difference"] < 1e-3
    assert {"model.keras", "collapsed.keras", "figure.png"} <= {path.name for path in run.iterdir()}
    assert len(list((run / "tensorboard").glob("events*"))) == 3  # two trainings, and the figure


def same_runs(here, folder, script, number):
    """The folders of each run of a script, here and on the other backend."""
    runs = [path for path in (here / script).iterdir() if path.is_dir()]
    assert len(runs) == number
    return [(path, folder / script / path.name) for path in runs]


def test_sweeps_leave_the_same_losses_under_the_same_names(elsewhere, here):
    folder, _ = elsewhere
    for both in same_runs(here, folder, "sweep", 6):
        expected, found = map(results.load, both)
        assert found.rates.tolist() == expected.rates.tolist()
        np.testing.assert_allclose(found.curves, expected.curves, rtol=1e-4)


def test_a_sweep_that_went_on_on_another_backend_says_so(elsewhere, here):
    folder, backend = elsewhere
    found = [records.Record(run).backends() for _, run in same_runs(here, folder, "sweep", 6)]
    assert sorted(map(sorted, found)) == sorted([sorted([backend, "tensorflow"]), *[[backend]] * 5])


def test_the_rule_and_its_networks_end_alike_in_float64(elsewhere, here):
    folder, backend = elsewhere
    for both in same_runs(here, folder, "rule", 8):
        expected, found = (records.Record(run).outcome() for run in both)
        for name in ("loss", "rule_loss", "largest_difference"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-15)
        assert records.Record(both[1]).backends() == {backend}


def assert_same_consequences(found, expected):
    for name in ("error", "error_at_half_the_rate"):
        np.testing.assert_allclose(found["memory"][name], expected["memory"][name], rtol=1e-6)
    integrals = [[one["integral"] for one in o["loops"]["integrals"]] for o in (found, expected)]
    # At depth 1 it is zero, but for rounding; at depth 2, small beside those of deeper networks.
    np.testing.assert_allclose(*integrals, rtol=1e-6, atol=1e-9 * max(integrals[1]))


def test_consequences_are_the_same_in_float64(elsewhere, here):
    folder, backend = elsewhere
    found, expected = (records.Record(where / "memory") for where in (folder, here))
    assert found.backends() == {backend}
    assert_same_consequences(found.outcome(), expected.outcome())


def test_the_page_of_all_results_is_the_same(elsewhere, here):
    assert (elsewhere[0] / "report").read_bytes() == (here / "report").read_bytes()


def test_what_is_not_there_is_refused_in_a_sentence(elsewhere):
    folder, backend = elsewhere
    said = json.loads((folder / "refused").read_text())
    for sentence, (script, _, part) in zip(said, REFUSED[backend], strict=True):
        assert sentence.startswith(f"{script}.py: error: ") and "\n" not in sentence
        assert part in sentence


FEW = [["datasets.images", "DIGITS_TEST_COUNT", 1397]]  # 400 images are left: five steps an epoch
SMALL_PROBE = [
    ["experiments.probe.runs", "DIRECTIONS", 1],
    ["experiments.probe.runs", "DEPTHS", [2]],
]
SMALL_MODELS = [
    ["experiments.gas_sensor.models", "POWERS", [2, 4]],
    ["experiments.gas_sensor.models", "DEPTHS", [1, 2]],
    ["experiments.gas_sensor.models", "SCALES", [0.1]],
    ["experiments.gas_sensor.runs", "EXTENSIONS", 1],
    ["experiments.consequences.runs", "STEPS", MEMORY_STEPS],
]
EPOCH = "experiments.mnist.training:Run._epoch"
TRIED = ["experiments.mnist.tuning", "MOST_VALUES", 2]
# Of each script: options, what is made smaller, what it is interrupted after, how often that is
# done before, and what it leaves beside its runs.
EVERY_SCRIPT = {
    "mnist_cnn": (["--compare", *DIGITS, "--epochs", "2"], FEW, EPOCH, 3, "compare-*.png"),
    "mnist_rates": ([*DIGITS, "--epochs", "1"], [*FEW, TRIED], EPOCH, 3, "rates.png"),
    "other_networks": (
        ["--networks", "lenet5", *DIGITS, "--epochs", "1"],
        [*FEW, ["experiments.mnist.tuning", "MOST_VALUES", 1]],
        EPOCH,
        2,
        "networks.png",
    ),
    "probe": (
        ["--problems", "Linnerud, l2", "iris, l4", "--horizon", "80"],
        SMALL_PROBE,
        "experiments.probe.runs:measure",
        2,
        "probe.png",
    ),
    "all": (
        ["--dataset", "diabetes", "--iterations", "20"],
        SMALL_MODELS,
        "experiments.gas_sensor.runs:train_part",
        2,
        "*/end_to_end_rule.png",
    ),
    "explain": (
        ["--problems", "2"],
        [],
        "experiments.vector_field.field:iterations_needed",
        2,
        "vector_field.gif",
    ),
}
PRINTED = "printed"
# A script as a command, without TensorFlow, made smaller, and perhaps interrupted.
COMMAND = """
import functools, importlib, json, os, runpy, sys

if os.environ["KERAS_BACKEND"] != "tensorflow":
    sys.modules["tensorflow"] = None
job = json.loads(sys.argv[1])
for module, name, value in job["smaller"]:
    setattr(importlib.import_module(module), name, value)

def interrupt(module, names, count):
    *owner, name = names.split(".")
    owner = functools.reduce(getattr, owner, importlib.import_module(module))
    function, done = getattr(owner, name), []

    def interrupted(*arguments, **options):
        result = function(*arguments, **options)
        done.append(result)
        if len(done) == count:
            raise KeyboardInterrupt
        return result

    setattr(owner, name, interrupted)

if job["after"]:
    interrupt(*job["after"].split(":"), job["count"])
sys.argv = job["command"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_script(name, folder, backend, interrupted, **environment):
    """A script of `EVERY_SCRIPT` as a command on a backend."""
    options, smaller, after, count, _ = EVERY_SCRIPT[name]
    command = [str(ROOT / "reproduce" / f"{name}.py"), *options, "--output", str(folder)]
    job = {"command": command, "smaller": smaller, "after": interrupted and after, "count": count}
    return python("-c", COMMAND, json.dumps(job), backend=backend, **environment)


@pytest.fixture(scope="module", params=BACKENDS)
def finished(request, tmp_path_factory):
    """A function that interrupts a script once and then finishes it: what it left."""

    @functools.cache
    def left_by(name):
        folder = tmp_path_factory.mktemp(f"{request.param}-{name}")
        run = run_script(name, folder, request.param, interrupted=True)
        assert run.returncode == INTERRUPTED and "The same command" in run.stderr
        before = recorded(folder)
        run = run_script(name, folder, request.param, interrupted=False)
        assert run.returncode == 0
        (folder / PRINTED).write_text(run.stdout)
        assert not lost_lines(before, recorded(folder))
        return folder

    return request.param, left_by


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_SCRIPT)
def test_every_script_is_interrupted_and_goes_on(finished, name):
    backend, left_by = finished
    folder = left_by(name)
    (figure,) = folder.glob(EVERY_SCRIPT[name][-1])
    assert figure.stat().st_size > 10_000
    found = [records.Record.at(path) for path in folder.rglob("record.jsonl")]
    assert len(found) >= 2 or name == "explain"
    for record in found:
        assert record.outcome() and record.backends() == {backend}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Folder of what `all.py` and `probe.py` leave on this backend, in a process of their own."""
    folder = tmp_path_factory.mktemp("expected")
    for name in ("all", "probe"):
        run_script(name, folder / name, "tensorflow", interrupted=False)
    return folder


@pytest.mark.slow
def test_all_experiments_have_the_same_losses(finished, expected):
    folder = finished[1]("all")
    for both in same_runs(expected / "all", folder, "gas_sensor", 31):
        here, there = map(results.load, both)
        assert there.rates.tolist() == here.rates.tolist()
        np.testing.assert_allclose(there.curves, here.curves, rtol=1e-4)
    for both in same_runs(expected / "all", folder, "end_to_end_rule", 21):
        here, there = (records.Record(run).outcome() for run in both)
        for name in ("loss", "rule_loss", "largest_difference"):
            np.testing.assert_allclose(there[name], here[name], rtol=1e-5, atol=1e-15)
    outcomes = (
        records.Record(where / "consequences").outcome() for where in (folder, expected / "all")
    )
    assert_same_consequences(*outcomes)


@pytest.mark.slow
def test_the_probe_expects_the_same(finished, expected):
    backend, left_by = finished
    for run in (expected / "probe").glob("*/record.jsonl"):
        slug, _, horizon = run.parent.name.rpartition("-")
        there = left_by("probe") / f"{slug}-{backend}-{horizon}"  # chaotic runs may differ
        advice = [records.Record(one).outcome()["advice"] for one in (run.parent, there)]
        assert advice[0]["depth"] == advice[1]["depth"]
        for what in ("expected", "measured"):
            np.testing.assert_allclose(*(list(one[what].values()) for one in advice), rtol=1e-3)


@pytest.mark.slow
def test_the_field_of_arrows_is_the_same_in_float64(finished):
    printed = (finished[1]("explain") / PRINTED).read_text().splitlines()
    expected = report_of_field(field.compute(FieldSettings(problems=2)))
    (line,) = [line for line in expected if line.startswith("depth 1, loop")]
    assert set(expected) - {line} < set(printed)
    (integral,) = re.findall(r"depth 1, loop: (\S+), closed form 0", "\n".join(printed))
    assert abs(float(integral)) < 1e-15


# Trains networks from the weights that TensorFlow drew, without dropout, whose masks each backend
# draws for itself; of smaller weights and rates than the tutorial's, which magnify a rounding error
# ten thousand times.
FROM_WEIGHTS = """
import sys
weights, output, backend = sys.argv[1:]
if backend != "tensorflow":
    sys.modules["tensorflow"] = None
import os, pathlib
import numpy as np
from keras import layers
from datasets import images
from experiments.mnist import other_networks, training, tutorial_cnn
from experiments.mnist.other_settings import Settings as OtherSettings
from experiments.mnist.settings import Settings

layers.Dropout = lambda rate, seed, name=None: layers.Identity(name=name)
common = {"epochs": 2, "dataset": "digits", "learning_rate": 0.002}
RUNS = {
    "original": Settings(depth=1, init_stddev=0.05, **common),
    "product": Settings(depth=2, init_stddev=0.05, **common),
    "factors": Settings(depth=2, init_stddev=0.05, regularize="factors", **common),
    "lenet5": OtherSettings("lenet5", "all", **common),
    "keras_example": OtherSettings("keras_example", "none", **common),
    "resnet8": OtherSettings("resnet8", "dense", **common),
}

def with_weights(build):
    def built(settings, shape):
        network = build(settings, shape)
        (name,) = [name for name, one in RUNS.items() if one == settings]
        path = pathlib.Path(weights) / f"{name}.npz"
        if path.exists():
            with np.load(path) as arrays:
                network.set_weights([arrays[key] for key in arrays.files])
        else:
            np.savez(path, *network.get_weights())
        return network
    return built

for module in (tutorial_cnn, other_networks):
    module.build_network = with_weights(module.build_network)
data = images.load_images("digits")
for name, settings in RUNS.items():
    training.train(settings, data, pathlib.Path(output) / name)
"""


@pytest.mark.slow
def test_networks_are_trained_alike_from_the_same_weights(tmp_path):
    (tmp_path / "weights").mkdir()
    for backend in ("tensorflow", *BACKENDS):
        arguments = [tmp_path / "weights", tmp_path / backend, backend]
        python("-c", FROM_WEIGHTS, *arguments, backend=backend)
    for expected in (tmp_path / "tensorflow").iterdir():
        for backend in BACKENDS:
            here, there = map(records.Record, (expected, tmp_path / backend / expected.name))
            for name in ("objective", "cross_entropy", "l2"):
                curves = [[e[name] for e in one.of_kind("epoch")] for one in (here, there)]
                # TensorFlow sums less exactly, by which gradients through a normalization are off.
                rtol = 1e-3 if expected.name == "resnet8" else 1e-4
                np.testing.assert_allclose(*curves, rtol=rtol, err_msg=expected.name)
            logits = [one.outcome()["largest_logit"] for one in (here, there)]
            np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["mnist_cnn", "gas_sensor"])
def test_two_devices_train_as_one_on_jax(script, tmp_path):
    # Of smaller weights than the tutorial's, see above.
    line = [*MAIN, "--init-stddev", "0.05"] if script == "mnist_cnn" else SWEEP
    folders = []
    for strategy, replicas in (("none", 1), ("mirrored", 2)):
        path, output = ROOT / "reproduce" / f"{script}.py", tmp_path / strategy
        flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
        python(path, *line, "--strategy", strategy, "--output", output, backend="jax", **flags)
        folders.append(sorted(path.parent for path in output.glob("*/record.jsonl")))
        for folder in folders[-1]:
            start = records.Record(folder).lines()[0]
            assert start.get("distribution", start)["replicas"] == replicas
    for one, two in zip(*folders, strict=True):
        if script == "gas_sensor":
            curves = results.load(one).curves, results.load(two).curves
        else:
            epochs = (records.Record(folder).of_kind("epoch") for folder in (one, two))
            curves = ([epoch["objective"] for epoch in lines] for lines in epochs)
        np.testing.assert_allclose(*curves, rtol=1e-4)


# What `--jit` and `--mixed-precision` make of a network that is trained with them.
OPTIONS = """
import json, sys
from datasets import images
from experiments.mnist import training
import mnist_cnn

images.DIGITS_TEST_COUNT = 1397
found, finish = [], training.Run._finish

def look(run, status):
    network = run.network
    found.append({
        "compiled": network.jit_compile,
        "computes": [network.get_layer(name).compute_dtype for name in ("dense1", "logits")],
        "scales": type(network.optimizer).__name__ == "LossScaleOptimizer",
    })
    return finish(run, status)

training.Run._finish = look
for arguments in json.loads(sys.argv[1]):
    mnist_cnn.main(arguments)
assert "tensorflow" not in sys.modules  # which may be installed
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_options_of_training_do_what_they_say(backend, tmp_path):
    cases = {
        ("auto", "off"): (backend == "jax", "float32"),
        ("off", "float16"): (False, "float16"),
        ("on", "bfloat16"): (True, "bfloat16"),
    }
    options = ["--overparam", *DIGITS, "--epochs", "1", "--device", "cpu"]
    lines = [
        [*options, "--jit", jit, "--mixed-precision", policy, "--output", str(tmp_path)]
        for jit, policy in cases
    ]
    run = python("-c", OPTIONS, json.dumps(lines), backend=backend)
    found = json.loads(run.stdout.splitlines()[-1])
    for one, (compiled, computes) in zip(found, cases.values(), strict=True):
        assert one["compiled"] is compiled
        assert one["computes"] == [computes, "float32"]
        assert one["scales"] == (computes == "float16")
    outcomes = [records.Record(folder).outcome() for folder in tmp_path.iterdir()]
    assert [outcome["status"] for outcome in outcomes] == ["finished"] * len(cases)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_everything_published_is_made_alike(backend, tmp_path):
    for name in ("assets", "docs", "keras_overparam", "reproduce"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    made = [*tmp_path.glob("assets/*.json"), *tmp_path.glob("docs/generated/*")]
    texts = {path: path.read_bytes() for path in [tmp_path / "README.md", *made]}
    for figure in tmp_path.glob("assets/*.png"):
        figure.unlink()
    script = tmp_path / "reproduce" / "claims.py"
    code = "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]"
    code += "; runpy.run_path(sys.argv[0], run_name='__main__')"
    path = os.pathsep.join([str(tmp_path), str(tmp_path / "reproduce")])
    python("-c", code, script, "--write", backend=backend, PYTHONPATH=path)
    assert texts == {path: path.read_bytes() for path in texts}
    assert {path.name for path in tmp_path.glob("assets/*.png")} == {
        path.name for path in (ROOT / "assets").glob("*.png")
    }
