"""Every command line takes its options or says in one sentence which of them is wrong, and why."""

import contextlib
import io
import re

import keras
import pytest
from fuzzing import fuzzed
from hypothesis import strategies as st

import all as everything
import consequences
import end_to_end_rule
import explain
import gas_sensor
import mnist_cnn
import mnist_rates
import other_networks
import probe
import publish
import report
from datasets.gas_sensor import DATASETS, TARGETS
from experiments.end_to_end_rule import job as rule_job
from experiments.end_to_end_rule import settings as rule_settings
from experiments.gas_sensor import job as sweep_job
from experiments.gas_sensor.models import WHAT
from experiments.mnist import job as mnist_job
from experiments.mnist import other_settings as networks
from experiments.probe.problems import PROBLEMS
from running.options import LARGEST_SEED

WRONG = object()  # in the place of what an option's text means


def texts(right, wrong):
    """Pairs of a text and what it means."""
    wrong = st.sampled_from(wrong).map(lambda text: (text, WRONG))
    return st.one_of(*[st.sampled_from(list(right.items()))] * 3, wrong)


def choice(*names):
    return texts({name: name for name in names}, ["", "none of them", "0", f"{names[0]} "])


def several(one, most=2):
    """A list of pairs as a pair of lists; the same twice is wrong."""

    def joined(found):
        given, meaning = map(list, zip(*found, strict=True))
        repeated = len({str(value) for value in meaning}) < len(meaning)
        return given, WRONG if repeated or WRONG in meaning else meaning

    return st.lists(one, min_size=1, max_size=most).map(joined)


NO_NUMBERS = ["", "many", "nan", "inf", "-inf", "0", "-3", "1e999", "1j", "None", "0x10", "1,5"]
INTEGER = texts(
    {"1": 1, "7": 7, "1_0": 10, "2147483647": 2**31 - 1, " 3": 3, "٣": 3},
    [*NO_NUMBERS, "2.5", "1e3", "2147483648", "9" * 400, "9" * 5000],
)
NUMBER = texts(
    {"1": 1.0, "0.25": 0.25, "1e-3": 1e-3, "1E18": 1e18},
    [*NO_NUMBERS, "1e19", "1e-19", "5e-324", "9" * 400],
)
SEED = texts(
    {"0": 0, "12": 12, "007": 7, str(LARGEST_SEED): LARGEST_SEED},
    ["", "-1", "1.5", "many", str(LARGEST_SEED + 1), "9" * 400, "9" * 5000, "²", "None"],
)
DEVICE = texts(
    {name: name for name in ("auto", "cpu", "gpu", "gpu:0", "gpu:12")},
    ["", "tpu", "cpu:0", "gpu:", "gpu:x", "gpu:-1", "gpu:²", ":0", "GPU", "0"],
)
FOLDER = st.sampled_from(["runs", "a b", "/no/such/folder", "ünï", "."]).map(
    lambda text: (text, text)
)
FLAG = st.just(([], True))

DATA = {"--data-dir": FOLDER, "--archives": FOLDER}
IMAGES = DATA | {"--dataset": choice("auto", "mnist", "digits")}
GAS = DATA | {"--dataset": choice(*DATASETS)}
OUTPUT = {"--output": FOLDER, "--device": DEVICE, "--again": FLAG}
MACHINE = OUTPUT | {
    "--jit": choice("auto", "on", "off"),
    "--mixed-precision": choice("off", "float16", "bfloat16"),
}
RUNS = {"--seeds": several(SEED), "--epochs": INTEGER}
STRATEGY = {"--strategy": choice("none", "mirrored", "multi-worker")}
SCRIPTS = {
    mnist_cnn: {
        "--overparam": FLAG,
        "--compare": FLAG,
        "--depth": INTEGER,
        "--width": INTEGER,
        "--regularize": choice("product", "factors"),
        "--learning-rate": NUMBER,
        "--init-stddev": NUMBER,
        "--plot-only": FLAG,
    }
    | RUNS
    | IMAGES
    | MACHINE
    | STRATEGY,
    mnist_rates: {"--models": several(choice(*mnist_rates.MODELS))} | RUNS | IMAGES | MACHINE,
    gas_sensor: {
        "--experiments": several(choice(*WHAT, "all")),
        "--seeds": several(SEED),
        "--iterations": INTEGER,
        "--start-norm": NUMBER,
        "--target": choice(*TARGETS),
        "--plot-only": FLAG,
        "--redraw": FLAG,
        "--publish": FLAG,
    }
    | GAS
    | OUTPUT
    | STRATEGY,
    end_to_end_rule: {
        "--problems": several(choice(*rule_settings.DEFAULTS)),
        "--depths": several(INTEGER),
        "--seeds": several(SEED),
        "--iterations": INTEGER,
        "--start-norm": NUMBER,
        "--plot-only": FLAG,
        "--redraw": FLAG,
        "--publish": FLAG,
    }
    | GAS
    | OUTPUT,
    other_networks: {
        "--networks": several(choice(*networks.TITLES)),
        "--factored": several(choice(*networks.MODEL_NAMES)),
        "--publish": FLAG,
    }
    | RUNS
    | MACHINE
    | IMAGES,
    consequences: {"--seeds": several(SEED), "--publish": FLAG} | GAS | OUTPUT,
    probe: {
        "--problems": several(choice(*PROBLEMS)),
        "--horizon": texts({"80": 80, "5000": 5000}, [*NO_NUMBERS, "79"]),
        "--publish": FLAG,
    }
    | DATA
    | OUTPUT,
    explain: {"--problems": INTEGER, "--output": FOLDER, "--publish": FLAG},
    publish: {
        "--runs": texts({"assets": "assets", ".": "."}, ["/no/such/folder", "", "README.md"])
    },
    report: {"--output": texts({"a.html": "a.html", "x/y z": "x/y z"}, ["", ".", "assets", "/"])},
    everything: {"--iterations": INTEGER, "--output": FOLDER, "--publish": FLAG, "--device": DEVICE}
    | GAS,
}


