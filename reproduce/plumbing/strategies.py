"""Training on several devices and machines, through `tf.distribute`.

A `Distribution` is a strategy, and which of the workers this process is. Every worker runs the same
command; the chief, the first of them, writes what the command leaves. The others write to a folder
that is deleted when they end, so that no code needs to ask who it is.
"""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multi-worker")
LONGEST_WAIT = 600  # seconds for all workers to come, and for each to come to what all do together
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

    def from_chief(self, value):
        """The chief's value of a number or array, on every worker; all must call it.

        It travels in float64: integers must be below 2^53.
        """
        if self.workers == 1:
            return value
        array = np.asarray(value)
        sent = array.astype("float64") if self.is_chief else np.zeros(array.shape)
        # Every worker adds one value, whatever the number of its devices.
        total = self.strategy.reduce("SUM", tf.constant(sent), axis=None)
        return total.numpy().astype(array.dtype)

    @contextlib.contextmanager
    def watched(self, resumes_after="epoch"):
        """Within it, a lost worker is a `ClusterError`."""
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise ClusterError(
                f"A worker was lost, and worker {self.worker} of {self.workers} cannot go on without "
                "it. The same command on every worker goes on after the last finished "
                f"{resumes_after}."
            ) from error


_TEMPORARY = []  # folders that are deleted at the end of the process


def add_strategy_option(group):
    """The option that says what trains."""
    group.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="train on one device, on all of this machine, or on the workers in TF_CONFIG (none)",
    )


def create(name):
    """The distribution of a name, of the devices that are visible; workers wait for each other.

    TensorFlow must not have computed anything before.

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
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=LONGEST_WAIT)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
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
            "--strategy multi-worker wants the workers and this one's place among them in TF_CONFIG, "
            'as in \'{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}\'. Received: {text or "nothing"}'
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
