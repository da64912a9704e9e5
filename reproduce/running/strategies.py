"""Training on several devices and machines: `tf.distribute`, or on JAX `keras.distribution`.

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

from running.records import OutputError

LONGEST_WAIT = 600  # seconds for all workers to come
LOST = ("Aborted", "Cancelled", "DeadlineExceeded", "FailedPrecondition", "Unavailable")


class ClusterError(OutputError):
    """Devices or workers that cannot train together; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What trains: one of `options.STRATEGIES` by name, its devices, and this worker among all.

    Attributes:
        name: of the strategy.
        devices: names of this worker's devices; None for the one that the backend chooses.
        strategy: `tf.distribute.Strategy`, where TensorFlow trains on several devices.
        worker: number of this worker, the chief's being 0.
        workers: how many there are.
    """

    name: str = "none"
    devices: tuple[str, ...] | None = None
    strategy: object = None
    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self):
        """Whether this process writes records, models and figures."""
        return self.worker == 0

    @property
    def replicas(self):
        """Number of devices, of all workers together."""
        return self.strategy.num_replicas_in_sync if self.strategy else len(self.devices or [None])

    def scope(self):
        """Within it a network is made, and trained by `fit`, for these devices."""
        if self.strategy:
            return self.strategy.scope()
        if self.devices:
            return keras.distribution.DataParallel(devices=list(self.devices)).scope()
        return contextlib.nullcontext()

    def check_shares(self, batch):
        """Refuse a batch of which the devices cannot have equal shares."""
        if batch % self.replicas:
            raise ClusterError(
                f"A batch of {batch} examples has no equal shares for {self.replicas} devices; "
                f"train on a number of devices that divides {batch}."
            )

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
        import tensorflow as tf

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
        except _lost() as error:
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
        except _lost():
            if not self.is_chief:  # the chief has done everything
                raise


def in_scope():
    """Whether a strategy of TensorFlow's makes variables, or trains, here."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.has_strategy()


def _lost():
    """What TensorFlow raises when another worker is gone, restarted or silent."""
    if keras.backend.backend() != "tensorflow":
        return ()
    import tensorflow as tf

    return tuple(getattr(tf.errors, f"{name}Error") for name in LOST)


_TEMPORARY = []  # folders that are deleted at the end of the process


@functools.cache  # two strategies of a process would take each other's messages for their own
def create(name, device="auto"):
    """The distribution of a name, of the devices that are visible; workers wait for each other.

    On JAX, where all are visible, `device` says of what kind they are.

    TensorFlow must not have computed anything before, if there are several workers.

    Raises:
        ClusterError: if the backend does not train so, if `TF_CONFIG` names no workers, or they do
            not come.
    """
    if name == "none":
        return Distribution()
    backend = keras.backend.backend()
    if backend == "jax" and name == "mirrored":
        kind = device.partition(":")[0]
        devices = keras.distribution.list_devices(None if kind == "auto" else kind)
        return Distribution(name, tuple(devices))
    if backend != "tensorflow":
        raise ClusterError(
            f"--strategy {name} is not there on the backend {backend}: KERAS_BACKEND=tensorflow "
            "has mirrored and multi-worker, KERAS_BACKEND=jax has mirrored."
        )
    return _mirrored() if name == "mirrored" else _multi_worker()


def _mirrored():
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([one.name for one in devices])
    return Distribution("mirrored", tuple(strategy.extended.worker_devices), strategy)


def _multi_worker():
    import tensorflow as tf

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
    devices = tuple(strategy.extended.worker_devices)
    return Distribution("multi-worker", devices, strategy, worker, len(addresses))


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
