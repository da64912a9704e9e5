"""The archive of the gas sensor array: its names, its grammar, and what it must hold.

The archive is a zip of `batch1.dat` … `batch10.dat`. Each line is one measurement,
`class;ppm 1:v 2:v … 128:v`. It is judged by this structure, not by a checksum, so that a copy that
was packed again, or that lacks gases other than Ethanol, will do.
"""

import codecs
import math
import re
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.sources import DataError

URL = (
    "https://archive.ics.uci.edu/static/public/270/"
    "gas+sensor+array+drift+dataset+at+different+concentrations.zip"
)
# The short name first, then the official ones, today's and that of the older UCI site.
ARCHIVE_NAMES = ("gas_sensor_array_drift.zip", URL.rpartition("/")[2], "driftdataset.zip")
GASES = ("ethanol", "ethylene", "ammonia", "acetaldehyde", "acetone", "toluene")
BATCH_FILES = tuple(f"batch{number}.dat" for number in range(1, 11))
FEATURES = 128
ETHANOL_ROWS = 2565

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LARGEST = float(np.finfo(np.float32).max)
_ADVICE = "put an intact copy in a folder named by --archives DIR or KERAS_OVERPARAM_ARCHIVES."


def find_archive(folder):
    """Returns the path of the archive in `folder` under one of its names, or `None`."""
    paths = (Path(folder) / name for name in ARCHIVE_NAMES)
    return next((path for path in paths if path.is_file()), None)


def check_archive(folder):
    """Returns what `read_archive` does, or raises a `DataError` if `folder` holds no archive."""
    path = find_archive(folder)
    if path is None:
        names = " or ".join(ARCHIVE_NAMES)
        raise DataError(f"There is no archive {names} in {folder}; name another folder.")
    return read_archive(path)


def read_archive(path, called=None):
    """Returns all measurements of an archive in its order: by batch, then by line.

    Args:
        path: The archive.
        called: What to call it in errors, by default `path`.

    Returns:
        A list of dicts: `features` (`float32` array of 128), `gas` (position in `GASES`),
        `concentration` (ppm), `batch` (1 to 10) and `index` (position in the list).

    Raises:
        DataError: When it is not a zip, is truncated, lacks batch files, has a malformed line, or
            does not have the 2,565 Ethanol rows.
    """
    called = called or path
    rows = []
    for batch, (member, content) in enumerate(_batch_files(path, called), start=1):
        for number, line in enumerate(_lines(content), start=1):
            try:
                row = parse_line(line)
            except ValueError as error:
                raise DataError(
                    f"Line {number} of {member} in {called} is malformed: {error}; {_ADVICE}"
                ) from None
            rows.append(row | {"batch": batch, "index": len(rows)})
    ethanol = sum(row["gas"] == GASES.index("ethanol") for row in rows)
    if ethanol != ETHANOL_ROWS:
        raise DataError(
            f"The archive {called} has {ethanol:,} Ethanol rows, expected {ETHANOL_ROWS:,}; "
            f"{_ADVICE}"
        )
    return rows


def parse_line(line):
    """Returns the `features`, `gas` and `concentration` of one line, as a dict.

    Raises:
        ValueError: When the line is malformed; the message says how.
    """
    head, *fields = line.split() or [""]
    gas, _, ppm = head.partition(";")
    if gas not in list("123456"):
        raise ValueError(f"its class is {gas[:40]!r}, expected 1 to {len(GASES)}")
    concentration = _number(ppm, "its concentration")
    if not np.float32(concentration) > 0:
        raise ValueError(f"its concentration is {ppm!r}, expected a positive number")
    if len(fields) != FEATURES:
        raise ValueError(f"it has {len(fields)} features, expected {FEATURES}")
    features = [_feature(index, field) for index, field in enumerate(fields, start=1)]
    return {
        "features": np.array(features, np.float32),
        "gas": int(gas) - 1,
        "concentration": concentration,
    }


def _lines(content):
    """The lines of a file, without a byte-order mark before them and empty lines after them."""
    text = content.removeprefix(codecs.BOM_UTF8).rstrip().decode("ascii", errors="replace")
    return text.splitlines()


def _feature(index, field):
    key, _, text = field.partition(":")
    if key != str(index):
        raise ValueError(f"where feature {index} is expected, it has {field[:40]!r}")
    return _number(text, f"feature {index}")


def _number(text, what):
    """Returns the finite number in `text`; `float` would also take `nan`, `inf` and `1_000`."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{what} is {text[:40]!r}, expected a finite number")
    return value


def _batch_files(path, called):
    """Returns the member name and the content of each of the ten batch files, in their order."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = defaultdict(list)
            for member in archive.namelist():
                members[PurePosixPath(member).name].append(member)
            found = [members[name] for name in BATCH_FILES]
            files = [(name, archive.read(name)) for names in found for name in names]
    except Exception as error:  # damage shows as any of a dozen errors, of zipfile, zlib and others
        finding = f"{type(error).__name__}: {error}"
        raise DataError(f"The archive {called} cannot be read ({finding}); {_ADVICE}") from error
    wrong = [
        f"{len(names)} of {name}"
        for name, names in zip(BATCH_FILES, found, strict=True)
        if len(names) != 1
    ]
    if wrong:
        raise DataError(
            f"The archive {called} must hold each batch file once, but has {', '.join(wrong)}; "
            f"{_ADVICE}"
        )
    return files
