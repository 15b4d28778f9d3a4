"""Precision: the dtype to compute with, small dtypes, and large counts.

In "int8" a row w of Q numbers stands for `scale * integers`, with

    scale = max(abs(w)) / 127        integers = round(w / scale)
"""

import keras
from keras import ops

from keras_treegate.types import Tensor

# The smallest normal number of float32 and of bfloat16. XLA and Eigen take
# numbers nearer to 0 for 0, PyTorch and NumPy do not. A path must depend
# neither on that nor on the dtype that a number comes in.
SMALLEST_NORMAL = 2.0**-126

# A count is `high * COUNTER_RADIX + low`, two integers of 32 bits. The radix
# is a power of two, so that a shift gives the carry, and leaves room above it
# for the visits that one batch adds.
COUNTER_BITS = 30
COUNTER_RADIX = 2**COUNTER_BITS


def at_least_float32(tensor: Tensor) -> str:
    """Returns "float64" for a tensor of that dtype, else "float32".

    `keras.backend.result_type` says "float32" for both together.
    """
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return dtype if dtype == "float64" else "float32"


def without_subnormals(tensor: Tensor) -> Tensor:
    """Returns a tensor, of float32 at least, with 0 for numbers next to 0.

    The gradient is that of the tensor itself, at 0 as well.
    """
    zeros = tensor - ops.stop_gradient(tensor)
    return ops.where(ops.abs(tensor) < SMALLEST_NORMAL, zeros, tensor)


def quantize(rows: Tensor, dtype: str) -> tuple[Tensor, Tensor | None]:
    """Returns rows (R, W, Q) in a dtype, and their scale (R, W) or `None`.

    The scale is float32.
    """
    if dtype != "int8":
        return ops.cast(rows, dtype), None
    rows = ops.cast(rows, at_least_float32(rows))
    scale = ops.max(ops.abs(rows), axis=-1) / 127
    scale = ops.cast(ops.where(scale > 0, scale, 1), "float32")
    steps = ops.round(rows / ops.cast(ops.expand_dims(scale, -1), rows.dtype))
    return ops.cast(ops.clip(steps, -127, 127), dtype), scale


def dequantize(rows: Tensor, scale: Tensor | None, dtype: str) -> Tensor:
    """Returns the numbers that quantized rows (R, W, Q) stand for."""
    if scale is None:
        return ops.cast(rows, dtype)
    scale = ops.expand_dims(scale, -1)
    return ops.cast(ops.cast(rows, scale.dtype) * scale, dtype)
