"""What a run leaves behind: a folder, and in it a JSON-lines record that survives a kill.

Every line is an object with a `kind`: `start` (settings, data, versions, device), `epoch` (metrics
of each of its steps, timings), `outcome`; and with a `check`, a digest of the rest of the line. A
line is appended whole and synced. From the first line on that was cut off by a kill, or is damaged,
nothing is believed.
"""

import contextlib
import dataclasses
import errno
import glob
import gzip
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
import zlib
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"  # file that says that a process is working in its folder
CHECK = ', "check": "'  # what comes before the digest in a line
USUAL_BACKEND = "tensorflow"  # what is published comes from it
# Settings that came later: at these values they do not count, so that older runs are still found.
ADDED = {"backend": USUAL_BACKEND}
PACKAGES = ("keras-overparam", "keras", "tensorflow", "tensorflow-datasets", "numpy")


class OutputError(Exception):
    """An output folder or file cannot be used; the message says which and what to do."""


def make_folder(path):
    """Create a folder one can write to, or say in one sentence why not."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()  # of which a kill leaves nothing
    except OSError as error:
        raise OutputError(
            f"The output folder {path} cannot be written ({error.strerror}); choose another one "
            "with --output."
        ) from error
    return path


@contextlib.contextmanager
def only_one(folder):
    """Within it no other process is, for this folder; an `OutputError` where one is already.

    The system ends it with the process, however that ends.
    """
    try:
        with FileLock(Path(folder) / LOCK, timeout=0):
            yield
    except Timeout:
        raise OutputError(
            f"Another process is working in {folder}; wait until it ends, or choose another "
            "folder with --output."
        ) from None


def write_atomically(path, write):
    """Call `write(temporary_path)`, then put the result in the place of `path` in one step."""
    path = Path(path)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        _remove_leftovers(path)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(unwritable(error, path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Put text in the place of a file, in one step."""
    write_atomically(path, lambda file: file.write_text(text, "utf-8"))


def _remove_leftovers(path):
    """Remove what processes that were killed while they wrote to `path` have left."""
    if os.name != "posix":  # where one cannot ask whether a process runs
        return
    name = f"{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"
    for left in path.parent.glob(name):
        process = left.name[len(path.stem) + 1 :].partition(".")[0]
        if process.isdecimal() and not _runs(int(process)):
            left.unlink(missing_ok=True)


def _runs(process):
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


UNWRITABLE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
)


def unwritable(error, path=None):
    """An `OSError` of writing as a sentence."""
    return (
        f"{path or error.filename or 'A file'} cannot be written ({error.strerror or error}); "
        "mend that and run the same command again, which goes on, or choose another folder with "
        "--output."
    )


def write_json(path, report, indent=None):
    """Write a dictionary as a JSON file, with a digest of the rest as its last entry."""
    text = to_json(report | {"check": _digest(to_json(report).encode())}, indent) + "\n"
    write_atomically(path, lambda file: file.write_text(text, "utf-8"))


def read_json(path):
    """The content of a JSON file: a list, or a dictionary that `write_json` wrote.

    Raises:
        ValueError: if it is damaged.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            check = content.pop("check", None)
            if check != _digest(to_json(content).encode()):
                raise ValueError("it is not what was written")
        return content
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or make it anew.") from error


def publish(record, path):
    """Put a compressed copy of a record at `path`; the same record gives the same file."""
    content = gzip.compress(record.read_bytes(), mtime=0)
    write_atomically(path, lambda file: file.write_bytes(content))


def sha256(path):
    """Hexadecimal SHA-256 of a file, None if there is none."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def settings_digest(settings, by_name=False):
    """Eight hexadecimal digits that differ whenever a dataclass's fields do.

    Args:
        settings: the dataclass.
        by_name: take its fields in the order of their names, not as they are declared.
    """
    fields = dataclasses.asdict(settings)
    for name, before in ADDED.items():
        if name in fields and fields[name] == before:
            del fields[name]
    text = json.dumps(fields, sort_keys=by_name)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def folder_of(output, settings):
    """Folder of a run: by its name, or by `older_name` where an older version has left it there.

    Args:
        output: folder of the runs.
        settings: of the run.
    """
    folder, older = Path(output) / settings.run_name, getattr(settings, "older_name", None)
    if older and not folder.exists() and (folder.parent / older).exists():
        return folder.parent / older
    return folder


