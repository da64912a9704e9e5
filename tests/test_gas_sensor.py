"""Where the Ethanol problem comes from: grammar, order, scaling, and what happens without it."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests

from datasets import gas_archive, gas_sensor, sources
from datasets.gas_archive import ARCHIVE_NAMES, GASES, check_archive, parse_line, read_archive
from datasets.gas_sensor import load_ethanol, standardize
from datasets.sources import DataError

ROOT = Path(__file__).resolve().parents[1]
NAME, OFFICIAL_NAME, OLD_NAME = ARCHIVE_NAMES
LINE = "1;10.5 " + " ".join(f"{i}:{i / 8}" for i in range(1, 129))
real_head = requests.head
pytestmark = pytest.mark.usefixtures("alone")


def made_rows():
    """Rows of a made-up archive: as many of Ethanol as the real one has, and other gases."""
    rng = np.random.default_rng(5)
    gases = rng.permutation([1] * 2565 + [2, 3, 4, 5, 6] * 7)
    ppm = rng.uniform(10, 600, len(gases)).astype(np.float32)
    features = rng.normal(size=(len(gases), 128)).astype(np.float32)
    return gases, ppm, features


def write_archive(path, batches, folder="Dataset/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in batches.items():
            archive.writestr(folder + name, text)
    return path


@pytest.fixture(scope="session")
def made_batches():
    lines = [
        f"{gas};{ppm} " + " ".join(f"{i}:{value}" for i, value in enumerate(row, 1))
        for gas, ppm, row in zip(*made_rows(), strict=True)
    ]
    size = len(lines) // 10
    return {
        f"batch{i + 1}.dat": "\n".join(lines[i * size : (i + 1) * size]) + "\n" for i in range(10)
    }


@pytest.fixture(scope="session")
def made(made_batches, tmp_path_factory):
    """A folder with the made-up archive."""
    folder = tmp_path_factory.mktemp("made")
    write_archive(folder / NAME, made_batches)
    return folder


@pytest.fixture(scope="session")
def prepared(made, tmp_path_factory):
    """A data folder prepared once from the made-up archive, and what was loaded then."""
    data_dir = tmp_path_factory.mktemp("tfds")
    return data_dir, prepare(data_dir, made)


def prepare(data_dir, archives, **kwargs):
    """Have TFDS prepare an archive of a folder, and load it."""
    import tensorflow_datasets as tfds

    from datasets.gas_sensor_builder import GasSensor

    config = tfds.download.DownloadConfig(manual_dir=archives)
    GasSensor(data_dir=data_dir).download_and_prepare(download_config=config)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KERAS_OVERPARAM_ARCHIVES", raising=False)
        return load_ethanol("gas_sensor", data_dir=data_dir, **kwargs)


@pytest.fixture(scope="session")
def real():
    """The folder of the real archive, as a user would have it."""
    folder = Path(os.environ.get("KERAS_OVERPARAM_ARCHIVES") or ROOT.parent / "shared" / "data")
    if gas_archive.find_archive(folder) is None:
        pytest.skip("no gas sensor archive: name its folder in KERAS_OVERPARAM_ARCHIVES")
    return folder


@pytest.fixture(scope="session")
def real_lines(real):
    """The lines of the real archive, split here by other means than the reader's."""
    with zipfile.ZipFile(gas_archive.find_archive(real)) as archive:
        members = {
            int(re.search(r"batch(\d+)\.dat$", name)[1]): name
            for name in archive.namelist()
            if name.endswith(".dat")
        }
        return [
            (batch, re.split("[; :]", line.strip()))
            for batch in sorted(members)
            for line in archive.read(members[batch]).decode().splitlines()
        ]


