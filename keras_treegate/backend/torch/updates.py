"""Updates of rows under PyTorch: of one table after the other, in place."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.backend.common.row_updates import (
    OptimizerTables,
    SharedUpdate,
    updated_rows,
)
from keras_treegate.backend.contract import UpdateRows
from keras_treegate.backend.torch.rows import read_rows
from keras_treegate.types import Tensor, Variable

# The numbers of a table that are updated at a time on CPU, where they stay in
# cache. With fewer, the overhead of the operations outweighs their work.
CHUNK = 2**17


def outside_of_traces() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def apply_gradients(apply: Callable[..., None], *arguments: Any) -> None:
    apply(*arguments)


def updating_rows() -> contextlib.AbstractContextManager[UpdateRows]:
    return contextlib.nullcontext(_update_rows)


def _update_rows(
    tables: OptimizerTables[Variable],
    gradient: Tensor | RowGradient,
    update: SharedUpdate,
) -> None:
    if not isinstance(gradient, RowGradient):
        _update_part(tables, None, gradient, update)
        return
    ids, rows = gradient.ids, gradient.rows
    size = max(1, len(ids))
    if rows.device.type == "cpu":
        size = max(1, CHUNK // math.prod(rows.shape[1:]))
    parts = zip(ids.split(size), rows.split(size), strict=True)
    for part, rows_of_part in parts:
        _update_part(tables, part, rows_of_part, update)


def _update_part(
    tables: OptimizerTables[Variable],
    ids: Tensor | None,
    gradient: Tensor,
    update: SharedUpdate,
) -> None:
    change = update.of(gradient)
    touched = change.touched
    if touched is not None and _can_ask(touched) and bool(touched.all()):
        touched = None
    elif touched is not None and _can_ask(touched) and ids is not None:
        kept = touched.nonzero()[:, 0]
        ids, gradient = ids[kept], gradient.index_select(0, kept)
        change, touched = update.of(gradient), None
    variables = tables.as_list()
    rows = tables.with_values(read_rows(table, ids) for table in variables)
    new = updated_rows(rows, change, touched).as_list()
    for variable, rows in zip(variables, new, strict=True):
        _write_rows(variable, ids, rows)


def _can_ask(tensor: Tensor) -> bool:
    """Returns whether to read a tensor takes no wait for a device."""
    return tensor.is_cpu and not torch.compiler.is_compiling()


def _write_rows(variable: Variable, ids: Tensor | None, rows: Tensor) -> None:
    value = variable.value.detach()
    rows = rows.to(value.dtype)
    if ids is None:
        value.copy_(rows)
        return
    wide = _wide_dtype(value)
    if wide is not None:
        value, rows = value.view(wide), rows.contiguous().view(wide)
    value.index_copy_(0, ids, rows)


def _wide_dtype(table: Tensor) -> torch.dtype | None:
    """Returns a dtype that a table can be written in with fewer numbers.

    PyTorch writes rows on CPU one number after the other, which takes longer
    than to move their bytes.
    """
    if not table.is_cpu or table.ndim < 2 or not table.is_contiguous():
        return None
    row_bytes = table.shape[-1] * table.element_size()
    start = table.storage_offset() * table.element_size()
    for dtype in (torch.complex128, torch.int64):
        if row_bytes % dtype.itemsize == start % dtype.itemsize == 0:
            return dtype
    return None