def elsewhere(backend):
    """What the name of a run says of its backend: nothing of the usual one."""
    return "" if backend == USUAL_BACKEND else f"-{backend}"


def description(data):
    """What a record says of the data of a run."""
    return {name: getattr(data, name) for name in ("name", "source", "digest", "notice")}


def versions():
    """The backend, and versions of Python, the machine and the packages that shape a result."""
    import keras  # which imports the backend: TensorFlow and PyTorch cannot share every process

    backend = keras.backend.backend()
    found = {
        "backend": backend,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for package in dict.fromkeys([*PACKAGES, backend]):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def now():
    """UTC time, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def to_json(value, indent=None):
    """JSON text of a value; numbers that JSON has no word for (NaN, infinities) become null."""
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, indent=indent)


def to_indented_json(value):
    """The same with a line for each item, as in files that people read.

    Floats have nine significant digits: the last ones differ between machines.
    """
    return to_json(_each_float(value, lambda number: float(f"{number:.9g}")), indent=1) + "\n"


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
        """The lines up to the first that was cut off or is damaged, as dictionaries.

        Raises:
            OutputError: if it is a damaged gzip file.
        """
        return self._read()[0]

    def _read(self):
        """The intact lines, and what comes after them, as bytes."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        if self.path.suffix == ".gz":
            try:
                content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                raise OutputError(
                    f"{self.path} is damaged ({error}); restore it, or publish its run again."
                ) from error
        checked = CHECK.encode() in content  # records of earlier versions are not
        lines = []
        while content:
            text, newline, rest = content.partition(b"\n")
            line = _intact(text, checked) if newline else None
            if line is None:
                break
            lines.append(line)
            content = rest
        return lines, content

    def mend(self):
        """Take away what follows the last intact line, so that one can append; under `only_one`.

        A line cut off at the end is what a kill leaves. Anything else is kept beside the record.
        """
        lines, rest = self._read()
        if b"\n" in rest:
            copy = self.path.with_name(f"{self.path.name}.damaged")
            write_atomically(copy, lambda path: shutil.copyfile(self.path, path))
            print(
                f"{self.path} is damaged from line {len(lines) + 1} on: what stood there is done "
                f"again, and the damaged record is kept as {copy.name}.",
                file=sys.stderr,
            )
        if self.path.is_file() and self.path.read_bytes() != _text(lines).encode():
            self.keep(lines)

    def of_kind(self, kind):
        """Lines of one kind, in order."""
        return [line for line in self.lines() if line.get("kind") == kind]

    def outcome(self):
        """The `outcome` line, None while the run is not over."""
        lines = self.of_kind("outcome")
        return lines[-1] if lines else None

    def finished(self):
        """The `start` line and the `outcome` of a run that is over.

        Raises:
            ValueError: if it is not, or the record is damaged.
        """
        starts, outcome = self.of_kind("start"), self.outcome()
        if not starts or outcome is None:
            raise ValueError(f"{self.path} holds no finished run; run its command again.")
        return starts[0], outcome

    def backends(self):
        """Names of the backends that the run was done on: several, if it went on on another."""
        versions = [line["versions"] for line in self.lines() if "versions" in line]
        return {one.get("backend", USUAL_BACKEND) for one in versions}

    def append(self, kind, **fields):
        """Append one line and make sure it is on the disk."""
        text = _signed({"kind": kind, **fields, "time": now()})
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)  # a part of the line would be in the way
            raise OutputError(unwritable(error, self.path)) from error

    def keep(self, lines):
        """Replace the record by the given lines, in one step."""
        write_atomically(self.path, lambda path: path.write_text(_text(lines), encoding="utf-8"))


def _text(lines):
    return "".join(_signed(line) for line in lines)


def _signed(line):
    """The text of a line, with its check."""
    text = to_json(line)
    return f'{text[:-1]}{CHECK}{_digest(text[:-1].encode())}"}}\n'


def _intact(text, checked):
    """The line that a text is, without its check; None if it is damaged."""
    if checked:
        text, _, check = text.rpartition(CHECK.encode())
        if check != f'{_digest(text)}"}}'.encode():
            return None
        text += b"}"
    try:
        return json.loads(text)
    except ValueError:
        return None


def _digest(text):
    return hashlib.sha256(text).hexdigest()[:16]
