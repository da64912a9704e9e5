"""What a run leaves behind: a folder, and in it a JSON-lines record that survives a kill.

Every line is an object with a `kind`: `start` (settings, data, versions, device), `epoch` (metrics
of each of its steps, timings), `outcome`. A line is appended whole and synced; a last line cut off
by a kill is ignored.
"""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import time
from pathlib import Path

PACKAGES = ("keras-overparam", "keras", "tensorflow", "tensorflow-datasets", "numpy")


class OutputError(Exception):
    """An output folder or file cannot be used; the message says which and what to do."""


def make_folder(path):
    """Create a folder one can write to, or say in one sentence why not."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"The output folder {path} cannot be written ({error.strerror}); choose another one "
            "with --output."
        ) from error
    return path


def write_atomically(path, write):
    """Call `write(temporary_path)`, then put the result in the place of `path` in one step."""
    path = Path(path)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def publish(record, path):
    """Put a compressed copy of a record at `path`; the same record gives the same file."""
    content = gzip.compress(record.read_bytes(), mtime=0)
    write_atomically(path, lambda file: file.write_bytes(content))


def sha256(path):
    """Hexadecimal SHA-256 of a file, None if there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def settings_digest(settings):
    """Eight hexadecimal digits that differ whenever a dataclass's fields do."""
    text = json.dumps(dataclasses.asdict(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def versions():
    """Versions of Python, the machine and the packages that shape a result."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def device_name():
    """What TensorFlow computes on, in words."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
    return f"{_cpu_model()}, {os.cpu_count()} cores"


def _cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def now():
    """UTC time, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def to_json(value):
    """JSON text of a value; numbers that JSON has no word for (NaN, infinities) become null."""
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False)


def to_indented_json(value):
    """The same with a line for each item, as in files that people read.

    Floats have nine significant digits: the last ones differ between machines.
    """
    value = _each_float(_finite(value), lambda number: float(f"{number:.9g}"))
    return json.dumps(value, allow_nan=False, indent=1, ensure_ascii=False) + "\n"


def _finite(value):
    return _each_float(value, lambda number: number if math.isfinite(number) else None)


def _each_float(value, change):
    """A nested structure with each float changed."""
    if isinstance(value, dict):
        return {key: _each_float(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_each_float(item, change) for item in value]
    return change(value) if isinstance(value, float) else value


def rounded(values, digits=6):
    """Floats at a number of significant digits, which keeps a record small."""
    return [float(f"{value:.{digits}g}") for value in values]


class Record:
    """The JSON-lines record of one run, at `folder/record.jsonl`."""

    def __init__(self, folder):
        self.path = Path(folder) / "record.jsonl"

    @classmethod
    def at(cls, path):
        """The record in a folder, or the one that is the given file (gzip if it ends in `.gz`)."""
        path = Path(path)
        record = cls(path.parent)
        record.path = path / "record.jsonl" if path.is_dir() else path
        return record

    def lines(self):
        """All complete lines, as dictionaries; stops at the first that was cut off."""
        lines = []
        if self.path.is_file():
            content = self.path.read_bytes()
            if self.path.suffix == ".gz":
                content = gzip.decompress(content)
            for text in content.decode("utf-8", errors="replace").splitlines():
                try:
                    lines.append(json.loads(text))
                except json.JSONDecodeError:
                    break
        return lines

    def of_kind(self, kind):
        """Lines of one kind, in order."""
        return [line for line in self.lines() if line.get("kind") == kind]

    def outcome(self):
        """The `outcome` line, None while the run is not over."""
        lines = self.of_kind("outcome")
        return lines[-1] if lines else None

    def append(self, kind, **fields):
        """Append one line and make sure it is on the disk."""
        text = to_json({"kind": kind, **fields, "time": now()}) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}).") from error

    def keep(self, lines):
        """Replace the record by the given lines, in one step."""
        text = "".join(to_json(line) + "\n" for line in lines)
        write_atomically(self.path, lambda path: path.write_text(text, encoding="utf-8"))
