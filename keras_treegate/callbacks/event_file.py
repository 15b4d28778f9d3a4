"""Scalars and histograms for TensorBoard, without TensorFlow."""

import itertools
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

BINS = 30

_numbers = itertools.count()
_open: weakref.WeakValueDictionary[str, "EventFile"] = (
    weakref.WeakValueDictionary()
)


def protocol() -> tuple[Any, Any, Any]:
    """Imports the parts of `tensorboard` that write a file, without TensorFlow.

    Its `EventFileWriter` imports TensorFlow where that is installed.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs the package tensorboard, which is not installed. "
            "Install it with: pip install tensorboard"
        ) from error
    return event_pb2, summary_pb2, RecordWriter


def event_file(log_dir: str | os.PathLike[str]) -> "EventFile":
    """Returns the file of a folder, shared by all who write to it.

    TensorBoard reads the files of a folder one after the other.
    """
    key = os.path.abspath(log_dir)
    file = _open.get(key)
    if file is None:
        file = _open[key] = EventFile(Path(key))
    return file


class EventFile:
    """An event file that is open; it is closed when no one holds it.

    Where someone has deleted it, what is written next begins a new one: a file
    that is open goes on without a name, and nobody would ever read it.
    """

    def __init__(self, folder: Path) -> None:
        self._events, self._summaries, self._record_writer = protocol()
        self._folder = folder
        self._open_new()

    def _open_new(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = self._folder / (
            f"events.out.tfevents.{int(time.time()):010d}."
            f"{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        )
        stream = open(self._path, "ab")  # noqa: SIM115
        self._records = self._record_writer(stream)
        self._close = weakref.finalize(self, stream.close)
        self._write(file_version="brain.Event:2")

    def _write(self, **fields: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())

    def _write_value(self, step: int, **fields: Any) -> None:
        if not self._path.exists():
            self._close()
            self._open_new()
        value = self._summaries.Summary.Value(**fields)
        summary = self._summaries.Summary(value=[value])
        self._write(step=step, summary=summary)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Adds a number."""
        self._write_value(step, tag=tag, simple_value=float(value))

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        """Adds the distribution of the numbers of an array."""
        values = np.asarray(values, dtype="float64").ravel()
        counts, edges = np.histogram(values, bins=BINS)
        histogram = self._summaries.HistogramProto(
            min=values.min(),
            max=values.max(),
            num=values.size,
            sum=values.sum(),
            sum_squares=np.square(values).sum(),
            bucket_limit=edges[1:],
            bucket=counts,
        )
        self._write_value(step, tag=tag, histo=histogram)

    def flush(self) -> None:
        """Makes what was added readable."""
        self._records.flush()
