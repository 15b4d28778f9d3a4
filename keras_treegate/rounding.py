"""Weights in a smaller dtype.

In "int8" a row w of Q numbers stands for `scale * integers`, with

    scale = max(abs(w)) / 127        integers = round(w / scale)
"""

from typing import Any

from keras import ops

from keras_treegate.dtypes import at_least_float32


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