@st.composite
def command_lines(draw):
    """A script, and some of its options: names to pairs of what is given and what it means."""
    script = draw(st.sampled_from(list(SCRIPTS)))
    options = SCRIPTS[script]
    names = draw(st.lists(st.sampled_from(list(options)), unique=True, max_size=5))
    return script, {name: draw(options[name]) for name in names}


def meaning_of(script, given):
    """What a script's options mean together, by name; WRONG if anything is wrong with them."""
    meaning = {name: meant for name, (_, meant) in given.items()}
    if WRONG in meaning.values():
        return WRONG
    if script is mnist_cnn:
        factored = {"--overparam", "--compare"} & set(meaning)
        spread = meaning.get("--strategy", "none") != "none"
        if (
            len(factored) == 2
            or ({"--depth", "--width"} & set(meaning) and not factored)
            or (spread and meaning.get("--jit") == "on")
            or (spread and meaning.get("--mixed-precision") == "float16")
        ):
            return WRONG
    if script is end_to_end_rule and min(meaning.get("--depths", [2])) < 2:
        return WRONG
    if "all" in meaning.get("--experiments", []):
        meaning["--experiments"] = list(WHAT)
    return meaning


def written(given):
    """The command line, each option with its value in one word, as far as it can be."""
    for name, (text, _) in given.items():
        if isinstance(text, list):
            yield from [name, *text]
        else:
            yield f"{name}={text}"


@fuzzed(quick=200, case=command_lines())
def test_command_lines(case):
    script, given = case
    meaning, errors = meaning_of(script, given), io.StringIO()
    if meaning is not WRONG:
        options = script.parse(list(written(given)))
        for name, meant in meaning.items():
            found = getattr(options, name[2:].replace("-", "_"))
            assert found == meant or str(found) == meant, name
        assert all(runs_of(script, options))
        return
    with pytest.raises(SystemExit) as caught, contextlib.redirect_stderr(errors):
        script.parse(list(written(given)))
    assert caught.value.code == 2
    usage, _, sentence = errors.getvalue().rpartition(": error: ")
    assert usage.startswith("usage: ")
    assert re.fullmatch(r"[^\n]+\n", sentence), sentence
    # A value that looks like an option is called one.
    assert any(name in sentence for name in given) or "unrecognized arguments: -" in sentence


def runs_of(script, options):
    """Names of the runs that options ask for: folders of their own, each once."""
    settings = []
    if script is mnist_cnn:
        settings = mnist_job.settings_of(options, "mnist")
        if options.depth == 1:  # the original twice
            settings = settings[: len(settings) // 2 or None]
    elif script is end_to_end_rule:
        settings = rule_job.settings_of(options, "diabetes")
    elif script is gas_sensor:
        settings = sweep_job.settings_of(options, "diabetes")
    names = {s: s.run_name for s in settings}
    assert len(set(names.values())) == len(names)
    return [re.fullmatch(r"[\w.-]{1,200}", name) for name in names.values()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_every_option_is_drawn(script, capsys):
    with pytest.raises(SystemExit):
        script.parse(["--help"])
    shown = set(re.findall(r"^ +(?:-h, )?(--[a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    assert shown - {"--help"} == set(SCRIPTS[script])


def test_all_can_be_seeded_with_the_largest_seed():
    keras.utils.set_random_seed(LARGEST_SEED)
    keras.random.normal((1,), seed=1000 * LARGEST_SEED + 999)  # as networks seed their layers
    with pytest.raises(ValueError, match="between 0"):
        keras.utils.set_random_seed(LARGEST_SEED + 1)
