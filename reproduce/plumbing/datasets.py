"""Images for the experiments: MNIST through TFDS, or a small embedded stand-in.

MNIST is taken from the first of these that is there: data that TFDS has already prepared, a folder
with the four original archives, a download. TFDS stores the examples shuffled; the order of the
archives is restored here, so that "the first n images" means what it means everywhere else.
"""

import contextlib
import hashlib
import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATASETS = ("auto", "mnist", "digits")
VERSION = "3.0.1"
ARCHIVE_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
# `digest` and `digest_any_order` of MNIST, computed from the archives themselves.
MNIST_DIGEST = "bab833be44432887b8367c256dc3f6f37f73632c1eabcb1cbc894e04f779a312"
MNIST_DIGEST_ANY_ORDER = "adb567574fe7fb5b95c57b68ebd03c3533913f0387530f619d797b8045684dd5"
NEARBY_ARCHIVES = Path(__file__).resolve().parents[3] / "shared" / "data"
PROBE_SECONDS = 5.0
DIGITS_TEST_COUNT = 297


class DataError(Exception):
    """The images cannot be had as asked; the message says what to do about it."""


class _DownloadFailed(Exception):
    """MNIST was neither prepared nor in archives, and could not be downloaded."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and labels of both splits, and where they came from.

    Attributes:
        name: `"mnist"` or `"digits"`.
        source: One phrase saying where the data came from.
        order: `"file"` for the order of the original files, `"tfds"` for the order of TFDS.
        train_images, test_images: `uint8` arrays of shape `(n, 28, 28, 1)`.
        train_labels, test_labels: `int32` arrays of shape `(n,)`.
        digest: The first 16 hex digits of `digest` of both splits.
        notice: A warning to show when the images are not MNIST, else `None`.
    """

    name: str
    source: str
    order: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    digest: str
    notice: str | None = None


def load_images(dataset="auto", data_dir=None, archives=None):
    """Returns the images of `dataset` as an `ImageData`.

    Args:
        dataset: `"mnist"`; `"digits"`, scikit-learn's embedded digits; or `"auto"`, which is MNIST
            where it can be had and the digits, with a notice, where there is no network.
        data_dir: Folder of prepared TFDS data, read or written. By default the environment
            variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        archives: Folder with the four MNIST archives. By default the environment variable
            `KERAS_OVERPARAM_ARCHIVES`, else `../shared/data` beside the repository.

    Raises:
        DataError: For an unknown dataset, damaged archives or prepared data, a folder that cannot
            be written and, with `"mnist"`, when there is no way to the data.
    """
    if dataset not in DATASETS:
        raise DataError(f"`dataset` must be one of {DATASETS}. Received: dataset={dataset!r}")
    if dataset == "digits":
        return _load_digits("asked for")
    data_dir = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    data_dir = data_dir.expanduser()
    try:
        origin = _ensure_prepared(data_dir, archives or os.environ.get("KERAS_OVERPARAM_ARCHIVES"))
    except _DownloadFailed as error:
        if dataset == "auto":
            return _load_digits(f"the download failed with {error}")
        raise DataError(_ways_out(data_dir, error)) from error
    return _load_mnist(data_dir, origin)


def digest(splits):
    """Returns the sha256 of `[(images, labels), ...]`, in the order given."""
    sha = hashlib.sha256()
    for images, labels in splits:
        sha.update(np.ascontiguousarray(images, dtype=np.uint8))
        sha.update(np.ascontiguousarray(labels, dtype="<i4"))
    return sha.hexdigest()


def digest_any_order(splits):
    """Returns a sha256 of `[(images, labels), ...]` that no reordering within a split changes."""
    sha = hashlib.sha256()
    for images, labels in splits:
        pairs = zip(images, labels, strict=True)
        sha.update(b"".join(sorted(bytes.fromhex(digest([pair])) for pair in pairs)))
    return sha.hexdigest()


