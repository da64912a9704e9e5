"""Event files for TensorBoard, written with the `tensorboard` package alone on any backend."""

import itertools
import os
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_overparam.typing import Array

NOT_REACHED = 2**62  # a step
_numbers = itertools.count()  # of the files of this process


class EventLog:
    """Appends to an event file of its own in a folder, which is one run in TensorBoard.

    Scalars and histograms can be put into runs below it, each a folder with a file of its own:
    TensorBoard gives each run a colour, and shows what they have under the same tag in one chart.

    A file is open only while `flush` writes to it: a kill at another time costs nothing that was
    flushed. A file that cannot be written is warned of once; then nothing is written, and training
    goes on.

    Args:
        folder: path, created if need be.

    Raises:
        ImportError: if `tensorboard` is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import tensorboard.compat.proto.event_pb2  # noqa: F401 (that it is there)
        except ImportError as error:
            raise ImportError(
                "Writing for TensorBoard needs its package: `pip install tensorboard`, or pass "
                "`log_dir=None` to keep measurements in `history` only."
            ) from error
        name = f"{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self.folder = Path(folder)
        self.file = f"events.out.tfevents.{name}"
        self._failed = False
        self._mark: list[Any] | None = None  # event of `begin`, for the head of each file
        self._headed: set[str] = set()  # runs whose files have their head
        self._events: dict[str, list[Any]] = {}  # by run

    def begin(self, step: int) -> None:
        """Have TensorBoard drop what earlier files of the folder hold of a step and later ones.

        After a kill, training goes on from a step before the last that was shown. Training from
        step 0 is another one, and drops nothing. Only a call before the first `flush` does this.
        TensorBoard takes the first such mark in a folder for the beginning, so each file has one.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        if self._mark is None:
            start = SessionLog(status=SessionLog.START)
            mark = Event(wall_time=time.time(), step=step or NOT_REACHED, session_log=start)
            self._mark = [mark]

    def scalar(
        self, tag: str, value: float, step: int, description: str | None = None, run: str = ""
    ) -> None:
        """A number; `description` is shown beside its chart, in Markdown."""
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        self._add(scalar_pb(tag, value, description), step, run)

    def histogram(
        self, tag: str, values: Array, step: int, description: str | None = None, run: str = ""
    ) -> None:
        """The distribution of an array's values."""
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        self._add(histogram_pb(tag, values, description=description), step, run)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """A text in Markdown."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(tag, markdown), step)

    def charts(self, categories: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """The charts of the dashboard "Custom scalars".

        Args:
            categories: `{title: {chart's title: [regular expressions of tags]}}`.
        """
        from tensorboard.plugins.custom_scalar import layout_pb2, metadata

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
        layout = layout_pb2.Layout(category=made).SerializeToString()
        kind = metadata.create_summary_metadata()
        self._add_strings(metadata.CONFIG_SUMMARY_TAG, [layout], kind, 0)

    def image(self, tag: str, png: bytes, step: int = 0) -> None:
        """A picture, the content of a PNG file."""
        from tensorboard.plugins.image.metadata import create_summary_metadata

        size = [str(int.from_bytes(png[i : i + 4], "big")).encode() for i in (16, 20)]
        self._add_strings(tag, [*size, png], create_summary_metadata(None, None), step)

    def hparams(self, values: Mapping[str, float | bool | str]) -> None:
        """Hyperparameters of the run: names to numbers, booleans or strings.

        TensorBoard finds out itself which of them differ between the runs, and shows these first,
        unless a run's file lists hyperparameters and metrics as an experiment's: so none does.
        """
        from tensorboard.plugins.hparams import summary_v2  # `api` would import TensorFlow

        self._add(summary_v2.hparams_pb(values), 0)

    def _add_strings(self, tag: str, values: list[bytes], metadata: Any, step: int) -> None:
        """A summary whose own function in TensorBoard imports TensorFlow (TensorBoard 2.21)."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

        sizes = [len(values)] if len(values) > 1 else []  # one is a scalar
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
        tensor = TensorProto(dtype="DT_STRING", string_val=values, tensor_shape=shape)
        self._add(Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)]), step)

    def _add(self, summary: Any, step: int, run: str = "") -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        # TensorFlow, where it is there, has a class of its own for the same message.
        summary = Summary.FromString(summary.SerializeToString())
        event = Event(wall_time=time.time(), step=step, summary=summary)
        self._events.setdefault(run, []).append(event)

    def flush(self) -> None:
        """Append what there is to the files."""
        events, self._events = self._events, {}
        self._mark = self._mark or []
        if self._failed:
            return
        try:
            for run, its_events in events.items():
                self._append(run, its_events)
        except OSError as error:
            self._failed = True
            warnings.warn(
                f"{error.filename or self.folder} cannot be written ({error.strerror or error}); "
                "training goes on, and TensorBoard shows nothing after this.",
                stacklevel=4,
            )

    def _append(self, run: str, events: Sequence[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if run not in self._headed:
            version = Event(wall_time=time.time(), file_version="brain.Event:2")
            events = [version, *(self._mark or []), *events]
        path = self.folder / run / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            for event in events:
                RecordWriter(file).write(event.SerializeToString())
        self._headed.add(run)
