"""Settlement under PyTorch, before steps of its own optimizers, too."""

import functools
import weakref
from collections.abc import Callable

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from keras_treegate.backend.common.settling import pay_in_parts
from keras_treegate.backend.torch.rows import (
    is_lent,
    read_clock,
    read_rows,
    write_from,
)
from keras_treegate.core import decay
from keras_treegate.types import Tensor, Variable


def settle(table: Variable, clock: Variable, stamps: Variable) -> None:
    if table.value.is_meta or torch.compiler.is_compiling():
        return
    now, then = read_rows(clock, None), read_rows(stamps, None)
    if not bool(torch.any(now != 0)):
        return
    time, negative = read_clock(now)
    if negative or is_lent(table.value):
        rows = read_rows(table, None)
        table.assign(decay.decayed(rows, decay.owed(now, then)))
    else:
        values, times = table.value.detach(), stamps.value.detach()
        pay_in_parts(values, times, time, _read_part, write_from)
    stamps.assign(torch.zeros_like(then))
    clock.assign(torch.zeros_like(now))


def _read_part(table: Tensor, start: int, end: int) -> Tensor:
    return table[start:end]


# The variables that are settled before a step of an optimizer of PyTorch's own,
# by id, each with the method that settles it.
_settled_before_steps: dict[
    int, tuple[weakref.ref[Variable], weakref.WeakMethod[Callable[[], None]]]
] = {}


def before_native_steps(variable: Variable, settle: Callable[[], None]) -> None:
    _listen_to_steps()
    key = id(variable)
    _settled_before_steps[key] = (
        weakref.ref(variable),
        weakref.WeakMethod(settle),
    )
    weakref.finalize(variable, _settled_before_steps.pop, key, None)


@functools.cache
def _listen_to_steps() -> None:
    register_optimizer_step_pre_hook(_settle_before_step)


def _settle_before_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
    written = {
        id(parameter)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for variable, settle in list(_settled_before_steps.values()):
        held, method = variable(), settle()
        if held is not None and method and id(held.value) in written:
            method()
