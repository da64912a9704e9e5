"""The ways to a data set that TFDS prepares: prepared data, or a download.

What MNIST and the gas sensor array share is here; what is peculiar to each is in the subclass of
`Source` in its own module.
"""

import abc
import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

PROBE_SECONDS = 5.0
WATCH_SECONDS = 0.5  # between two looks at how far a preparation is
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


@contextlib.contextmanager
def growing(folders, megabytes, title):
    """Within it, a bar on a terminal shows how much has been written into folders."""
    from tqdm import tqdm

    bar = tqdm(total=megabytes, desc=title, unit="MB", disable=None)
    ended = threading.Event()

    def watch():
        while not ended.wait(WATCH_SECONDS):
            bar.n = min(round(sum(map(_size, folders)) / 1e6), megabytes)
            bar.refresh()

    thread = threading.Thread(target=watch, daemon=True)
    if not bar.disable:
        thread.start()
    try:
        yield
        bar.n = megabytes
    finally:
        ended.set()
        bar.close()


def _size(folder):
    """Bytes of the files in a folder, to which others write meanwhile."""
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


class Source(abc.ABC):
    """A data set of TFDS, and the ways to it. Subclasses give the attributes and two methods.

    Attributes:
        name: The name by which TFDS knows it.
        version: The version to prepare and to read.
        title: Its name in messages.
        megabytes: To download, and once prepared.
        wanted: What a folder of archives must hold, in words, where one is read instead.
    """

    name: str
    version: str
    title: str
    megabytes: tuple[int, int]
    wanted: str | None = None

    @abc.abstractmethod
    def probe_network(self):
        """Raises a `requests.RequestException` when the data cannot be downloaded."""

    @abc.abstractmethod
    def builder(self, data_dir):
        """Returns TFDS's builder of the data in `data_dir`."""

    def prepared_folder(self, data_dir):
        """Returns the folder into which TFDS prepares the data."""
        return data_dir / self.name / self.version

    def prepared_or(self, stand_in, data_dir):
        """The folder of prepared data and their origin; `(None, reason)` for the stand-in.

        Args:
            stand_in: whether there is one for data that cannot be downloaded.
            data_dir: folder of prepared data that the user named, if any.

        Raises:
            DataError: When there is no way to the data, or `data_dir` cannot be written.
        """
        data_dir = data_folder(data_dir)
        if importlib.util.find_spec("tensorflow") is None:
            reason = "TensorFlow, by which TFDS reads it, is not installed"
            if stand_in:
                return None, f"{reason}, and no archives were named"
            raise DataError(
                f"{self.title} cannot be read: {reason}. Install it{self._or_archives}."
            )
        if self.prepared_folder(data_dir).exists():
            return data_dir, "prepared data"
        try:
            self._download(data_dir)
        except DownloadFailed as error:
            if stand_in:
                return None, f"the download failed with {error}"
            raise DataError(
                f"{self.title} is not prepared in {data_dir}, and the download failed with "
                f"{error}: set TFDS_DATA_DIR or --data-dir to prepared data, connect to a network"
                f"{self._or_archives}."
            ) from error
        return data_dir, "downloaded"

    @property
    def _or_archives(self):
        """What a user can do besides, as the end of a sentence."""
        if self.wanted is None:
            return ""
        return (
            f", or name a folder with {self.wanted} by --archives DIR or KERAS_OVERPARAM_ARCHIVES"
        )

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

    def _prepare(self, data_dir):
        """Has TFDS download the data and write them into `data_dir`.

        TFDS writes into a folder of its own and renames it at the end, so that an interruption
        leaves no half-written data. Downloads and unpacked files go to a scratch folder: TFDS would
        keep them, and reuse the unpacked ones by name without looking inside.
        """
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            prefix = f"incomplete.{self.name}."
            with tempfile.TemporaryDirectory(prefix=prefix, dir=data_dir) as scratch:
                self._run_tfds(data_dir, scratch)
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

    def _run_tfds(self, data_dir, scratch):
        tfds = import_tfds()
        config = tfds.download.DownloadConfig(
            extract_dir=Path(scratch) / "extracted", try_download_gcs=False
        )
        download, prepared = self.megabytes
        print(
            f"{self.title} is downloaded ({download} MB) and prepared ({prepared} MB) in "
            f"{data_dir}; another folder is named by --data-dir or TFDS_DATA_DIR.",
            file=sys.stderr,
        )
        tfds.disable_progress_bar()  # up to six of them
        written = (Path(scratch), data_dir / self.name)
        # TFDS prints its messages.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            growing(written, download + prepared, self.title),
            impatient(),
        ):
            self.builder(data_dir).download_and_prepare(
                download_dir=scratch, download_config=config
            )


def _is_local(error):
    """Tells a file error from a network error, which `requests` makes an `OSError` too."""
    import requests

    return not isinstance(error, requests.RequestException)