def check_archives(folder):
    """Raises a `DataError` unless `folder` holds the four MNIST archives, byte for byte."""
    for name, expected in ARCHIVE_MD5.items():
        try:
            received = hashlib.md5((Path(folder) / name).read_bytes()).hexdigest()
        except OSError as error:
            received = f"no readable file ({error.strerror})"
        if received != expected:
            raise DataError(
                f"The archive {name} in {folder} is missing or damaged: expected MD5 {expected}, "
                f"received {received}; replace it, or name another folder of archives."
            )


def file_positions(split, count):
    """Returns where TFDS stored each example of the original file: `stored[positions]` undoes it.

    TFDS writes examples sorted by a hash of their key, salted with the name of the split; the key
    of an MNIST example is its index in the original file.
    """
    from tensorflow_datasets.core.hashing import Hasher

    stored = sorted(range(count), key=Hasher(split).hash_key)
    return np.argsort(stored)


def _import_tfds():
    """Imports TFDS without the information lines that TensorFlow logs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    import tensorflow_datasets

    return tensorflow_datasets


def _prepared_folder(data_dir):
    return data_dir / "mnist" / VERSION


def _ensure_prepared(data_dir, archives):
    """Has TFDS prepare MNIST in `data_dir` unless it is there; returns the origin as a phrase."""
    if archives:
        # Checked even where prepared data makes them needless: what a user names must be right.
        check_archives(archives)
    if _prepared_folder(data_dir).exists():
        return "prepared data"
    if not archives and all((NEARBY_ARCHIVES / name).exists() for name in ARCHIVE_MD5):
        archives = NEARBY_ARCHIVES
        check_archives(archives)
    if archives:
        _prepare(data_dir, archives)
        return "prepared from archives"
    _download(data_dir)
    return "downloaded"


def _download(data_dir):
    """Downloads and prepares MNIST, or raises `_DownloadFailed` leaving nothing behind."""
    tfds = _import_tfds()
    import requests
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    failures = (
        requests.RequestException,
        tfds.download.DownloadError,
        NonMatchingChecksumError,
    )
    try:
        _probe_network()
        _prepare(data_dir)
    except failures as error:
        with contextlib.suppress(OSError):
            (data_dir / "mnist").rmdir()  # TFDS leaves it behind, empty
        raise _DownloadFailed(type(error).__name__) from error


def _probe_network():
    """Raises within seconds when there is no network, which TFDS would retry for minutes."""
    import requests
    from tensorflow_datasets.image_classification import MNIST

    url = MNIST.URL + next(iter(ARCHIVE_MD5))
    requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True).raise_for_status()


def _prepare(data_dir, archives=None):
    """Has TFDS write MNIST into `data_dir`, from `archives` or, without them, from the network.

    TFDS writes into a folder of its own and renames it at the end, so that an interruption leaves
    no half-written data. Downloads and unpacked files go to a scratch folder: TFDS would keep
    them, and reuse the unpacked ones by name without looking inside.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incomplete.mnist.", dir=data_dir) as scratch:
            _run_tfds(data_dir, archives, scratch)
    except OSError as error:
        if not _is_local(error):
            raise
        raise DataError(
            f"MNIST could not be written to {data_dir} ({error}); "
            "set TFDS_DATA_DIR or --data-dir to a folder that can be written."
        ) from error


def _run_tfds(data_dir, archives, scratch):
    tfds = _import_tfds()
    config = tfds.download.DownloadConfig(
        manual_dir=archives, extract_dir=Path(scratch) / "extracted", try_download_gcs=False
    )
    builder = tfds.builder(f"mnist:{VERSION}", data_dir=data_dir)
    # TFDS prints its messages; the progress bars go to stderr and stay.
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=scratch, download_config=config)


def _is_local(error):
    """Tells a file error from a network error, which `requests` makes an `OSError` too."""
    import requests

    return not isinstance(error, requests.RequestException)


