"""Tells a trace for a file from any other, and gathers for it."""

import torch

from keras_treegate.types import Tensor


def is_exporting() -> bool:
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def gather(table: Tensor, ids: Tensor, axis: int = 0) -> Tensor:
    if ids.ndim == 1:
        return table.index_select(axis, ids)
    rows = table.index_select(axis, ids.reshape(-1))
    return rows.reshape(*ids.shape, *table.shape[1:])


def quotient(numbers: Tensor, divisor: int) -> Tensor:
    return torch.div(numbers, divisor, rounding_mode="trunc")
