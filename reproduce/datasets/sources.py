"""The ways to a data set that TFDS prepares: prepared data, a folder of archives, a download.

What MNIST and the gas sensor array share is here; what is peculiar to each is in the subclass of
`Source` in its own module.
"""

import abc
import contextlib
import importlib.util
import io
import os
import tempfile
from pathlib import Path

import numpy as np

PROBE_SECONDS = 5.0
SILENT_SECONDS = 30.0  # after which a server counts as lost; TFDS would wait forever


class DataError(Exception):
    """The data cannot be had as asked; the message says what to do about it."""


class DownloadFailed(Exception):
    """The data was neither prepared nor in archives, and could not be downloaded."""


def data_folder(data_dir=None):
    """Returns the folder of prepared data: the one named, else TFDS's own choice."""
    folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    return folder.expanduser()


def named_archives(archives=None):
    """Returns the folder of archives that the user names, by argument or environment, if any."""
    return archives or os.environ.get("KERAS_OVERPARAM_ARCHIVES")


def read_directly(archives=None):
    """The folder of archives that is read without TFDS, or None: a named one, off TensorFlow.

    TFDS reads by TensorFlow what it prepared (4.9), which other backends do without.
    """
    import keras  # which imports TensorFlow, if that is its backend

    return named_archives(archives) if keras.backend.backend() != "tensorflow" else None


