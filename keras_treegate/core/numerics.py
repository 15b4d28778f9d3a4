"""Precision: what to compute with, and weights in a smaller dtype.

In "int8" a row w of Q numbers stands for `scale * integers`, with

    scale = max(abs(w)) / 127        integers = round(w / scale)
"""

from typing import Any

import keras
from keras import ops


def at_least_float32(tensor: Any) -> str:
    """The dtype to compute with: "float64" for such a tensor, else "float32".

    `keras.backend.result_type` says "float32" for both together.
    """
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return dtype if dtype == "float64" else "float32"


def rounded(rows: Any, dtype: str) -> tuple[Any, Any]:
    """Rows (R, W, Q) in a dtype, and their scale (R, W) float32 or `None`."""
    if dtype != "int8":
        return ops.cast(rows, dtype), None
    rows = ops.cast(rows, at_least_float32(rows))
    scale = ops.max(ops.abs(rows), axis=-1) / 127
    scale = ops.cast(ops.where(scale > 0, scale, 1), "float32")
    steps = ops.round(rows / ops.cast(ops.expand_dims(scale, -1), rows.dtype))
    return ops.cast(ops.clip(steps, -127, 127), dtype), scale


def restored(rows: Any, scale: Any, dtype: str) -> Any:
    """The numbers that rounded rows (R, W, Q) stand for, in a dtype."""
    if scale is None:
        return ops.cast(rows, dtype)
    scale = ops.expand_dims(scale, -1)
    return ops.cast(ops.cast(rows, scale.dtype) * scale, dtype)
