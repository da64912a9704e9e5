"""Training on several devices and machines, through `tf.distribute`.

A `Distribution` is a strategy, and which of the workers this process is. Every worker runs the same
command; the chief, the first of them, writes what the command leaves. The others write to a folder
that is deleted when they end, so that no code needs to ask who it is.
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import socket
import tempfile
import time
import zlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

STRATEGIES = ("none", "mirrored", "multi-worker")
LONGEST_WAIT = 600  # seconds for all workers to come
LOST = (  # what TensorFlow raises when another worker is gone, restarted or silent
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnavailableError,
)


class ClusterError(Exception):
    """Devices or workers that cannot train together; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What trains: one of the `STRATEGIES` by name, as an object, and this worker among all."""

    name: str = "none"
    strategy: tf.distribute.Strategy = dataclasses.field(default_factory=tf.distribute.get_strategy)
    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self):
        """Whether this process writes records, models and figures."""
        return self.worker == 0

    @property
    def replicas(self):
        """Number of devices, of all workers together."""
        return self.strategy.num_replicas_in_sync

    def describe(self):
        """What a record says of it."""
        return {"strategy": self.name, "replicas": self.replicas, "workers": self.workers}

    def folder(self, path):
        """Where this worker writes: the chief at `path`, any other where nothing remains."""
        if self.is_chief:
            return Path(path)
        folder = tempfile.TemporaryDirectory()
        _TEMPORARY.append(folder)
        return Path(folder.name)

    def total(self, array):
        """Sum of the workers' arrays, of one shape, on every worker; all must call it.

        They travel in float64: integers must be below 2^53.
        """
        if self.workers == 1:
            return array
        # Every worker adds one array, whatever the number of its devices.
        sent = tf.constant(array.astype("float64"))
        return self.strategy.reduce("SUM", sent, axis=None).numpy().astype(array.dtype)

    def from_chief(self, value):
        """The chief's value of a number or array, on every worker, see `total`."""
        if self.workers == 1:
            return value
        array = np.asarray(value)
        return self.total(array if self.is_chief else np.zeros_like(array))[()]

    def check_same_run(self, settings, data):
        """Refuse what is not the chief's run; all must call it.

        Workers that train something else would wait for each other forever, or train nonsense.

        Args:
            settings: of the run.
            data: what it trains on.
        """
        name = f"{settings.run_name}, data {data.digest}"
        digest = zlib.crc32(name.encode())
        if self.from_chief(digest) != digest:
            raise ClusterError(
                f"Worker {self.worker} trains another run than the chief, {name}; give the "
                "same command and the same data to every worker."
            )

    @contextlib.contextmanager
    def watched(self, resumes_after="epoch"):
        """Within it, a lost worker is a `ClusterError`; all workers leave it together.

        TensorFlow takes a worker for lost when its process ends, whatever the reason, or when it
        has not been heard of for some seconds; what all workers do together fails then.
        """
        try:
            yield
            self._part()
        except LOST as error:
            if self.workers == 1:
                raise
            raise ClusterError(
                f"A worker was lost, and worker {self.worker} of {self.workers} cannot go on "
                "without it. The same command on every worker goes on after the last finished "
                f"{resumes_after}."
            ) from error

    def _part(self):
        """Wait for the others, who would take this worker for lost if it ended before them."""
        try:
            self.from_chief(0)
        except LOST:
            if not self.is_chief:  # the chief has done everything
                raise


_TEMPORARY = []  # folders that are deleted at the end of the process


def add_strategy_option(group):
    """The option that says what trains."""
    group.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="train on one device, on all of this machine, or on the workers in TF_CONFIG (none)",
    )


@functools.cache  # two strategies of a process would take each other's messages for their own
def create(name):
    """The distribution of a name, of the devices that are visible; workers wait for each other.

    TensorFlow must not have computed anything before, if there are several workers.

    Raises:
        ClusterError: if `TF_CONFIG` names no workers, or they do not come.
    """
    if name == "none":
        return Distribution()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Distribution(name, tf.distribute.MirroredStrategy([one.name for one in devices]))
    addresses, worker = cluster(os.environ.get("TF_CONFIG", ""))
    wait_for(addresses, worker)
    # While TensorFlow connects, it answers no Ctrl-C: let that end the process.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise ClusterError(
            f"TensorFlow cannot connect the workers {', '.join(addresses)}; start the same command "
            f"on every worker again. It says: {error.message.splitlines()[0]}"
        ) from error
    finally:
        signal.signal(signal.SIGINT, handler)
    return Distribution(name, strategy, worker, len(addresses))


