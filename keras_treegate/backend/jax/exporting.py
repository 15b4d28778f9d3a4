"""Tells a trace for a file from any other, and gathers for it.

A SavedModel holds what XLA compiles, so that nothing needs to be plain in it.
"""

import jax
import jax.numpy as jnp

from keras_treegate.backend.common.exporting import format_of_trace
from keras_treegate.types import Shape, Tensor


def is_exporting() -> bool:
    return format_of_trace() in ("onnx", "openvino")


def check_export(shape: Shape, dtypes: list[str]) -> None:
    if format_of_trace() == "openvino":
        raise ValueError(
            "`format` must be 'tf_saved_model' or 'onnx' under JAX. Received: "
            "format='openvino', for which Keras passes on what XLA compiled, "
            "which OpenVINO cannot read. Use `model.export(path, "
            'format="onnx")`, whose files OpenVINO reads, or load the saved '
            "model under TensorFlow or PyTorch and export it there."
        )
    if len(shape) > 2 and not all(isinstance(size, int) for size in shape):
        raise ValueError(
            "`inputs` must have two axes or known sizes to be exported with "
            f"format='onnx' under JAX. Received: shape={shape}. Pass "
            "`model.export` an `input_signature` with the sizes, such as "
            '`[keras.InputSpec(shape=(1, 16), dtype="int32")]`, or export the '
            "saved model under TensorFlow or PyTorch."
        )


def gather(table: Tensor, ids: Tensor, axis: int) -> Tensor:
    return jnp.take(table, ids, axis=axis, mode="clip")


def quotient(numbers: Tensor, divisor: Tensor | int) -> Tensor:
    divisor = jnp.asarray(divisor, numbers.dtype)
    return jax.lax.div(*jnp.broadcast_arrays(numbers, divisor))
