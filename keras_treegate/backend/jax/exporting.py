"""Tells a trace for a file from any other, and gathers for it.

A SavedModel holds what XLA compiles, so that nothing needs to be plain in it.
"""

import jax
import jax.numpy as jnp

from keras_treegate.backend.common.exporting import format_of_trace
from keras_treegate.types import Tensor


def is_exporting() -> bool:
    return format_of_trace() == "onnx"


def gather(table: Tensor, ids: Tensor, axis: int = 0) -> Tensor:
    return jnp.take(table, ids, axis=axis, mode="clip")


def quotient(numbers: Tensor, divisor: int) -> Tensor:
    return jax.lax.div(numbers, jnp.full_like(numbers, divisor))
