"""Train one run of a network on images and leave its record, models and logs: all side effects."""

import dataclasses
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np
from tqdm.auto import tqdm

from experiments.mnist import boards, tutorial_cnn
from keras_overparam import FactorMonitor, collapse
from keras_overparam.callbacks import watched_kernels
from keras_overparam.event_log import EventLog
from running import machine, records, runs
from running.strategies import Distribution

METRICS = ("objective", "cross_entropy", "l2")
SUMMARY_EVERY = 10  # steps between two TensorBoard points
CHECKPOINTS = "checkpoint"
LOGS = "tensorboard"  # folder of a run's logs, in its own


def train(settings, data, folder, again=False, distribution=None):
    """Run `settings` in `folder`, or go on where an interrupted run stopped.

    Args:
        settings: `settings.Settings` or `other_settings.Settings`.
        data: `datasets.images.ImageData`.
        folder: the run's own folder.
        again: repeat the run even if it is finished.
        distribution: `strategies.Distribution`, by default one device. All workers must call this,
            each with a folder of its own; what the chief's holds decides where the run goes on.

    Returns:
        The run's `Record`; the chief's has an outcome.
    """
    distribution = distribution or Distribution()
    distribution.check_same_run(settings, data)
    one = Run(settings, data, folder, distribution)
    with machine.without_tensorflow():
        return runs.run(
            folder,
            one.description,
            one.go,
            resume=one.restore,
            again=again,
            passing=[CHECKPOINTS],
            distribution=distribution,
        )


