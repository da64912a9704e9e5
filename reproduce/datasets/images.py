"""Images for the experiments: MNIST and its like through TFDS, or a small embedded stand-in.

MNIST is taken from the first of these that is there: a folder with its four archives that the user
names, data that TFDS has already prepared, a download by TFDS. TFDS stores the examples shuffled;
the order of the archives is restored here, so that "the first n images" means what it means
everywhere else.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.sources import DataError, Source, import_tfds, named_archives, probe

DATASETS = ("auto", "mnist", "digits")
VERSION = "3.0.1"
# SHA-256 of what the archives hold, unpacked: however they were packed, and whether they are.
CONTENTS = {
    "train-images-idx3": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# `digest` and `digest_any_order` of MNIST, computed from the archives themselves.
MNIST_DIGEST = "bab833be44432887b8367c256dc3f6f37f73632c1eabcb1cbc894e04f779a312"
MNIST_DIGEST_ANY_ORDER = "adb567574fe7fb5b95c57b68ebd03c3533913f0387530f619d797b8045684dd5"
DIGITS_TEST_COUNT = 297
GZIP = b"\x1f\x8b"  # how such a file begins


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images and labels of both splits, and where they came from.

    Attributes:
        name: `"mnist"`, `"digits"`, `"fashion_mnist"` or `"cifar10"`.
        source: One phrase saying where the data came from.
        order: `"file"` for the order of the original files, `"tfds"` for the order of TFDS.
        train_images, test_images: `uint8` arrays of shape `(n, 28, 28, 1)`; CIFAR-10's images are
            32×32×3.
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
            where it can be had and the digits, with a notice, where there is no network;
            `"fashion_mnist"` or `"cifar10"`, prepared by TFDS or downloaded.
        data_dir: Folder of prepared TFDS data, read or written. By default the environment
            variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        archives: Folder with the four MNIST archives, as `archive_path` finds them. By default
            the environment variable `KERAS_OVERPARAM_ARCHIVES`.

    Raises:
        DataError: For an unknown dataset, damaged archives or prepared data, a folder that cannot
            be written and, with `"mnist"`, when there is no way to the data.
    """
    if dataset not in IMAGES:
        raise DataError(f"`dataset` must be one of {IMAGES}. Received: dataset={dataset!r}")
    if dataset == "digits":
        return _load_digits("asked for")
    if dataset not in OTHERS and (folder := named_archives(archives)):
        return _image_data("mnist", "MNIST, its archives", "file", read_archives(folder))
    source = OTHERS.get(dataset, SOURCE)
    folder, origin = source.prepared_or(dataset == "auto", data_dir)
    if folder is None:
        return _load_digits(origin)
    return _load_mnist(folder, origin) if source is SOURCE else _load_other(source, folder, origin)


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


def archive_path(folder, stem):
    """The path of an archive in a folder under one of its common names, or None.

    Args:
        folder: where to look.
        stem: one of `CONTENTS`; the names are `train-images-idx3-ubyte.gz`, the same with a dot
            before `idx3`, and either without `.gz`, unpacked.
    """
    names = [
        f"{s}-ubyte{end}" for end in (".gz", "") for s in (stem, ".".join(stem.rsplit("-", 1)))
    ]
    return next((p for p in (Path(folder) / name for name in names) if p.is_file()), None)


def read_archives(folder):
    """Returns `[(images, labels), ...]` of both splits, in the order of the files.

    Raises:
        DataError: Unless the folder holds the four archives of MNIST, with their contents.
    """
    arrays = [_read_archive(folder, stem) for stem in CONTENTS]
    return [
        (images[..., np.newaxis], labels.astype(np.int32))
        for images, labels in zip(arrays[::2], arrays[1::2], strict=True)
    ]


def _read_archive(folder, stem):
    """Returns the array in an archive, in the IDX format: number of axes, their sizes, bytes."""
    path = archive_path(folder, stem)
    try:
        if path is None:
            raise FileNotFoundError("no such file")
        content = path.read_bytes()
        if content[:2] == GZIP:
            content = gzip.decompress(content)
        received = hashlib.sha256(content).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        received = f"{type(error).__name__} ({error})"
    if received != CONTENTS[stem]:
        name = path.name if path else f"{stem}-ubyte.gz"
        raise DataError(
            f"The archive {name} in {folder} is missing or damaged: expected contents of SHA-256 "
            f"{CONTENTS[stem]}, received {received}; replace it, or name another folder of "
            "archives."
        )
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def file_positions(split, count):
    """Returns where TFDS stored each example of the original file: `stored[positions]` undoes it.

    TFDS writes examples sorted by a hash of their key, salted with the name of the split; the key
    of an MNIST example is its index in the original file.
    """
    from tensorflow_datasets.core.hashing import Hasher

    stored = sorted(range(count), key=Hasher(split).hash_key)
    return np.argsort(stored)


def _probe_network():
    from tensorflow_datasets.image_classification import MNIST

    probe(MNIST.URL)


class _Images(Source):
    """Images that TFDS has in its catalogue.

    Args:
        name: its name there.
        title: its name in messages.
        megabytes: to download, and once prepared (TFDS's catalogue, 4.9).
        version: the version to prepare and to read; by default TFDS's own choice.
        wanted: as `Source` has it.
    """

    def __init__(self, name, title, megabytes, version="", wanted=None):
        self.name, self.title, self.megabytes = name, title, megabytes
        self.version, self.wanted = version, wanted

    def probe_network(self):
        _probe_network()

    def builder(self, data_dir):
        name = ":".join(filter(None, (self.name, self.version)))
        return import_tfds().builder(name, data_dir=data_dir)

    def prepared_folder(self, data_dir):
        if self.version:
            return super().prepared_folder(data_dir)
        return Path(self.builder(data_dir).data_dir)


SOURCE = _Images("mnist", "MNIST", (12, 21), VERSION, "the four archives")
OTHERS = {
    "fashion_mnist": _Images("fashion_mnist", "Fashion-MNIST", (30, 36)),
    "cifar10": _Images("cifar10", "CIFAR-10", (162, 132)),
}
IMAGES = (*DATASETS, *OTHERS)


def _load_other(source, data_dir, origin):
    splits = [_read_split(data_dir, split, source) for split in ("train", "test")]
    return _image_data(source.name, f"TFDS {source.name}, {origin}", "tfds", splits)


def _load_mnist(data_dir, origin):
    """Reads, checks and reorders the prepared MNIST in `data_dir`."""
    splits = [_read_split(data_dir, split) for split in ("train", "test")]
    order, splits = _restore_order(splits, SOURCE.prepared_folder(data_dir))
    return _image_data("mnist", f"TFDS mnist {VERSION}, {origin}", order, splits)


def _read_split(data_dir, split, source=SOURCE):
    """Returns the images and labels of `split` in the order in which TFDS stored them."""
    columns = source.read(data_dir, split)
    return columns["image"], columns["label"].astype(np.int32)


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
    raise DataError(SOURCE.damaged(folder, f"its digest is {digest(restored)[:16]}"))


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
