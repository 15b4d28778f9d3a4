"""Tells a trace for a file from any other, and gathers for it."""

import torch

from keras_treegate.backend.common.exporting import check_dtypes
from keras_treegate.types import Shape, Tensor

# The dtypes of tables for which LiteRT has no gather.
REFUSED = {"litert": ("bfloat16", "float16")}


def is_exporting() -> bool:
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def check_export(shape: Shape, dtypes: list[str]) -> None:
    check_dtypes(dtypes, REFUSED)


def gather(table: Tensor, ids: Tensor, axis: int) -> Tensor:
    if ids.ndim == 1:
        return table.index_select(axis, ids)
    rows = table.index_select(axis, ids.reshape(-1))
    return rows.reshape(*ids.shape, *table.shape[1:])


def quotient(numbers: Tensor, divisor: Tensor | int) -> Tensor:
    return torch.div(numbers, divisor, rounding_mode="trunc")