class Run:
    """One training run: network, data split, record, and the checkpoints between epochs."""

    def __init__(self, settings, data, folder, distribution):
        self.settings = settings
        self.distribution = distribution
        self.data = data
        self.folder = Path(folder)
        self.checkpoints = self.folder / CHECKPOINTS
        self.logs = self.folder / LOGS
        self.done = 0  # epochs
        held_out = min(tutorial_cnn.HELD_OUT, len(data.train_labels) // 10)
        self.validation = data.train_images[:held_out], data.train_labels[:held_out]
        self.training = data.train_images[held_out:], data.train_labels[held_out:]

    def restore(self, record):
        """Load the chief's last epoch whose checkpoint is intact; whether there is one."""
        self._build()
        self.done = self.distribution.from_chief(self._restore_own(record))
        if self.done:
            for variable in self._state():
                variable.assign(self.distribution.from_chief(variable.numpy()))
        return bool(self.done)

    def go(self, record):
        """Train to the last epoch, or to divergence, then evaluate and save; the outcome."""
        records.make_folder(self.checkpoints)
        ends = [0, *tutorial_cnn.epoch_ends(self.settings, len(self.training[1]))]
        steps = StepRecorder(self.logs, ends[-1], ends[self.done])
        boards.describe(self.settings, steps.log)
        finite = self.distribution.from_chief(_finite_so_far(record))
        with steps:
            for epoch in range(self.done, self.settings.epochs):
                if finite:
                    finite = self._epoch(epoch, ends[epoch], ends[epoch + 1], steps, record)
        return self._finish("finished" if finite else "diverged")

    def _build(self):
        keras.utils.set_random_seed(self.settings.seed)
        policy = self.settings.mixed_precision
        keras.config.set_dtype_policy("float32" if policy == "off" else f"mixed_{policy}")
        shape = self.data.train_images.shape[1:]
        self.distribution.check_shares(tutorial_cnn.BATCH)
        with self.distribution.scope():
            self.network = self.settings.build_network(shape)
            tutorial_cnn.compile_network(self.network, self.settings, len(self.training[1]))
        self.monitors = [FactorMonitor(self.logs)] if watched_kernels(self.network) else []
        if self.distribution.devices:
            self.copy = self.settings.build_network(shape)  # its layers are stock layers
        if self.distribution.strategy:
            from running.replicas import Replicas

            self.fit = Replicas(self.network, self.distribution).fit

    def _epoch(self, epoch, first, last, steps, record):
        started = time.perf_counter()
        steps.start_epoch()
        batches = tutorial_cnn.batches(*self.training, first, last)
        self.fit(batches, epoch, [steps, *self.monitors])
        seconds = time.perf_counter() - started
        outputs = tutorial_cnn.logits(self._on_one_device(), self.validation[0])
        error = tutorial_cnn.error_percent(outputs, self.validation[1])
        steps.summarize({"validation/error_percent": error})
        finite = math.isfinite(steps.values["objective"][-1])
        path = self.checkpoints / f"epoch-{epoch + 1}.npz"
        records.write_atomically(path, self._save_state)
        record.append(
            "epoch",
            epoch=epoch + 1,
            first_step=first,
            **{name: records.rounded(steps.values[name]) for name in METRICS},
            validation_error_percent=error,
            seconds=round(seconds, 3),
            milliseconds_per_step=round(1e3 * float(np.median(steps.seconds[1:] or [seconds])), 3),
            checkpoint=path.name,
            checkpoint_sha256=records.sha256(path),
        )
        for old in self.checkpoints.glob("epoch-*"):
            if old.name not in (path.name, f"epoch-{epoch}.npz"):
                old.unlink()
        return finite

    def fit(self, batches, epoch, callbacks):
        """Train on the batches of an epoch."""
        with self.distribution.scope():
            self.network.fit(
                batches,
                initial_epoch=epoch,
                epochs=epoch + 1,
                verbose=0,
                shuffle=False,
                callbacks=callbacks,
            )

    def _on_one_device(self):
        """The network as it is now, in variables that no strategy manages."""
        if not self.distribution.devices:
            return self.network
        for variable, value in zip(self.copy.variables, self.network.variables, strict=True):
            variable.assign(value.numpy())
        return self.copy

    def _state(self):
        """All variables; Keras's own weight files leave out the dropout generator's state."""
        return self.network.variables + self.network.optimizer.variables

    def _save_state(self, path):
        np.savez(path, *[variable.numpy() for variable in self._state()])

    def _load_state(self, path):
        with np.load(path) as arrays:
            for variable, name in zip(self._state(), arrays.files, strict=True):
                variable.assign(arrays[name])

    def _restore_own(self, record):
        """The same of this worker's folder: the epoch's number, or 0."""
        lines = record.lines()
        for line in reversed([line for line in lines if line["kind"] == "epoch"]):
            path = self.checkpoints / line["checkpoint"]
            if records.sha256(path) == line["checkpoint_sha256"]:
                self._load_state(path)
                record.keep([old for old in lines if old.get("epoch", 0) <= line["epoch"]])
                record.append(
                    "resume",
                    epoch=line["epoch"],
                    versions=records.versions(),
                    **self.distribution.describe(),
                )
                return line["epoch"]
            print(
                f"The checkpoint {path} is missing or damaged: its epoch is done again.",
                file=sys.stderr,
            )
        return 0

    def description(self):
        """The fields of the record's first line."""
        data = self.data
        return {
            "run": self.settings.run_name,
            "settings": dataclasses.asdict(self.settings),
            "model": self.settings.model_name,
            "parameters": self.network.count_params(),
            "data": {
                **records.description(data),
                "order": data.order,
                "train": len(self.training[1]),
                "validation": len(self.validation[1]),
                "test": len(data.test_labels),
            },
            "versions": records.versions(),
            "device": machine.device_name(),
            **self.distribution.describe(),
            "threads": machine.threads(),
        }

    def _finish(self, status):
        """Evaluate, and save both models; the outcome."""
        network = tutorial_cnn.plain(self._on_one_device())
        single = collapse(network)
        outputs = tutorial_cnn.logits(network, self.data.test_images)
        difference = np.abs(tutorial_cnn.logits(single, self.data.test_images) - outputs)
        records.write_atomically(self.folder / "model.keras", network.save)
        records.write_atomically(self.folder / "collapsed.keras", single.save)
        return {
            "status": status,
            "test_error_percent": tutorial_cnn.error_percent(outputs, self.data.test_labels),
            "collapsed_parameters": single.count_params(),
            "collapsed_largest_difference": float(difference.max()),
            "largest_logit": float(np.abs(outputs).max()),
        }


def _finite_so_far(record):
    """Whether the last epoch on record, if any, did not diverge."""
    epochs = record.of_kind("epoch")
    return not epochs or epochs[-1]["objective"][-1] is not None


class StepRecorder(keras.callbacks.Callback):
    """Objective, cross-entropy and L2 term of every step; progress bar; TensorBoard scalars."""

    def __init__(self, log_dir, total_steps, first_step, show=True):
        super().__init__()
        self.step = first_step
        self.log = EventLog(log_dir)
        self.log.begin(first_step)
        self.bar = tqdm(
            total=total_steps,
            initial=first_step,
            unit="step",
            disable=not show,
            mininterval=0.1 if sys.stderr.isatty() else 30,  # a log file wants few lines
        )
        self.start_epoch()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()
        self.log.flush()

    def start_epoch(self):
        """Forget the steps of the epoch before."""
        self.values = {name: [] for name in METRICS}
        self.seconds = []
        self.clock = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Record the step; stop the training if it diverged."""
        clock = time.perf_counter()
        self.seconds.append(clock - self.clock)
        self.clock = clock
        for name in METRICS:
            self.values[name].append(float(logs[name]))
        if not math.isfinite(logs["objective"]):
            self.model.stop_training = True
        self.step += 1
        self.bar.update()
        self.bar.set_postfix(objective=f"{logs['objective']:.4f}", refresh=False)
        if self.step % SUMMARY_EVERY == 0:
            self.summarize({f"training/{name}": logs[name] for name in METRICS})

    def summarize(self, scalars):
        """Show scalars in TensorBoard at the present step."""
        for name, value in scalars.items():
            self.log.scalar(name, float(value), self.step)
        self.log.flush()
