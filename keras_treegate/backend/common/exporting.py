"""Finds out which file a model is traced for, where no framework says so.

All of Keras's exporters are called by `keras.Model.export` or by an archive of
`keras.export`, which are on the stack while they trace a model.
"""

import inspect
from collections.abc import Mapping
from types import FrameType

import keras

_EXPORT = inspect.unwrap(keras.Model.export).__code__

# The format of an archive that is written without `keras.Model.export`.
ARCHIVE = "tf_saved_model"


def format_of_trace() -> str | None:
    """Returns the `format` of the file that is being made; `None` if none is.

    An archive is searched for by the first argument of its methods.
    """
    found, frame = None, inspect.currentframe()
    while frame is not None:
        if frame.f_code is _EXPORT:
            return str(frame.f_locals["format"])
        if _is_of_archive(frame):
            found = ARCHIVE
        frame = frame.f_back
    return found


def check_dtypes(
    dtypes: list[str], refused: Mapping[str, tuple[str, ...]]
) -> None:
    """Raises for dtypes that are refused by the format of the file."""
    file_format = format_of_trace() or ""
    for dtype in dtypes:
        if dtype in refused.get(file_format, ()):
            raise ValueError(
                f"A layer must not compute with {dtype} or store it, to be "
                f"exported with format={file_format!r}. Received: dtype="
                f'{dtype!r}. Use `dtype="float32"` for the layer, and fold it '
                'with `keras_treegate.fold(model, dtype="float32")` or "int8".'
            )


def _is_of_archive(frame: FrameType) -> bool:
    names = frame.f_code.co_varnames
    if not frame.f_code.co_argcount or names[0] != "self":
        return False
    return isinstance(frame.f_locals.get("self"), keras.export.ExportArchive)
