"""The regression problem of the paper: Ethanol's concentration from a gas sensor array.

The data is taken from the first of these that is there: a folder with the archive that the user
names, data that TFDS has already prepared, a download by TFDS. Rows are in the order of the
archive, whatever the order in which TFDS stores them.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from datasets.gas_archive import ARCHIVE_NAMES, ETHANOL_ROWS, GASES, URL, check_archive
from datasets.sources import DataError, Source, named_archives, probe

DATASETS = ("auto", "gas_sensor", "diabetes")
TARGETS = ("standardized", "raw", "log")
VERSION = "1.0.0"


@dataclass(frozen=True, eq=False)
class RegressionData:
    """Features and target of a regression problem, and where they came from.

    Attributes:
        name: `"gas_sensor"` or `"diabetes"`.
        source: One phrase saying where the data came from, with row counts.
        features: `float64` array of shape `(n, d)`.
        target: `float64` array of shape `(n,)`.
        features_scaling: One phrase saying what the features are.
        target_scaling: One phrase saying what the target is.
        digest: The first 16 hex digits of `digest` of the data before any scaling.
        notice: A warning to show when the data is not Ethanol's, else `None`.
    """

    name: str
    source: str
    features: np.ndarray
    target: np.ndarray
    features_scaling: str
    target_scaling: str
    digest: str
    notice: str | None = None


class _GasSensor(Source):
    name = "gas_sensor"
    version = VERSION
    title = "Gas Sensor Array Drift"
    megabytes = (20, 8)
    wanted = f"its archive ({' or '.join(ARCHIVE_NAMES)})"

    def probe_network(self):
        probe(URL)

    def builder(self, data_dir):
        from datasets.gas_sensor_builder import GasSensor

        return GasSensor(data_dir=data_dir, version=VERSION)


SOURCE = _GasSensor()


def load_ethanol(dataset="auto", data_dir=None, archives=None, target="standardized"):
    """Returns the Ethanol problem, 2,565 rows of 128 features, as a `RegressionData`.

    Each feature is standardized over the Ethanol rows: mean 0, population standard deviation 1.

    Args:
        dataset: `"gas_sensor"`; `"diabetes"`, scikit-learn's embedded data; or `"auto"`, which is
            the gas sensor data where it can be had and diabetes, with a notice, where there is no
            network.
        data_dir: Folder of prepared TFDS data, read or written. By default the environment
            variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        archives: Folder with the archive. By default the environment variable
            `KERAS_OVERPARAM_ARCHIVES`.
        target: `"standardized"`, the concentration standardized; `"raw"`, in ppm; or `"log"`, the
            logarithm of the concentration, standardized.

    Returns:
        A `RegressionData`, its rows in the order of the archive.

    Raises:
        DataError: For an unknown dataset or target, a damaged archive or prepared data, a folder
            that cannot be written and, with `"gas_sensor"`, when there is no way to the data.
    """
    if dataset not in DATASETS:
        raise DataError(f"`dataset` must be one of {DATASETS}. Received: dataset={dataset!r}")
    if target not in TARGETS:
        raise DataError(f"`target` must be one of {TARGETS}. Received: target={target!r}")
    if dataset == "diabetes":
        return _load_diabetes("asked for", target)
    return _load_gas_sensor(dataset == "auto", data_dir, archives, target)


def load_gas(gas, data_dir=None, archives=None, target="standardized"):
    """Returns the like of the Ethanol problem for another gas of the archive.

    Args:
        gas: One of `gas_archive.GASES`.
        data_dir: As for `load_ethanol`.
        archives: As for `load_ethanol`.
        target: As for `load_ethanol`.

    Raises:
        DataError: For an unknown gas, or an archive without it; also as for `load_ethanol`.
    """
    if gas not in GASES:
        raise DataError(f"`gas` must be one of {GASES}. Received: gas={gas!r}")
    return _load_gas_sensor(False, data_dir, archives, target, gas)


def digest(features, target):
    """Returns the sha256 of features and target, in the order given."""
    sha = hashlib.sha256()
    for values in (features, target):
        sha.update(np.ascontiguousarray(values, dtype="<f8"))
    return sha.hexdigest()


def standardize(columns, what="column"):
    """Returns `columns` shifted and scaled, each to mean 0 and population standard deviation 1.

    Raises:
        DataError: When a column is constant.
    """
    for number in np.flatnonzero(columns.min(axis=0) == columns.max(axis=0)):
        raise DataError(
            f"The data cannot be standardized: {what} {number + 1} is {columns[0, number]} in all "
            f"{len(columns):,} rows."
        )
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


def _load_gas_sensor(stand_in, data_dir, archives, target, gas="ethanol"):
    """Reads the archive, or the prepared data; keeps the rows of a gas."""
    if folder := named_archives(archives):
        rows = check_archive(folder)
        stored = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        return _of_gas(stored, folder, "gas sensor array, its archive", target, gas)
    folder, origin = SOURCE.prepared_or(stand_in, data_dir)
    if folder is None:
        return _load_diabetes(origin, target)
    stored = SOURCE.read(folder, "train")
    return _of_gas(stored, folder, f"TFDS gas_sensor {VERSION}, {origin}", target, gas)


def _of_gas(stored, data_dir, origin, target, gas):
    """Checks and reorders what was read from `data_dir`; keeps the rows of a gas."""
    order = np.argsort(stored["index"])
    rows = {key: values[order] for key, values in stored.items()}
    counts = np.bincount(rows["gas"], minlength=len(GASES))
    total = len(order)
    ethanol = counts[GASES.index("ethanol")]
    if ethanol != ETHANOL_ROWS or not np.array_equal(rows["index"], np.arange(total)):
        finding = f"{ethanol:,} Ethanol rows of {total:,}"
        raise DataError(SOURCE.damaged(SOURCE.prepared_folder(data_dir), finding))
    number = GASES.index(gas)
    if not counts[number]:
        raise DataError(f"The data in {data_dir} have no rows of {gas}.")
    kept = rows["gas"] == number
    name = gas.capitalize()
    source = f"{origin}, {counts[number]:,} {name} rows of {total:,}"
    features, ppm = rows["features"][kept], rows["concentration"][kept]
    return _regression_data("gas_sensor", source, features, ppm, "concentration in ppm", target)


def _load_diabetes(reason, target):
    """Returns scikit-learn's diabetes data, scaled like the gas sensor's, with a notice."""
    from sklearn.datasets import load_diabetes

    features, progression = load_diabetes(return_X_y=True, scaled=False)
    notice = (
        f"THIS IS NOT THE ETHANOL PROBLEM ({reason}): these are scikit-learn's embedded diabetes "
        f"data, {len(features)} patients with {features.shape[1]} features; no number obtained "
        "from them is a result about the gas sensor array."
    )
    source = f"scikit-learn diabetes (embedded), {len(features)} rows"
    return _regression_data(
        "diabetes", source, features, progression, "disease progression", target, notice
    )


def _regression_data(name, source, features, quantity, quantity_name, target, notice=None):
    features, quantity = features.astype(np.float64), quantity.astype(np.float64)
    values, scaling = quantity, quantity_name
    if target == "log":
        values, scaling = np.log(values), f"logarithm of the {scaling}"
    if target != "raw":
        values = standardize(values[:, np.newaxis], "target")[:, 0]
        scaling += ", standardized to mean 0 and population standard deviation 1"
    return RegressionData(
        name=name,
        source=source,
        features=standardize(features, "feature"),
        target=values,
        features_scaling="each standardized to mean 0 and population standard deviation 1",
        target_scaling=scaling,
        digest=digest(features, quantity)[:16],
        notice=notice,
    )