def import_tfds():
    """Imports TFDS without the information lines that TensorFlow logs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    import tensorflow_datasets

    return tensorflow_datasets


def probe(url):
    """Raises within seconds when there is no network, which TFDS would retry for minutes."""
    import requests

    response = requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True)
    # A server that refuses to be asked this way is there all the same.
    if response.status_code not in (405, 501):
        response.raise_for_status()


@contextlib.contextmanager
def impatient():
    """Within it, `requests` gives up on a server that is silent for `SILENT_SECONDS`."""
    import requests

    send = requests.Session.send

    def send_impatiently(session, request, **options):
        options["timeout"] = options.get("timeout") or SILENT_SECONDS
        return send(session, request, **options)

    requests.Session.send = send_impatiently
    try:
        yield
    finally:
        requests.Session.send = send


class Source(abc.ABC):
    """A data set of TFDS, and the ways to it. Subclasses give the attributes and four methods.

    Attributes:
        name: The name by which TFDS knows it.
        version: The version to prepare and to read.
        title: Its name in messages.
        wanted: What a folder of archives must hold, in words.
    """

    name: str
    version: str
    title: str
    wanted: str

    @abc.abstractmethod
    def check_archives(self, folder):
        """Raises a `DataError` unless the archives in `folder` are there and sound."""

    @abc.abstractmethod
    def probe_network(self):
        """Raises a `requests.RequestException` when the data cannot be downloaded."""

    @abc.abstractmethod
    def builder(self, data_dir):
        """Returns TFDS's builder of the data in `data_dir`."""

    def prepared_folder(self, data_dir):
        """Returns the folder into which TFDS prepares the data."""
        return data_dir / self.name / self.version

    def ensure_prepared(self, data_dir, archives):
        """Has TFDS prepare the data in `data_dir` unless it is there.

        Args:
            data_dir: Folder of prepared data.
            archives: Folder of archives that the user named, or `None`.

        Returns:
            The origin of the data, as a phrase.

        Raises:
            DataError: For archives missing or damaged, or a `data_dir` that cannot be written.
            DownloadFailed: When a download was the only way left, and it failed.
        """
        if archives:
            # Checked even where prepared data makes them needless: what a user names must be right.
            self.check_archives(archives)
        if self.prepared_folder(data_dir).exists():
            return "prepared data"
        if archives:
            self._prepare(data_dir, archives)
            return "prepared from archives"
        self._download(data_dir)
        return "downloaded"

    def prepared_or(self, stand_in, data_dir, archives):
        """The folder of prepared data and their origin; `(None, reason)` for the stand-in.

        Args:
            stand_in: whether there is one for data that cannot be downloaded.
            data_dir: folder of prepared data that the user named, if any.
            archives: folder of archives that the user named, if any.

        Raises:
            DataError: as `ensure_prepared`, and when there is no way to the data.
        """
        data_dir = data_folder(data_dir)
        if importlib.util.find_spec("tensorflow") is None:
            reason = "TensorFlow, by which TFDS reads it, is not installed"
            if stand_in:
                return None, f"{reason}, and no archives were named"
            raise DataError(
                f"{self.title} cannot be read: {reason}. Install it, or name a folder with "
                f"{self.wanted} by --archives DIR or KERAS_OVERPARAM_ARCHIVES."
            )
        try:
            return data_dir, self.ensure_prepared(data_dir, named_archives(archives))
        except DownloadFailed as error:
            if stand_in:
                return None, f"the download failed with {error}"
            raise DataError(self.ways_out(data_dir, error)) from error

    def read(self, data_dir, split):
        """Returns the columns of `split` as a dict of arrays, in the order in which TFDS stored it.

        Raises:
            DataError: When the prepared data cannot be read.
        """
        try:
            tfds = import_tfds()
            # One shard after the other, and no copy of the data set in TensorFlow's cache.
            config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
            stored = self.builder(data_dir).as_dataset(
                split=split, batch_size=1000, read_config=config
            )
            batches = list(tfds.as_numpy(stored))
            return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
        except Exception as error:  # whatever TFDS and TensorFlow raise on damaged files
            finding = f"reading failed with {type(error).__name__}"
            raise DataError(self.damaged(self.prepared_folder(data_dir), finding)) from error

    def damaged(self, folder, finding):
        """Returns the message on prepared data in `folder` that is not what it should be."""
        return (
            f"The prepared data in {folder} is not {self.title} or is damaged ({finding}); "
            "delete that folder and run again."
        )

    def ways_out(self, data_dir, error):
        """Returns the message on data that cannot be had, with what the user can do."""
        return (
            f"{self.title} is not prepared in {data_dir}, no archives were named, and the download "
            f"failed with {error}: set TFDS_DATA_DIR or --data-dir to prepared data, name a folder "
            f"with {self.wanted} by --archives DIR or KERAS_OVERPARAM_ARCHIVES, or connect to a "
            "network."
        )

    def _download(self, data_dir):
        """Downloads and prepares the data, or raises `DownloadFailed` leaving nothing behind."""
        tfds = import_tfds()
        import requests
        from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

        failures = (
            requests.RequestException,
            tfds.download.DownloadError,
            NonMatchingChecksumError,
        )
        try:
            self.probe_network()
            self._prepare(data_dir)
        except failures as error:
            raise DownloadFailed(type(error).__name__) from error

    def _prepare(self, data_dir, archives=None):
        """Has TFDS write into `data_dir`, from `archives` or, without them, from the network.

        TFDS writes into a folder of its own and renames it at the end, so that an interruption
        leaves no half-written data. Downloads and unpacked files go to a scratch folder: TFDS would
        keep them, and reuse the unpacked ones by name without looking inside.
        """
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            prefix = f"incomplete.{self.name}."
            with tempfile.TemporaryDirectory(prefix=prefix, dir=data_dir) as scratch:
                self._run_tfds(data_dir, archives, scratch)
        except OSError as error:
            if not _is_local(error):
                raise
            raise DataError(
                f"{self.title} could not be written to {data_dir} ({error}); "
                "set TFDS_DATA_DIR or --data-dir to a folder that can be written."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                (data_dir / self.name).rmdir()  # after a failure TFDS leaves it behind, empty

    def _run_tfds(self, data_dir, archives, scratch):
        tfds = import_tfds()
        config = tfds.download.DownloadConfig(
            manual_dir=archives, extract_dir=Path(scratch) / "extracted", try_download_gcs=False
        )
        # TFDS prints its messages; the progress bars go to stderr and stay.
        with contextlib.redirect_stdout(io.StringIO()), impatient():
            self.builder(data_dir).download_and_prepare(
                download_dir=scratch, download_config=config
            )


def _is_local(error):
    """Tells a file error from a network error, which `requests` makes an `OSError` too."""
    import requests

    return not isinstance(error, requests.RequestException)
