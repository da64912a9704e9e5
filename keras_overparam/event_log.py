"""Event files for TensorBoard, written with the `tensorboard` package alone on any backend."""

import contextlib
import itertools
import os
import socket
import time
import warnings
from pathlib import Path

_numbers = itertools.count()  # of the files of this process


class EventLog:
    """Appends to an event file of its own in a folder, which is one run in TensorBoard.

    A file that cannot be written is warned of once; then nothing is written, and training goes on.

    Args:
        folder: path, created if need be.

    Raises:
        ImportError: if `tensorboard` is not installed.
    """

    def __init__(self, folder):
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ImportError(
                "Writing for TensorBoard needs its package: `pip install tensorboard`, or pass "
                "`log_dir=None` to keep measurements in `history` only."
            ) from error
        name = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self.path = Path(folder) / f"events.out.tfevents.{name}"
        self._file = self._writer = None

        def open_file():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
            self._writer = RecordWriter(self._file)
            start = Event(wall_time=time.time(), file_version="brain.Event:2")
            self._writer.write(start.SerializeToString())

        self._guarded(open_file)

    def scalar(self, tag, value, step, description=None):
        """A number; `description` is shown beside its chart, in Markdown."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self._add(scalar_pb(tag, value, description), step)

    def histogram(self, tag, values, step, description=None):
        """The distribution of an array's values."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self._add(histogram_pb(tag, values, description=description), step)

    def text(self, tag, markdown, step=0):
        """A text in Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(tag, markdown), step)

    def charts(self, categories):
        """The charts of the dashboard "Custom scalars".

        Args:
            categories: `{title: {chart's title: [regular expressions of tags]}}`.
        """
        from tensorboard.plugins.custom_scalar import layout_pb2, summary

        made = [
            layout_pb2.Category(
                title=title,
                chart=[
                    layout_pb2.Chart(
                        title=name, multiline=layout_pb2.MultilineChartContent(tag=tags)
                    )
                    for name, tags in charts.items()
                ],
            )
            for title, charts in categories.items()
        ]
        self._add(summary.pb(layout_pb2.Layout(category=made)), 0)

    def hparams(self, values):
        """Hyperparameters of the run, names to numbers, booleans or strings."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._add(hparams_pb(values), 0)

    def _add(self, summary, step):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        # TensorFlow, where it is there, has a class of its own for the same message.
        summary = Summary.FromString(summary.SerializeToString())
        event = Event(wall_time=time.time(), step=step, summary=summary)
        self._if_open(lambda: self._writer.write(event.SerializeToString()))

    def flush(self):
        """Put everything on the disk."""
        self._if_open(lambda: self._writer.flush())

    def close(self):
        """Flush, and close the file."""
        self._if_open(lambda: self._writer.close())
        self._writer = None

    def _if_open(self, write):
        if self._writer is not None:
            self._guarded(write)

    def _guarded(self, write):
        try:
            write()
        except OSError as error:
            self._writer = None
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()
            warnings.warn(
                f"{self.path} cannot be written ({error.strerror or error}); training goes on, and "
                "TensorBoard shows nothing after this.",
                stacklevel=4,
            )
