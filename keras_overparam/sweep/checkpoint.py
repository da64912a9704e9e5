"""Keeping the state of a long computation on disk, now and then, whole or not at all."""

import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_overparam.typing import Array


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which, and what to do."""


class Checkpoint:
    """A file that holds a sweep's state, whole or not at all.

    Args:
        path: of the file, `.npz`.
        digest: of all that shapes the result: what distinguishes this sweep from others.
    """

    def __init__(self, path: str | os.PathLike[str], digest: str) -> None:
        self.path, self.digest = Path(path), digest

    def exists(self) -> bool:
        """Whether there is one."""
        return self.path.exists()

    def save(self, arrays: Mapping[str, npt.ArrayLike]) -> None:
        """Put arrays, by name, in the file's place."""
        entries: dict[str, Any] = {"digest": self.digest, **arrays}  # `savez` takes a flag too
        entries["content"] = _content(entries)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez(file, **entries)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def load(self) -> dict[str, Array]:
        """The arrays by name; `CheckpointError` for a damaged file, or one of another sweep."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                arrays = dict(found)
            # NumPy reads as much as an array's header says, and of a part there is no checksum.
            intact = str(arrays.pop("content")) == _content(arrays)
            digest = str(arrays.pop("digest"))
        except Exception as error:  # damage shows as any error, of NumPy, zipfile, zlib and others
            raise self._damaged(repr(error)) from error
        if not intact:
            raise self._damaged("its content is not what was written")
        if digest != self.digest:
            raise CheckpointError(
                f"The checkpoint {self.path} is of another sweep; remove it, or name another file."
            )
        return arrays

    def _damaged(self, finding: str) -> CheckpointError:
        return CheckpointError(
            f"The checkpoint {self.path} is damaged ({finding}); remove it to start again."
        )


def _content(arrays: Mapping[str, npt.ArrayLike]) -> str:
    """A digest of arrays and their names, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class Clock:
    """Rings once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.since = seconds, time.monotonic()

    def rang(self) -> bool:
        """Whether it is time again."""
        if time.monotonic() - self.since < self.seconds:
            return False
        self.since = time.monotonic()
        return True
