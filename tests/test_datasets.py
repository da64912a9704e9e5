"""Where images come from: order, integrity, and what happens when they cannot be had."""

import functools
import gzip
import io
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from datasets import images as datasets
from datasets import sources
from datasets.images import DataError, load_images

NAMES = [f"{stem}-ubyte.gz" for stem in datasets.CONTENTS]
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="session")
def archives():
    """The folder of the four MNIST archives, as a user would have it."""
    folder = Path(os.environ.get("KERAS_OVERPARAM_ARCHIVES", ""))
    if not (folder / TRAIN_IMAGES).exists():
        pytest.skip("no MNIST archives: name their folder in KERAS_OVERPARAM_ARCHIVES")
    return folder


@pytest.fixture(scope="session")
def prepared(archives, tmp_path_factory):
    """A data folder prepared once from the archives, and what was loaded on that occasion."""
    data_dir = tmp_path_factory.mktemp("tfds")
    # What a preparation that was killed leaves behind must not matter.
    leftover = data_dir / "mnist" / "incomplete.ABC123_3.0.1"
    leftover.mkdir(parents=True)
    (leftover / "mnist-train.tfrecord-00000-of-00001").write_bytes(b"half")
    with pytest.MonkeyPatch.context() as patch:
        downloads(archives, patch)
        return data_dir, load_images("mnist", data_dir=data_dir)


def downloads(archives, monkeypatch):
    """Have TFDS find what it would download in a folder."""
    import tensorflow_datasets as tfds

    config = functools.partial(tfds.download.DownloadConfig, manual_dir=archives)
    monkeypatch.setattr(tfds.download, "DownloadConfig", config)
    monkeypatch.setattr(datasets, "_probe_network", lambda: None)
    for name in ("KERAS_OVERPARAM_ARCHIVES", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def copy_archives(archives, folder):
    """Copies the archives, writable whatever the permissions of the originals."""
    for name in NAMES:
        (folder / name).write_bytes((archives / name).read_bytes())
    return folder


def parse(archives, name, offset):
    with gzip.open(archives / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=offset)


def test_what_tfds_prepares_is_mnist_in_file_order(prepared, archives):
    _, data = prepared
    assert (data.name, data.order, data.notice) == ("mnist", "file", None)
    assert data.source == "TFDS mnist 3.0.1, downloaded"
    assert data.digest == datasets.MNIST_DIGEST[:16]
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
        assert images.shape[1:] == (28, 28, 1)
        assert np.array_equal(images.ravel(), parse(archives, f"{stem}-images-idx3-ubyte.gz", 16))
        assert np.array_equal(labels, parse(archives, f"{stem}-labels-idx1-ubyte.gz", 8))


def test_a_preparation_is_announced(archives, tmp_path, monkeypatch, capsys):
    class Builder:
        def download_and_prepare(self, download_dir, download_config):
            print("a message of TFDS")

    downloads(archives, monkeypatch)
    monkeypatch.setattr(type(datasets.SOURCE), "builder", lambda self, data_dir: Builder())
    datasets.SOURCE._download(tmp_path)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"MNIST is downloaded (12 MB) and prepared (21 MB) in {tmp_path}; another folder is named "
        "by --data-dir or TFDS_DATA_DIR.\n"
    )


