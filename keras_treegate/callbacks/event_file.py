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
_open: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def protocol() -> tuple[Any, Any, Any]:
    """What of the `tensorboard` package writes a file; none of it needs TF.

    Its `EventFileWriter` imports TensorFlow where that is installed.
    """
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs the package tensorboard, which is not installed. "
            'Install it with: pip install "keras_treegate[tensorboard]"'
        ) from error
    return event_pb2, summary_pb2, RecordWriter


def event_file(log_dir: Any) -> "EventFile":
    """The file of a folder: one for all who write to it at the same time.

    TensorBoard reads the files of a folder one after the other.
    """
    key = os.path.abspath(log_dir)
    file = _open.get(key)
    if file is None:
        file = _open[key] = EventFile(Path(key))
    return file


class EventFile:
    """An event file that is open; it is closed when no one holds it."""

    def __init__(self, folder: Path) -> None:
        self._events, self._summaries, record_writer = protocol()
        folder.mkdir(parents=True, exist_ok=True)
        name = (
            f"events.out.tfevents.{int(time.time()):010d}."
            f"{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        )
        stream = open(folder / name, "ab")  # noqa: SIM115
        self._records = record_writer(stream)
        weakref.finalize(self, stream.close)
        self._write(file_version="brain.Event:2")

    def _write(self, **fields: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())

    def _write_value(self, step: int, **fields: Any) -> None:
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