def _load_mnist(data_dir, origin):
    """Reads, checks and reorders the prepared MNIST in `data_dir`."""
    folder = _prepared_folder(data_dir)
    try:
        splits = [_read_split(data_dir, split) for split in ("train", "test")]
    except Exception as error:  # whatever TFDS and TensorFlow raise on damaged files
        raise DataError(_damaged(folder, f"reading failed with {type(error).__name__}")) from error
    order, splits = _restore_order(splits, folder)
    return _image_data("mnist", f"TFDS mnist {VERSION}, {origin}", order, splits)


def _read_split(data_dir, split):
    """Returns the images and labels of `split` in the order in which TFDS stored them."""
    tfds = _import_tfds()
    # One shard after the other, and no copy of the data set in TensorFlow's cache.
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    builder = tfds.builder(f"mnist:{VERSION}", data_dir=data_dir)
    stored = builder.as_dataset(split=split, batch_size=1000, read_config=config)
    batches = list(tfds.as_numpy(stored))
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    return images, labels.astype(np.int32)


def _restore_order(splits, folder):
    """Returns `"file"` and the splits in file order, or `"tfds"` and the splits unchanged."""
    restored = []
    for name, (images, labels) in zip(("train", "test"), splits, strict=True):
        positions = file_positions(name, len(labels))
        restored.append((images[positions], labels[positions]))
    if digest(restored) == MNIST_DIGEST:
        return "file", restored
    # Another version of TFDS may shuffle otherwise: the same images are still MNIST.
    if digest_any_order(splits) == MNIST_DIGEST_ANY_ORDER:
        return "tfds", splits
    raise DataError(_damaged(folder, f"its digest is {digest(restored)[:16]}"))


def _load_digits(reason):
    """Returns scikit-learn's digits, enlarged to the shape of MNIST, with a notice."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = _enlarge(bunch.images.astype(np.int64))
    labels = bunch.target.astype(np.int32)
    cut = len(labels) - DIGITS_TEST_COUNT
    splits = [(images[:cut], labels[:cut]), (images[cut:], labels[cut:])]
    notice = (
        f"THIS IS NOT MNIST ({reason}): these are scikit-learn's {len(labels):,} embedded digits, "
        "8x8 pixels enlarged to 28x28; no number obtained from them is a result about MNIST."
    )
    return _image_data("digits", "scikit-learn digits (embedded)", "file", splits, notice)


def _enlarge(images):
    """Resizes `(n, 8, 8)` integers in 0..16 to `(n, 28, 28, 1)` in 0..255, bilinearly.

    In integers, so that rounding is the same on every machine: with centers of pixels aligned, all
    weights of 8 -> 28 are multiples of 1/14.
    """
    centers = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    weights = np.array([np.interp(centers, np.arange(8), row) for row in np.eye(8)])
    weights = np.rint(14 * weights).astype(np.int64)
    total = np.einsum("nij,iy,jx->nyx", images, weights, weights)
    scale = 16 * 14 * 14
    return ((total * 255 + scale // 2) // scale).astype(np.uint8)[..., np.newaxis]


def _image_data(name, source, order, splits, notice=None):
    (train_images, train_labels), (test_images, test_labels) = splits
    return ImageData(
        name=name,
        source=source,
        order=order,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        digest=digest(splits)[:16],
        notice=notice,
    )


def _damaged(folder, finding):
    return (
        f"The prepared data in {folder} is not MNIST or is damaged ({finding}); "
        "delete that folder and run again."
    )


def _ways_out(data_dir, error):
    return (
        f"MNIST is not prepared in {data_dir}, no archives were named, and the download failed "
        f"with {error}: set TFDS_DATA_DIR or --data-dir to prepared data, name a folder with the "
        "four archives by --archives DIR or KERAS_OVERPARAM_ARCHIVES, or connect to a network."
    )