def test_a_bar_shows_what_has_been_written(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(sources, "WATCH_SECONDS", 0.01)
    with sources.growing([tmp_path / "none", tmp_path], 4, "Data"):
        (tmp_path / "file").write_bytes(bytes(3_000_000))
        while "3/4" not in terminal.getvalue():
            time.sleep(0.01)
    assert "Data: 100%" in terminal.getvalue()
    with pytest.raises(OSError), sources.growing([tmp_path], 4, "Data"):
        raise OSError("disk full")


def test_preparation_leaves_only_the_data(prepared):
    data_dir, _ = prepared
    assert [path.name for path in data_dir.iterdir()] == ["mnist"]


def test_prepared_data_needs_no_archives(prepared, monkeypatch):
    data_dir, first = prepared
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    data = load_images()
    assert data.source == "TFDS mnist 3.0.1, prepared data"
    assert (data.name, data.digest) == ("mnist", first.digest)


def test_order_of_another_tfds_is_kept_and_said(prepared, tmp_path):
    _, data = prepared
    splits = [
        (data.train_images[::-1], data.train_labels[::-1]),
        (data.test_images, data.test_labels),
    ]
    order, kept = datasets._restore_order(splits, tmp_path)
    assert order == "tfds"
    assert kept is splits


def test_one_changed_pixel_is_an_error(prepared, tmp_path):
    _, data = prepared
    images = data.test_images.copy()
    images[0, 0, 0, 0] += 1
    splits = [(data.train_images, data.train_labels), (images, data.test_labels)]
    with pytest.raises(DataError, match="is not MNIST or is damaged .*delete that folder"):
        datasets._restore_order(splits, tmp_path)


def test_truncated_prepared_data_is_an_error(prepared, tmp_path):
    data_dir, _ = prepared
    shutil.copytree(data_dir / "mnist" / "3.0.1", tmp_path / "mnist" / "3.0.1")
    (record,) = tmp_path.glob("mnist/3.0.1/mnist-train.tfrecord*")
    os.truncate(record, record.stat().st_size // 10)
    with pytest.raises(DataError, match="reading failed with .*delete that folder and run again"):
        load_images("auto", data_dir=tmp_path)


@pytest.mark.parametrize("info", [None, "not json"])
def test_prepared_folder_without_its_description_is_an_error(info, tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    if info:
        (folder / "dataset_info.json").write_text(info)
    with pytest.raises(DataError, match="delete that folder and run again"):
        load_images("auto", data_dir=tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
@pytest.mark.parametrize("way", ["argument", "environment"])
def test_damaged_archives_are_never_used(damage, way, archives, tmp_path, monkeypatch):
    folder = copy_archives(archives, tmp_path)
    content = (folder / TEST_LABELS).read_bytes()
    if damage == "truncated":
        (folder / TEST_LABELS).write_bytes(content[:-100])
    elif damage == "altered":
        (folder / TEST_LABELS).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        (folder / TEST_LABELS).unlink()
    monkeypatch.setenv("KERAS_OVERPARAM_ARCHIVES", str(folder) if way == "environment" else "")
    received = {
        "missing": r"FileNotFoundError \(no such file\)",
        "truncated": "EOFError",
        "altered": "[0-9a-f]{64}|BadGzipFile",
    }
    expected = datasets.CONTENTS["t10k-labels-idx1"]
    message = f"{TEST_LABELS} in .* SHA-256 {expected}, received ({received[damage]})"
    with pytest.raises(DataError, match=message):
        load_images(
            "auto", data_dir=tmp_path / "new", archives=folder if way == "argument" else None
        )
    assert not (tmp_path / "new").exists()


def test_damaged_archives_are_an_error_beside_prepared_data(prepared, tmp_path):
    data_dir, _ = prepared
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES} in .* is missing or damaged"):
        load_images("auto", data_dir=data_dir, archives=tmp_path)


def test_interrupted_preparation_counts_for_nothing(archives, tmp_path, monkeypatch):
    from tensorflow_datasets.image_classification import MNIST

    def interrupted(self, *args, **kwargs):
        yield 0, {"image": np.zeros((28, 28, 1), np.uint8), "label": 0}
        raise KeyboardInterrupt

    monkeypatch.setattr(MNIST, "_generate_examples", interrupted)
    downloads(archives, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        load_images("mnist", data_dir=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    assert [path for path in tmp_path.iterdir() if path.name != "mnist"] == []


def test_without_network_auto_is_digits_with_a_notice(tmp_path):
    start = time.monotonic()
    data = load_images("auto", data_dir=tmp_path / "new")
    assert data.name == "digits"
    assert data.notice.startswith("THIS IS NOT MNIST (the download failed with ConnectionError)")
    assert time.monotonic() - start < 20
    assert not (tmp_path / "new").exists()


def test_without_network_mnist_names_the_ways_out(tmp_path):
    with pytest.raises(DataError) as caught:
        load_images("mnist", data_dir=tmp_path)
    for way in ("TFDS_DATA_DIR", "--data-dir", "--archives", "KERAS_OVERPARAM_ARCHIVES", "network"):
        assert way in str(caught.value)


def test_archives_are_read_without_tfds(prepared, archives, monkeypatch):
    monkeypatch.setattr(sources, "import_tfds", None)
    found, expected = load_images("mnist", archives=archives), prepared[1]
    assert found.source == "MNIST, its archives"
    assert (found.name, found.order, found.digest) == ("mnist", "file", expected.digest)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        array = getattr(found, name)
        assert array.dtype == getattr(expected, name).dtype
        np.testing.assert_array_equal(array, getattr(expected, name))


@pytest.mark.parametrize("packed", ["again", "not"])
@pytest.mark.parametrize("separator", "-.")
def test_archives_are_known_by_their_contents(packed, separator, archives, tmp_path):
    for stem in datasets.CONTENTS:
        content = gzip.decompress((archives / f"{stem}-ubyte.gz").read_bytes())
        name = f"{separator.join(stem.rsplit('-', 1))}-ubyte" + ".gz" * (packed == "again")
        content = gzip.compress(content, 1) if packed == "again" else content
        (tmp_path / name).write_bytes(content)
    assert load_images("mnist", archives=tmp_path).digest == datasets.MNIST_DIGEST[:16]


def test_without_tensorflow_and_archives_there_is_the_stand_in_or_a_sentence(alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert "TensorFlow, by which TFDS reads it, is not installed" in load_images("auto").notice
    with pytest.raises(DataError, match=r"Install it, or name a folder with the four archives by"):
        load_images("mnist")


def test_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(datasets, "_probe_network", lambda: None)
    monkeypatch.setattr(requests.Session, "get", no_network)
    assert load_images("auto", data_dir=tmp_path).name == "digits"
    assert list(tmp_path.iterdir()) == []


def test_data_dir_that_cannot_be_written_is_an_error(archives, tmp_path, monkeypatch):
    downloads(archives, monkeypatch)
    (tmp_path / "file").touch()  # refuses a folder below it to any user, root included
    with pytest.raises(DataError, match="could not be written to .*set TFDS_DATA_DIR or"):
        load_images("auto", data_dir=tmp_path / "file" / "below")


def test_digits_have_the_shape_of_mnist_and_say_what_they_are():
    data = load_images("digits")
    assert (data.name, data.source) == ("digits", "scikit-learn digits (embedded)")
    assert "NOT MNIST" in data.notice
    assert data.train_images.shape == (1500, 28, 28, 1)
    assert data.test_images.shape == (297, 28, 28, 1)
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int32)
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)
    assert set(data.test_labels) == set(range(10))


def test_digits_are_the_same_everywhere():
    assert load_images("digits").digest == "be9a5ce4937990d8"


def test_enlarging_keeps_constants_and_direction():
    ramp = np.broadcast_to(np.arange(8), (1, 8, 8))
    wide = datasets._enlarge(ramp)[0, :, :, 0].astype(int)
    assert np.array_equal(datasets._enlarge(np.full((1, 8, 8), 16)), np.full((1, 28, 28, 1), 255))
    assert (np.diff(wide, axis=1) >= 0).all() and (wide == wide[0]).all()


def test_unknown_dataset_is_an_error():
    with pytest.raises(DataError, match="must be one of .* Received: dataset='cifar'"):
        load_images("cifar")


@pytest.mark.parametrize(
    ("name", "shape"), [("fashion_mnist", (28, 28, 1)), ("cifar10", (32, 32, 3))]
)
def test_other_images_that_tfds_has_prepared(name, shape, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    images = np.random.default_rng(0).integers(0, 256, size=(12, *shape), dtype=np.uint8)

    def split_generators(builder, _):
        def generate(split):
            for index, image in enumerate(images[: 8 if split == "train" else 4]):
                yield f"{split}{index}", {"image": image, "label": index % 10} | extra

        extra = {"id": "x"} if "id" in builder.info.features else {}
        return {split: generate(split) for split in ("train", "test")}

    monkeypatch.setattr(tfds.builder_cls(name), "_split_generators", split_generators)
    tfds.builder(name, data_dir=tmp_path).download_and_prepare()
    data = load_images(name, data_dir=tmp_path)
    assert (data.name, data.order, data.notice) == (name, "tfds", None)
    assert data.source == f"TFDS {name}, prepared data"
    assert data.train_images.shape == (8, *shape)
    assert data.test_labels.dtype == np.int32
    assert {image.tobytes() for image in data.train_images} == {i.tobytes() for i in images[:8]}


def test_other_images_that_cannot_be_had(tmp_path):
    with pytest.raises(DataError, match=r"CIFAR-10 is not prepared in .* connect to a network"):
        load_images("cifar10", data_dir=tmp_path)
