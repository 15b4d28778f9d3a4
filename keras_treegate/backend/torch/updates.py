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
CHUNK = 2**18


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
    variables = tables.as_list()
    rows = tables.with_values(read_rows(table, ids) for table in variables)
    new = updated_rows(rows, update.of(gradient)).as_list()
    for variable, rows in zip(variables, new, strict=True):
        _write_rows(variable, ids, rows)


def _write_rows(variable: Variable, ids: Tensor | None, rows: Tensor) -> None:
    with torch.no_grad():
        value = variable.value
        rows = rows.to(value.dtype)
        if ids is None:
            value.copy_(rows)
        else:
            value.index_copy_(0, ids, rows)
