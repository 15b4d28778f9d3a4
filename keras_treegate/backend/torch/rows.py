"""Row gradients under PyTorch, as a tensor that is dense only on demand."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.autograd.function import FunctionCtx

from keras_treegate.backend.common.row_gradient import (
    RowGradient,
)
from keras_treegate.backend.torch.lazy_gradient import LazyGradient
from keras_treegate.backend.torch.processes import ids_of_processes
from keras_treegate.core import decay
from keras_treegate.core.numerics import COUNTER_BITS, COUNTER_RADIX
from keras_treegate.core.rows import TableVariables
from keras_treegate.types import Tensor, Variable

Result = TypeVar("Result")

# Why a gradient was rows no more when an optimizer got it.
DENSE_BECAUSE = (
    "an operation on the gradient came before the optimizer, such as the "
    "average of DistributedDataParallel, which "
    "keras_treegate.distribution.data_parallel makes of rows"
)

# Optimizers write any variable here.
DECAY_STATE_IS_TRAINABLE = False


class _TakeRows(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(table: Tensor, ids: Tensor, owed: Tensor | None) -> Tensor:
        rows = table.index_select(0, ids)
        return rows if owed is None else decay.decayed(rows, owed)

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        table, ids, _ = inputs
        ctx.save_for_backward(ids)
        ctx.shape = table.shape

    @staticmethod
    def backward(ctx: FunctionCtx, rows: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: needs a graph itself
            gradient = rows.new_zeros(ctx.shape).index_add(0, ids, rows)
            return gradient, None, None
        return LazyGradient.of_rows(ctx.shape, ids.long(), rows), None, None


def take_rows(variable: Variable, ids: Tensor, as_rows: bool) -> Tensor:
    return _take(variable.value, ids)


def _take(table: Tensor, ids: Tensor, owed: Tensor | None = None) -> Tensor:
    """Returns rows, with the decay that they owe (R,) if it is given.

    The gradient of the table is as in `decay.read`, with fewer operations.
    """
    if not table.is_meta and not torch.compiler.is_compiling():
        return _TakeRows.apply(table, ids, owed)
    rows = table.index_select(0, ids)
    return rows if owed is None else decay.read(rows, owed)


def as_row_gradient(
    gradient: Tensor, variable: Variable
) -> tuple[Tensor | RowGradient, str | None]:
    if not isinstance(gradient, LazyGradient):
        return gradient, None
    part = gradient.merged()
    if part is None:
        return gradient.to_dense(), DENSE_BECAUSE
    return RowGradient(part[0], part[1], gradient.shape[0]), None


def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
    value = variable.value.detach()
    return value if ids is None else value.index_select(0, ids)


def read_table(table: TableVariables, ids: Tensor | None) -> Tensor:
    owed = owed_decay(table.clock, table.stamps, ids)
    if ids is None:
        return decay.read(table.values.value, owed)
    return _take(table.values.value, ids, owed)


def write_rows(variable: Variable, start: int, rows: Tensor) -> None:
    write_from(variable.value, start, rows)


def write_from(table: Tensor, start: int, rows: Tensor) -> None:
    with torch.no_grad():
        table[start : start + rows.shape[0]] = rows


def is_lent(value: Tensor) -> bool:
    """Returns whether the value of a variable is that of a `StatelessScope`."""
    return not isinstance(value, torch.nn.Parameter)


def read_clocks(clocks: Tensor) -> list[tuple[Tensor, Tensor | bool]]:
    if not clocks.is_cpu or torch.compiler.is_compiling():
        return decay.read_clocks(clocks)
    return [read_clock(clock) for clock in clocks.unbind(1)]


def read_clock(clock: Tensor) -> tuple[Tensor, Tensor | bool]:
    """Returns `decay.read_clock`; the sign as a `bool` if known."""
    if not clock.is_cpu or torch.compiler.is_compiling():
        return decay.read_clock(clock)
    # Because reading the two numbers costs less than operations on them.
    first, second = clock.tolist()
    negative = abs(first) < abs(second)
    return (clock.flip(0) if negative else clock), negative


def owed_decay(clock: Variable, stamps: Variable, ids: Tensor | None) -> Tensor:
    now, then = read_rows(clock, None), read_rows(stamps, ids)
    return decay.owed_at(*read_clock(now), then)


def count(
    low: Variable, high: Variable, ids: Tensor, added: Tensor | None
) -> None:
    if added is not None:
        added = ids_of_processes(low, added)
    ids = ids_of_processes(low, ids.long())
    words = [low.value, high.value]
    stateless = any(map(is_lent, words))
    if stateless:
        words = [word.clone() for word in words]
    with torch.no_grad():
        if added is None:
            added = torch.ones_like(ids, dtype=torch.int32)
        words[0].scatter_add_(0, ids, added)
        if len(ids) >= len(words[0]):  # no more than the batch itself
            words[1] += words[0] >> COUNTER_BITS
            words[0] &= COUNTER_RADIX - 1
        else:
            full = words[0].gather(0, ids)
            carried = words[1].gather(0, ids) + (full >> COUNTER_BITS)
            words[0].scatter_(0, ids, full & (COUNTER_RADIX - 1))
            words[1].scatter_(0, ids, carried)
    if stateless:
        low.assign(words[0])
        high.assign(words[1])


def watch(
    tensor: Tensor, variable: Variable, check: Callable[[], None] | None
) -> Tensor:
    if check is not None and tensor.requires_grad:
        tensor.register_hook(lambda gradient: check())
    return tensor


def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
    # The hook goes with the graph of the tensor, where there is one.
    return tensor.requires_grad or not other.requires_grad


def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
    return tensor.device == like.device


def is_dense(value: object) -> bool:
    if not isinstance(value, torch.Tensor):
        return True
    return value.layout == torch.strided and not value.is_nested


def can_assign(variable: Variable, tensor: Tensor) -> bool:
    return True


def assign_in_step(variable: Variable, value: Tensor) -> None:
    variable.assign(value)


def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
    return function
