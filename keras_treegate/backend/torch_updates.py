"""Updates of rows under PyTorch: of one table after the other, in place."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from keras_treegate.backend.row_gradient import RowGradient
from keras_treegate.backend.torch import read_rows


def updating_rows() -> Any:
    return contextlib.nullcontext(_update_rows)


def _update_rows(variables: list, gradient: Any, update: Callable) -> None:
    ids = None
    if isinstance(gradient, RowGradient):
        ids, gradient = gradient.ids, gradient.rows
    tables = [read_rows(variable, ids) for variable in variables]
    update(tables, gradient)
    for variable, rows in zip(variables, tables, strict=True):
        _write_rows(variable, ids, rows)


def _write_rows(variable: Any, ids: Any, rows: Any) -> None:
    with torch.no_grad():
        value = variable.value
        rows = rows.to(value.dtype)
        if ids is None:
            value.copy_(rows)
        else:
            value.index_copy_(0, ids, rows)