@pytest.fixture(scope="session")
def real_data(real, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("real")
    return data_dir, prepare(data_dir, real, target="raw")


def assert_standardized(values):
    assert np.abs(values.mean(axis=0)).max() < 1e-10
    assert np.abs(values.std(axis=0) - 1).max() < 1e-10


def test_an_archive_is_read_without_tfds(made, prepared, monkeypatch):
    monkeypatch.setattr(sources, "import_tfds", None)
    found, expected = load_ethanol("gas_sensor", archives=made), prepared[1]
    assert found.digest == expected.digest
    assert found.source.startswith("gas sensor array, its archive, 2,565 Ethanol rows of")
    np.testing.assert_array_equal(found.features, expected.features)


def test_the_real_archive_gives_the_ethanol_problem(real_data, real_lines):
    _, data = real_data
    ethanol = [fields for _, fields in real_lines if fields[0] == "1"]
    assert data.source.startswith("TFDS gas_sensor 1.0.0, prepared data, 2,565 Ethanol")
    assert data.source.endswith(f"rows of {len(real_lines):,}")
    assert (data.name, data.notice) == ("gas_sensor", None)
    assert (data.features.shape, data.target.shape) == ((2565, 128), (2565,))
    assert (data.features.dtype, data.target.dtype) == (np.float64, np.float64)
    assert_standardized(data.features)
    assert np.array_equal(data.target, np.array([row[1] for row in ethanol], np.float32))
    expected = np.array([row[3::2] for row in ethanol], np.float32).astype(np.float64)
    assert np.allclose(data.features, (expected - expected.mean(0)) / expected.std(0), atol=1e-12)
    assert data.digest == gas_sensor.digest(expected, data.target)[:16]


def test_the_real_archive_is_stored_with_its_batches(real_data, real_lines):
    data_dir, _ = real_data
    stored = gas_sensor.SOURCE.read(data_dir, "train")
    assert not np.array_equal(stored["index"], np.sort(stored["index"]))
    order = np.argsort(stored["index"])
    assert stored["batch"][order].tolist() == [batch for batch, _ in real_lines]
    assert (stored["gas"][order] + 1).tolist() == [int(fields[0]) for _, fields in real_lines]


def test_rows_are_in_the_order_of_the_archive(prepared):
    _, data = prepared
    gases, ppm, features = made_rows()
    features = features[gases == 1].astype(np.float64)
    target = ppm[gases == 1].astype(np.float64)
    assert data.source.endswith("prepared data, 2,565 Ethanol rows of 2,600")
    assert np.allclose(data.features, standardize(features), atol=1e-13)
    assert np.allclose(data.target, (target - target.mean()) / target.std(), atol=1e-13)
    assert data.digest == gas_sensor.digest(features, target)[:16]


def test_the_builder_is_a_data_set_of_tfds(prepared):
    import tensorflow_datasets as tfds

    from datasets.gas_sensor_builder import GasSensor

    data_dir, _ = prepared
    builder = tfds.builder("gas_sensor", data_dir=data_dir)
    assert isinstance(builder, GasSensor)
    assert str(builder.version) == "1.0.0"
    assert list(builder.info.splits) == ["train"]
    features = builder.info.features
    assert {name: features[name].dtype for name in features} == {
        "features": np.float32,
        "gas": np.int64,
        "concentration": np.float32,
        "batch": np.int64,
        "index": np.int64,
    }
    assert features["features"].shape == (128,)
    assert features["gas"].names == list(GASES)
    assert "16 chemical sensors" in builder.info.description
    assert "10.1016/j.snb.2012.01.074" in builder.info.citation


def test_prepared_data_needs_no_archive(prepared, monkeypatch):
    data_dir, first = prepared
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    data = load_ethanol()
    assert data.source == "TFDS gas_sensor 1.0.0, prepared data, 2,565 Ethanol rows of 2,600"
    assert data.digest == first.digest
    assert np.array_equal(data.features, first.features)


@pytest.mark.parametrize("name, folder", [(OFFICIAL_NAME, "a/b/"), (OLD_NAME, "")])
def test_the_archive_may_have_another_official_name_and_layout(
    name, folder, made_batches, tmp_path
):
    write_archive(tmp_path / name, made_batches, folder)
    check_archive(tmp_path)


def test_targets(prepared):
    data_dir, standardized = prepared
    raw = load_ethanol(data_dir=data_dir, target="raw")
    log = load_ethanol(data_dir=data_dir, target="log")
    assert_standardized(standardized.target)
    assert_standardized(log.target)
    assert raw.target.min() >= 10 and raw.target.max() <= 600
    assert np.allclose(standardized.target, (raw.target - raw.target.mean()) / raw.target.std())
    logarithm = np.log(raw.target)
    assert np.allclose(log.target, (logarithm - logarithm.mean()) / logarithm.std())
    assert raw.target_scaling == "concentration in ppm"
    assert standardized.target_scaling.startswith("concentration in ppm, standardized to mean 0")
    assert log.target_scaling.startswith("logarithm of the concentration in ppm, standardized")
    assert standardized.features_scaling == raw.features_scaling
    assert standardized.features_scaling.startswith("each standardized to mean 0 and population")
    assert standardized.digest == raw.digest == log.digest


def test_a_constant_column_cannot_be_standardized():
    columns = np.ones((5, 3))
    columns[:, 0] = columns[:, 2] = range(5)
    with pytest.raises(DataError, match=r"standardized: feature 2 is 1\.0 in all 5 rows"):
        standardize(columns, "feature")


def test_a_line_is_read_as_it_is_written():
    row = parse_line(LINE.replace(" 7:0.875", " 7:-1.5E-2") + " \r")
    assert (row["gas"], row["concentration"], row["features"].dtype) == (0, 10.5, np.float32)
    assert row["features"][[0, 6, 127]].tolist() == [0.125, np.float32(-0.015), 16]


@pytest.mark.parametrize(
    "part, replacement, finding",
    [
        (" 128:16.0", "", "it has 127 features, expected 128"),
        (" 128:16.0", " 128:16.0 129:1", "it has 129 features, expected 128"),
        (" 2:0.25 3:0.375", " 3:0.375 2:0.25", "where feature 2 is expected, it has '3:0.375'"),
        (" 2:0.25", " 0.25", "where feature 2 is expected, it has '0.25'"),
        (" 2:0.25", " 2:", "feature 2 is '', expected a finite number"),
        (" 2:0.25", " 2:x", "feature 2 is 'x', expected a finite number"),
        (" 2:0.25", " 2:1_0", "feature 2 is '1_0', expected a finite number"),
        (" 2:0.25", " 2:nan", "feature 2 is 'nan', expected a finite number"),
        (" 2:0.25", " 2:-inf", "feature 2 is '-inf', expected a finite number"),
        (" 2:0.25", " 2:1e999", "feature 2 is '1e999', expected a finite number"),
        (" 2:0.25", " 2:1e39", "feature 2 is '1e39', expected a finite number"),
        (" 2:0.25", " 2:٣", "feature 2 is '\ufffd\ufffd', expected a finite number"),
        ("1;10.5", "7;10.5", "its class is '7', expected 1 to 6"),
        ("1;10.5", "0;10.5", "its class is '0', expected 1 to 6"),
        ("1;10.5", "12;10.5", "its class is '12', expected 1 to 6"),
        ("1;10.5", ";10.5", "its class is '', expected 1 to 6"),
        ("1;10.5", "1", "its concentration is '', expected a finite number"),
        ("1;10.5", "1;ten", "its concentration is 'ten', expected a finite number"),
        ("1;10.5", "1;nan", "its concentration is 'nan', expected a finite number"),
        ("1;10.5", "1;0", "its concentration is '0', expected a positive number"),
        ("1;10.5", "1;-3", "its concentration is '-3', expected a positive number"),
        (LINE, "", "its class is '', expected 1 to 6"),
        (LINE, "<html>", "its class is '<html>', expected 1 to 6"),
    ],
)
def test_a_malformed_line_is_named(part, replacement, finding, made_batches, tmp_path):
    assert part in LINE
    lines = f"{LINE}\n{LINE.replace(part, replacement)}\n{LINE}\n"
    path = write_archive(tmp_path / NAME, made_batches | {"batch1.dat": lines})
    with pytest.raises(DataError) as caught:
        read_archive(path)
    assert f"Line 2 of Dataset/batch1.dat in {path} is malformed: {finding};" in str(caught.value)


def damaged(content, damage, batches, path):
    """Writes the archive with the given damage."""
    if damage == "not a zip":
        path.write_text("<html>Service unavailable</html>")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif damage == "altered":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    elif damage == "lacking":
        write_archive(path, {name: batches[name] for name in list(batches)[:-1]})
    elif damage == "repeating":
        write_archive(path, batches | {"more/batch3.dat": batches["batch3.dat"]})
    else:
        write_archive(path, batches | {"batch5.dat": ""})


@pytest.mark.parametrize("dataset", ["auto", "gas_sensor"])
@pytest.mark.parametrize(
    "damage, finding",
    [
        ("not a zip", r"cannot be read \(BadZipFile: File is not a zip file\)"),
        ("empty", r"cannot be read \(BadZipFile"),
        ("truncated", r"cannot be read \(BadZipFile"),
        ("altered", r"cannot be read \("),
        ("lacking", r"must hold each batch file once, but has 0 of batch10\.dat;"),
        ("repeating", r"must hold each batch file once, but has 2 of batch3\.dat;"),
        ("emptied", r"has 2,\d+ Ethanol rows, expected 2,565"),
    ],
)
def test_a_damaged_archive_is_never_used(dataset, damage, finding, made, made_batches, tmp_path):
    damaged((made / NAME).read_bytes(), damage, made_batches, tmp_path / NAME)
    with pytest.raises(DataError, match=f"The archive .*{NAME} {finding}"):
        load_ethanol(dataset, data_dir=tmp_path / "new", archives=tmp_path)
    assert not (tmp_path / "new").exists()


def test_archives_are_found_without_being_passed(tmp_path, monkeypatch):
    (tmp_path / OFFICIAL_NAME).write_text("no zip")
    monkeypatch.setenv("KERAS_OVERPARAM_ARCHIVES", str(tmp_path))
    with pytest.raises(DataError, match=r"at\+different\+concentrations\.zip cannot be read"):
        load_ethanol(data_dir=tmp_path / "new")


def test_a_byte_order_mark_and_empty_last_lines_are_no_rows(made, made_batches, tmp_path):
    batches = {name: f"\ufeff{text}\r\n\n" for name, text in made_batches.items()}
    write_archive(tmp_path / NAME, batches)
    assert len(read_archive(tmp_path / NAME)) == len(read_archive(made / NAME))


def test_a_named_folder_without_archive_is_an_error_beside_prepared_data(prepared, tmp_path):
    data_dir, _ = prepared
    with pytest.raises(DataError, match=f"no archive {NAME} or .* or {OLD_NAME} in {tmp_path}"):
        load_ethanol(data_dir=data_dir, archives=tmp_path)


def test_truncated_prepared_data_is_an_error(prepared, tmp_path):
    data_dir, _ = prepared
    shutil.copytree(data_dir / "gas_sensor", tmp_path / "gas_sensor")
    (record,) = tmp_path.glob("gas_sensor/1.0.0/*.tfrecord*")
    os.truncate(record, record.stat().st_size // 2)
    with pytest.raises(DataError, match="reading failed with .*delete that folder and run again"):
        load_ethanol(data_dir=tmp_path)


def test_prepared_data_that_lacks_whole_rows_is_an_error(prepared, monkeypatch):
    data_dir, _ = prepared
    stored = gas_sensor.SOURCE.read(data_dir, "train")
    toluene = np.flatnonzero(stored["gas"] == 5)[:1]
    shorter = {key: np.delete(values, toluene, axis=0) for key, values in stored.items()}
    monkeypatch.setattr(type(gas_sensor.SOURCE), "read", lambda *_: shorter)
    with pytest.raises(DataError, match=r"damaged \(2,565 Ethanol rows of 2,599\); delete"):
        load_ethanol(data_dir=data_dir)


def test_prepared_folder_without_its_description_is_an_error(tmp_path):
    (tmp_path / "gas_sensor" / "1.0.0").mkdir(parents=True)
    with pytest.raises(DataError, match="delete that folder and run again"):
        load_ethanol(data_dir=tmp_path)


def test_data_dir_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(gas_sensor, "probe", lambda url: None)
    (tmp_path / "file").touch()  # refuses a folder below it to any user, root included
    with pytest.raises(DataError, match="could not be written to .*set TFDS_DATA_DIR or"):
        load_ethanol(data_dir=tmp_path / "file" / "below")


def test_without_network_auto_is_diabetes_with_a_notice(tmp_path):
    data = load_ethanol("auto", data_dir=tmp_path / "new")
    assert data.name == "diabetes"
    assert data.notice.startswith(
        "THIS IS NOT THE ETHANOL PROBLEM (the download failed with ConnectionError)"
    )
    assert not (tmp_path / "new").exists()


def test_without_network_the_ways_out_are_named(tmp_path):
    with pytest.raises(DataError) as caught:
        load_ethanol("gas_sensor", data_dir=tmp_path)
    for way in ("TFDS_DATA_DIR", "--data-dir", "--archives", "KERAS_OVERPARAM_ARCHIVES", "network"):
        assert way in str(caught.value)
    for name in ARCHIVE_NAMES:
        assert name in str(caught.value)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder from which the archive's address is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    monkeypatch.setattr(requests, "head", real_head)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        from datasets import gas_sensor_builder

        url = f"http://127.0.0.1:{server.server_port}/{OFFICIAL_NAME}"
        for module in (gas_sensor, gas_sensor_builder):
            monkeypatch.setattr(module, "URL", url)
        yield folder
        server.shutdown()
        thread.join()


def test_a_download_gives_the_same_data(served, made, prepared, tmp_path):
    (served / OFFICIAL_NAME).write_bytes((made / NAME).read_bytes())
    data = load_ethanol("gas_sensor", data_dir=tmp_path / "new")
    assert data.source == "TFDS gas_sensor 1.0.0, downloaded, 2,565 Ethanol rows of 2,600"
    assert data.digest == prepared[1].digest
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["gas_sensor"]


def test_a_damaged_download_is_an_error_and_leaves_nothing(served, tmp_path):
    (served / OFFICIAL_NAME).write_text("<html>Service unavailable</html>")
    with pytest.raises(DataError, match=r"The archive http://.*\.zip cannot be read \(BadZipFile"):
        load_ethanol("auto", data_dir=tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_an_archive_that_is_no_longer_served_is_a_failed_download(served, tmp_path):
    with pytest.raises(DataError, match="the download failed with HTTPError"):
        load_ethanol("gas_sensor", data_dir=tmp_path)


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr(gas_sensor, "probe", lambda url: None)
    monkeypatch.setattr(requests.Session, "get", no_network)
    assert load_ethanol("auto", data_dir=tmp_path).name == "diabetes"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", gas_sensor.TARGETS)
def test_diabetes_has_the_same_form_and_says_what_it_is(target):
    data = load_ethanol("diabetes", target=target)
    assert (data.name, data.source) == ("diabetes", "scikit-learn diabetes (embedded), 442 rows")
    assert "NOT THE ETHANOL PROBLEM (asked for)" in data.notice
    assert (data.features.shape, data.target.shape) == ((442, 10), (442,))
    assert (data.features.dtype, data.target.dtype) == (np.float64, np.float64)
    assert_standardized(data.features)
    if target == "raw":
        assert (data.target.min(), data.target.max()) == (25, 346)
    else:
        assert_standardized(data.target)
    assert "disease progression" in data.target_scaling


def test_diabetes_is_the_same_everywhere():
    assert load_ethanol("diabetes").digest == "e9c1f7559552854a"


def test_unknown_arguments_are_errors():
    with pytest.raises(DataError, match="`dataset` must be one of .* Received: dataset='mnist'"):
        load_ethanol("mnist")
    with pytest.raises(DataError, match="`target` must be one of .* Received: target='sqrt'"):
        load_ethanol("diabetes", target="sqrt")


def test_importing_does_not_load_tensorflow():
    code = "import sys; from datasets import gas_sensor; print('tensorflow' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "reproduce")}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (run.stdout.strip(), run.stderr) == ("False", "")
