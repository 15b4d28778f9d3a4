"""Lookups of ids that may repeat, under PyTorch."""

import torch

from keras_treegate.backend.common import lookups
from keras_treegate.backend.common.lookups import OUT_OF_BOUNDS
from keras_treegate.core.rows import rows_of_sorted_ids
from keras_treegate.types import Tensor


def spread_rows(rows: Tensor, positions: Tensor) -> Tensor:
    return rows.index_select(0, positions)


def bounded_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor | None]:
    # Other devices raise by themselves; to ask them would mean to wait.
    if ids.is_cpu and not torch.compiler.is_compiling():
        outside = ids[(ids < 0) | (ids >= num_rows)]
        if len(outside):
            raise IndexError(
                f"{OUT_OF_BOUNDS.format(num_rows - 1)} {outside[:8].tolist()}"
            )
    return ids.int(), None


def distinct_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    # Other devices would have to be asked how many there are.
    if ids.is_cpu and not torch.compiler.is_compiling():
        rows, positions = torch.unique(ids, return_inverse=True)
        return rows, positions
    return lookups.distinct_ids(ids, num_rows, rows_of_sorted_ids)
