"""Tells a trace for a file from any other, and gathers for it."""

import tensorflow as tf

from keras_treegate.backend.common.exporting import (
    check_dtypes,
    format_of_trace,
)
from keras_treegate.types import Shape, Tensor

# The dtypes that have no operations in LiteRT, and no constants in OpenVINO.
REFUSED = {
    "litert": ("bfloat16", "float16"),
    "openvino": ("bfloat16",),
}


def is_exporting() -> bool:
    return not tf.executing_eagerly() and format_of_trace() is not None


def check_export(shape: Shape, dtypes: list[str]) -> None:
    check_dtypes(dtypes, REFUSED)


def gather(table: Tensor, ids: Tensor, axis: int) -> Tensor:
    return tf.gather(table, ids, axis=axis)


def quotient(numbers: Tensor, divisor: Tensor | int) -> Tensor:
    return tf.truncatediv(numbers, divisor)
