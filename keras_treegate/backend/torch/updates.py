"""Updates of rows under PyTorch: of one table after the other, in place."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.backend.common.row_updates import (
    OptimizerTables,
    RowUpdate,
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
    if isinstance(gradient, RowGradient):
        ids, rows = gradient.ids, gradient.rows
    else:
        ids, rows = None, gradient
    if not _can_ask(rows):
        whole = slice(0, len(rows)) if ids is None else ids
        change = update.of(rows)
        _update_part(tables, whole, change, change.touched)
        return
    kept = _touched(rows, update)
    for part in _parts(rows if kept is None else rows[: len(kept)]):
        if kept is not None:
            part = kept[part]
        of_table = part if ids is None else ids[part]
        _update_part(tables, of_table, update.of(rows[part]), None)


def _touched(rows: Tensor, update: SharedUpdate) -> Tensor | None:
    """Returns the numbers of the rows that are touched; `None` where all."""
    numbers = []
    for part in _parts(rows):
        touched = update.of(rows[part]).touched
        if touched is None:
            return None
        numbers.append(touched.nonzero()[:, 0] + part.start)
    kept = torch.cat(numbers) if numbers else None
    return None if kept is None or len(kept) == len(rows) else kept


def _parts(rows: Tensor) -> Iterator[slice]:
    """Yields slices of the rows that hold as many numbers as a chunk."""
    size = max(1, CHUNK // math.prod(rows.shape[1:]))
    for start in range(0, len(rows), size):
        yield slice(start, start + size)


def _update_part(
    tables: OptimizerTables[Variable],
    part: Tensor | slice,
    change: RowUpdate,
    touched: Tensor | None,
) -> None:
    """Updates some rows of tables, given as their ids or as a slice."""
    variables = tables.as_list()
    rows = tables.with_values(_read_part(table, part) for table in variables)
    new = updated_rows(rows, change, touched).as_list()
    for variable, rows in zip(variables, new, strict=True):
        _write_part(variable, part, rows)


def _can_ask(tensor: Tensor) -> bool:
    """Returns whether to read a tensor takes no wait for a device."""
    return tensor.is_cpu and not torch.compiler.is_compiling()


def _read_part(variable: Variable, part: Tensor | slice) -> Tensor:
    if isinstance(part, slice):
        return variable.value.detach()[part]
    return read_rows(variable, part)


def _write_part(variable: Variable, part: Tensor | slice, rows: Tensor) -> None:
    value = variable.value.detach()
    rows = rows.to(value.dtype)
    if isinstance(part, slice):
        value[part] = rows
        return
    wide = _wide_dtype(value)
    if wide is not None:
        value, rows = value.view(wide), rows.contiguous().view(wide)
    value.index_copy_(0, part, rows)


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
