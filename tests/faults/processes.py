"""Runs in processes of their own, forked from one that has imported everything, and their kills.

Importing TensorFlow takes ten seconds and forking a hundredth of one. TensorFlow bears it as long
as the parent has imported it only, and computed nothing.
"""

import dataclasses
import os
import signal
import sys
import time
import traceback
from pathlib import Path

TRACEBACK = "Traceback (most recent call last)"
PATIENCE = 600  # seconds after which a run counts as hung
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, None if it was killed; what it said; how long it took."""

    status: int | None
    output: str
    errors: str
    seconds: float
    operations: int

    @property
    def killed(self):
        return self.status is None

    def sentence(self, name):
        """The one sentence that a script ended in; None if it ended in another way."""
        said = [line for line in self.errors.splitlines() if line.startswith(f"{name}: error: ")]
        last = self.errors.rstrip().rpartition("\n")[2]
        clear = self.status == 1 and TRACEBACK not in self.errors and said == [last]
        return last if clear else None

    def sound(self, name):
        """Whether it succeeded without a traceback, or ended in one sentence."""
        succeeded = self.status == 0 and TRACEBACK not in self.errors
        return succeeded or self.sentence(name) is not None


class Run:
    """A function called in a forked process.

    Args:
        call: the function; what it raises is told as the interpreter would tell it.
        scratch: folder for its output.
        watched: folder of which the file operations are counted.
        kill_at: number of the file operation at which it kills itself.
    """

    def __init__(self, call, scratch, watched, kill_at=None):
        self.logs = [Path(scratch) / name for name in ("output", "errors", "operations")]
        for log in self.logs:
            log.write_bytes(b"")
        self.started = time.monotonic()
        self.process = os.fork()
        if not self.process:
            self._be_the_child(call, str(watched), kill_at)

    def _be_the_child(self, call, watched, kill_at):
        status = 70
        try:
            for log, descriptor in zip(self.logs, (1, 2), strict=False):
                os.dup2(os.open(log, os.O_WRONLY), descriptor)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            operations = _count_operations(watched, kill_at)
            status = _status(call)
            self.logs[2].write_text(str(operations[0]))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def ends(self, kill_after=None):
        """Wait for the end, or kill it after so many seconds; what is known of it then."""
        deadline = self.started + (PATIENCE if kill_after is None else kill_after)
        ended = 0
        while not ended and time.monotonic() < deadline:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            time.sleep(0.002)
        if not ended:
            os.kill(self.process, signal.SIGKILL)
            _, status = os.waitpid(self.process, 0)
        hung = not ended and kill_after is None
        status = 99 if hung else os.waitstatus_to_exitcode(status)
        output, errors, operations = (log.read_text(errors="replace") for log in self.logs)
        return Ended(
            None if status == -signal.SIGKILL else status,
            output,
            errors + "hung" * hung,
            time.monotonic() - self.started,
            int(operations or 0),
        )


def _status(call):
    """Exit status of a call, as the interpreter would have it."""
    try:
        call()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _count_operations(watched, kill_at):
    """Count the process's file operations in a folder from now on; a list of the one number."""
    count = [0]

    def hook(event, arguments):
        if event == "open":
            path, flags = arguments[0], arguments[2]
            if not (isinstance(flags, int) and flags & WRITING):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if watched in str(path):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count