def cluster(text):
    """Addresses of all workers, the chief's first, and which of them this process is.

    Args:
        text: value of `TF_CONFIG`.
    """
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        if not set(jobs) <= {"chief", "worker"} or len(jobs.get("chief", [])) > 1:
            raise ValueError
        tasks = [
            (job, index) for job in ("chief", "worker") for index in range(len(jobs.get(job, [])))
        ]
        addresses = [jobs[job][index] for job, index in tasks]
        for address in addresses:
            _host_and_port(address)
        return addresses, tasks.index((task["type"], int(task["index"])))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ClusterError(
            "--strategy multi-worker finds the workers, and its place among them, in TF_CONFIG: "
            '\'{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", '
            f'"index": 0}}}}\'. Received: {text or "nothing"}'
        ) from None


def _host_and_port(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def wait_for(addresses, worker, patience=LONGEST_WAIT):
    """Return when each of the other workers has been seen at its address.

    TensorFlow waits too, but for an hour, and deaf to Ctrl-C. A worker is there when something
    listens at its port: this function, or TensorFlow in its place.

    Args:
        addresses: "host:port" of all workers.
        worker: number of this one.
        patience: seconds to wait.
    """
    port = _host_and_port(addresses[worker])[1]
    missing = [address for index, address in enumerate(addresses) if index != worker]
    if missing:
        print(f"Worker {worker} of {len(addresses)}, port {port}, waits for {', '.join(missing)}.")
    try:
        listener = socket.create_server(("", port), backlog=2 * len(addresses))
    except OSError as error:
        raise ClusterError(
            f"Worker {worker} cannot listen at port {port} ({error.strerror}); end what uses it, "
            "or choose another port in TF_CONFIG on all workers."
        ) from error
    with listener:
        deadline = time.monotonic() + patience
        while missing := [address for address in missing if not _answers(address)]:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"No worker came to {', '.join(missing)} in {patience} seconds; start the same "
                    "command on every worker, each with its own index in TF_CONFIG."
                )
            time.sleep(0.5)


def _answers(address):
    try:
        socket.create_connection(_host_and_port(address), timeout=5).close()
    except OSError:
        return False
    return True


class Replicas:
    """Trains a network on all devices of a distribution: what `network.fit` does on one.

    Each step, every device takes its share of the batch. The network's objective is divided by
    their number (see `TwoPartObjective.parts`) and gradients are summed over them, so that the step
    is that of the whole batch on one device, but for rounding.

    Args:
        network: a compiled `TwoPartObjective`, made within the strategy's scope.
        distribution: a `Distribution`.
        batch: number of examples of a step.

    Raises:
        ClusterError: if the devices cannot have equal shares.
    """

    def __init__(self, network, distribution, batch):
        if batch % distribution.replicas:
            raise ClusterError(
                f"A batch of {batch} examples has no equal shares for {distribution.replicas} "
                f"devices; train on a number of devices that divides {batch}."
            )
        self.network = network
        self.distribution = distribution
        self.rows = batch // distribution.replicas
        self._step = tf.function(self._step_of_all)

    def fit(self, batches, epoch, callbacks):
        """Train on batches, and call callbacks as `network.fit` does.

        Args:
            batches: data set of the batches of all devices together, the same on every worker.
            epoch: number of the epoch, for the callbacks.
            callbacks: list of Keras callbacks.
        """
        self.network.stop_training = False
        callbacks = keras.callbacks.CallbackList(callbacks, model=self.network)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(epoch)
        logs = None
        for step, (x, y) in enumerate(batches):
            callbacks.on_train_batch_begin(step)
            cross_entropy, l2 = self._step(self._shares(x), self._shares(y)).numpy()
            logs = {"loss": cross_entropy + l2, "cross_entropy": cross_entropy, "l2": l2}
            callbacks.on_train_batch_end(step, logs)
            if self.network.stop_training:
                break
        callbacks.on_epoch_end(epoch, logs)
        callbacks.on_train_end(logs)

    def _shares(self, batch):
        """The rows of a batch that each of this worker's devices takes."""

        def share(context):
            first = context.replica_id_in_sync_group * self.rows
            return batch[first : first + self.rows]

        return self.distribution.strategy.experimental_distribute_values_from_function(share)

    def _step_of_all(self, x, y):
        strategy = self.distribution.strategy
        parts = strategy.run(self._step_of_one, (x, y))
        return strategy.experimental_local_results(parts)[0]

    def _step_of_one(self, x, y):
        network = self.network
        with tf.GradientTape() as tape:
            parts = network.parts(y, network(x, training=True))
            objective = tf.add_n(parts)
        variables = network.trainable_variables
        network.optimizer.apply(tape.gradient(objective, variables), variables)
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.stack(parts))


class GlobalBatchDropout(layers.Dropout):
    """Dropout whose masks are those that the batch of all devices would have on one.

    Stock dropout draws the same mask on each device.
    """

    def call(self, inputs, training=False):
        if not training:
            return inputs
        rows = inputs.shape[0]
        context = tf.distribute.get_replica_context()
        ones = tf.ones((rows * context.num_replicas_in_sync, *inputs.shape[1:]), inputs.dtype)
        factors = super().call(ones, training=True)  # 0, or what the kept units are multiplied by
        first = context.replica_id_in_sync_group * rows
        return inputs * factors[first : first + rows]
