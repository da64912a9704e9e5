"""Keeping the state of a long computation on disk, now and then, whole or not at all."""

import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_overparam.typing import Array


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
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(file, **entries)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)

    def load(self) -> dict[str, Array]:
        """The arrays by name; `ValueError` for a file that is damaged or of another sweep."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = dict(content)
            digest = str(arrays.pop("digest"))
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The checkpoint {self.path} is damaged ({error}); remove it to start again."
            ) from error
        if digest != self.digest:
            raise ValueError(
                f"The checkpoint {self.path} is of another sweep; remove it, or name another file."
            )
        return arrays


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
