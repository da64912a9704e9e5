"""What the faults are thrown at: every script and the sweep engine, on the tiniest problems."""

import dataclasses
import functools
import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = "{folder}"  # stands for the output folder among arguments
PUBLISHED = "published"  # folder beside the subjects'
NO_DATA = "reads no archives and downloads nothing"
NO_TRAINING = "trains nothing"


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something that runs in an output folder, and goes on where it was interrupted.

    Attributes:
        name: of the script, as it calls itself in errors.
        arguments: of its command line.
        diverging: arguments with which training diverges; None if there is no training.
        data: data set that it can load, "mnist" or "gas_sensor".
        where: arguments that name the output folder.
        prepare: function of the output folder, called before the first run there.
        change: function called before the script in its process, with the output folder.
        diverge: the same, for what no argument makes diverge.
        why_not: by fault, why it makes no sense here.
    """

    name: str
    arguments: tuple = ()
    diverging: tuple | None = None
    data: str | None = None
    where: tuple = ("--output", OUTPUT)
    prepare: object = None
    change: object = None
    diverge: object = None
    why_not: dict = dataclasses.field(default_factory=dict)

    def call(self, folder, arguments=None, changes=()):
        """Run the command line in a folder."""
        for change in (often_saved, coarse_figures, self.change, *changes):
            if change:
                change(folder)
        module = importlib.import_module(self.name.removesuffix(".py"))
        where = [part.replace(OUTPUT, str(folder)) for part in self.where]
        sys.argv = [self.name]
        module.main([*(self.arguments if arguments is None else arguments), *where])


def few_trainings(_):
    """Let a problem be probed and run in full at one depth, from few starts."""
    from experiments.probe import runs

    runs.DEPTHS, runs.DIRECTIONS = (2,), 1
    runs.probe = functools.partial(runs.probe, replicates=2)


def few_images(_):
    """Make the digits so few that an epoch has four steps."""
    from datasets import images as datasets

    load = datasets._load_digits

    def load_few(reason):
        data = load(reason)
        cut = {"train_images": 300, "train_labels": 300, "test_images": 60, "test_labels": 60}
        fields = {name: getattr(data, name)[:count] for name, count in cut.items()}
        return dataclasses.replace(data, **fields)

    datasets._load_digits = load_few


def few_extensions(_):
    """Let a grid of learning rates be extended once at most."""
    from experiments.gas_sensor import runs as sweep_runs

    sweep_runs.EXTENSIONS = 1


def few_steps(_):
    """Let the memory of gradients be short."""
    from experiments.consequences import runs

    runs.STEPS = 50


def coarse_figures(_):
    """Draw with few pixels and pictures, which is most of what some scripts do."""
    from experiments.vector_field import figures as vector_field_figure
    from presenting import drawing

    drawing.DPI = vector_field_figure.FILM_DPI = 20
    drawing.FORMATS = {".png": drawing.FORMATS[".png"]}
    matplotlib.figure.Figure.tight_layout = lambda self, **_: None
    vector_field_figure.animate.__defaults__ = (40,)


def short_trajectories(_):
    """Let the figure that explains the rule need little computation."""
    from experiments.vector_field import field

    compute = field.compute
    field.compute = lambda settings: compute(
        dataclasses.replace(settings, norms=(0.2,), iterations=120)
    )


def often_saved(_):
    """Let checkpoints of sweeps be saved whenever that is considered, not twice a minute."""
    from keras_overparam.sweep.checkpoint import Clock

    start = Clock.__init__
    Clock.__init__ = lambda self, seconds: start(self, 0)


class Engine(Subject):
    """`sweep_linear_networks` with a checkpoint, some of whose configurations diverge."""

    def call(self, folder, arguments=None, changes=()):
        from keras_overparam import sweep_linear_networks
        from running import records

        often_saved(folder)
        rng = np.random.default_rng(0)
        features = rng.normal(size=(200, 10))
        rates = np.array([1e30 if arguments else 1e-3, 1e-2, 3e-2, 1e3])
        factors = [rng.normal(scale=0.3, size=(4, *shape)) for shape in ((10, 4), (4, 1))]
        try:
            folder.mkdir(exist_ok=True)
            result = sweep_linear_networks(
                features,
                features @ rng.normal(size=10),
                factors,
                "adam",
                rates,
                [1, 100, 10_000],
                power=4,
                checkpoint=folder / "sweep.npz",
            )
            arrays = {f"factor_{i}": factor for i, factor in enumerate(result.factors)}
            arrays |= {"losses": result.losses, "steps": result.steps}
            records.write_atomically(folder / "result.npz", lambda path: np.savez(path, **arrays))
        except (ValueError, OSError, records.OutputError) as error:
            sys.exit(f"{self.name}: error: {error}")
        print(f"diverged: {result.diverged.tolist()}")


def published_copy(folder, source=None):
    """A copy of what publish.py and report.py read and write, as it was when the harness began."""
    source = source or folder.parents[1] / PUBLISHED
    shutil.copytree(source / "assets", folder / "assets", dirs_exist_ok=True)
    built = shutil.ignore_patterns("_build")
    shutil.copytree(source / "docs", folder / "docs", dirs_exist_ok=True, ignore=built)
    shutil.copy(source / "README.md", folder)


def outdated_copy(folder):
    """The same with nothing in the generated parts of README and site."""
    published_copy(folder)
    for part in (folder / "docs" / "generated").iterdir():
        part.write_text("")
    readme = folder / "README.md"
    pattern = r"(<!-- generated: \w+ -->\n).*?(<!-- end -->)"
    readme.write_text(re.sub(pattern, r"\1\2", readme.read_text(), flags=re.DOTALL))


def use_copy(folder):
    """Let them read and write the copy, without the films and fields that take long."""
    from publishing import assets

    assets.ROOT = folder
    short_trajectories(folder)


def high_rates(_):
    """Let tuning start at a rate at which networks diverge."""
    from experiments.mnist import tuning

    tuning.TUTORIALS = 1e6


def high_rates_of_others(_):
    """Let the other networks start at a rate at which their logits overflow."""
    from experiments.mnist import tuning

    tuned = tuning.tuned_with_scale
    tuning.tuned_with_scale = lambda settings, *rest: tuned(
        dataclasses.replace(settings, learning_rate=1e38), *rest
    )


def load_only(folder):
    """End the process when the data is loaded, and leave word of what was."""
    from datasets import gas_sensor
    from datasets import images as datasets

    def ends(load):
        def loads(*arguments):
            data = load(*arguments)
            word = {"name": data.name, "digest": data.digest, "notice": data.notice}
            (folder / "loaded.json").write_text(json.dumps(word))
            sys.exit(0)

        return loads

    for module in (datasets, gas_sensor):
        for name in ("_load_mnist", "_load_digits", "_load_gas_sensor", "_load_diabetes"):
            if hasattr(module, name):
                setattr(module, name, ends(getattr(module, name)))


def on_its_own(_):
    """No data but what a trial gives."""
    os.environ.pop("KERAS_OVERPARAM_ARCHIVES", None)
    os.environ.pop("TFDS_DATA_DIR", None)


IMAGES = ("--dataset", "digits", "--seeds", "0", "--jit", "off")
ROWS = ("--dataset", "diabetes", "--seeds", "0", "1")
NOTHING_KEPT = "keeps nothing that it reads again"
OUTPUTS_ONLY = {
    "network": NO_DATA,
    "divergence": NO_TRAINING,
}
SUBJECTS = (
    Subject(
        "mnist_cnn.py",
        ("--overparam", "--epochs", "2", *IMAGES),
        ("--overparam", "--epochs", "2", *IMAGES, "--learning-rate", "1e6"),
        data="mnist",
        change=few_images,
    ),
    Subject(
        "mnist_rates.py",
        ("--models", "original", "--epochs", "1", *IMAGES),
        ("--models", "original", "--epochs", "1", *IMAGES),
        data="mnist",
        change=few_images,
        diverge=high_rates,
    ),
    Subject(
        "other_networks.py",
        ("--networks", "lenet5", "--factored", "none", "--epochs", "1", *IMAGES),
        ("--networks", "lenet5", "--factored", "none", "--epochs", "1", *IMAGES),
        data="mnist",
        change=few_images,
        diverge=high_rates_of_others,
    ),
    Subject(
        "gas_sensor.py",
        ("--experiments", "adam", "--iterations", "100", *ROWS),
        ("--experiments", "adam", "--iterations", "20", "--start-norm", "1e12", *ROWS),
        data="gas_sensor",
        change=few_extensions,
    ),
    Subject(
        "end_to_end_rule.py",
        ("--problems", "l2", "--depths", "2", "--iterations", "300", *ROWS),
        ("--problems", "l4", "--depths", "2", "--iterations", "20", "--start-norm", "1e3", *ROWS),
        data="gas_sensor",
        why_not={"checkpoints": "runs take seconds to minutes and have no checkpoints"},
    ),
    Subject(
        "probe.py",
        ("--problems", "Linnerud, l2", "Linnerud, l4", "--horizon", "80"),
        change=few_trainings,
        why_not={
            "checkpoints": "goes on after the last finished problem",
            "divergence": "tries rates that diverge in any case",
            "network": "loads data as `gas_sensor.py` and `mnist_cnn.py` do",
        },
    ),
    Subject(
        "consequences.py",
        ROWS,
        data="gas_sensor",
        change=few_steps,
        why_not={"divergence": NO_TRAINING, "checkpoints": NOTHING_KEPT, "records": NOTHING_KEPT},
    ),
    Subject(
        "explain.py",
        ("--problems", "1"),
        change=short_trajectories,
        why_not=OUTPUTS_ONLY | {"truncate": NOTHING_KEPT, "bit-flip": NOTHING_KEPT},
    ),
    Subject(
        "publish.py",
        where=(),
        prepare=outdated_copy,
        change=use_copy,
        why_not=OUTPUTS_ONLY | {"checkpoints": "reads none"},
    ),
    Subject(
        "report.py",
        where=("--output", OUTPUT + "/report.html"),
        prepare=published_copy,
        change=use_copy,
        why_not=OUTPUTS_ONLY | {"checkpoints": "reads none"},
    ),
    Engine(
        "sweep_linear_networks",
        diverging=("infinite",),
        why_not={"network": NO_DATA, "records": "keeps none"},
    ),
)
