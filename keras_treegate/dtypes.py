"""Which precision to compute with."""

from typing import Any

import keras


def at_least_float32(tensor: Any) -> str:
    """The dtype to compute with: "float64" for such a tensor, else "float32".

    `keras.backend.result_type` says "float32" for both together.
    """
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return dtype if dtype == "float64" else "float32"
