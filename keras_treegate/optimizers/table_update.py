"""The update of the touched rows of a table by the rule of an optimizer."""

import math
import weakref
from collections.abc import Callable
from typing import Protocol, cast

from keras import ops

from keras_treegate import backend
from keras_treegate.core import decay
from keras_treegate.optimizers.row_state import Slot, Step, VariableState
from keras_treegate.types import Tensor


class Rule(Protocol):
    """The part of a step-aware optimizer that an update of rows calls."""

    @property
    def rule_key(self) -> tuple[object, ...] | None:
        """A value that optimizers with the same rule have in common."""

    def step_scalars(self, step: Step) -> tuple[Tensor, ...]:
        """Returns what is computed once for a step."""

    def next_slots(
        self, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> list[Tensor]:
        """Returns the slots after one step."""

    def next_value(
        self, value: Tensor, gradient: Tensor, slots: list[Tensor], step: Step
    ) -> Tensor:
        """Returns the value after one step, from the new slots."""


def update_of(
    rule: Rule,
    state: VariableState,
    clock: tuple[Tensor, Tensor | bool],
    step: Step,
    condition: Tensor | None,
) -> backend.SharedUpdate:
    """Returns the update that a backend makes of a table of rows.

    A row with a gradient that is all zero stays as it is, and so do all of them
    where the `condition` is given and false.

    Args:
        rule: The optimizer.
        state: The state that it keeps of the table.
        clock: The decay clock after this step, as `backend.read_clocks`
            gives it.
        step: The step.
        condition: Boolean scalar or `None`.
    """
    key, kinds = rule.rule_key, state.kinds
    return backend.SharedUpdate(
        _update_by(weakref.ref(rule), kinds),
        (*clock, *step, condition),
        None if key is None else (key, tuple(kinds), state.last_step is None),
    )


def _update_by(
    optimizer: weakref.ref[Rule], kinds: list[Slot]
) -> Callable[..., "TableUpdate"]:
    """Returns the rule of a `SharedUpdate`, which keeps no optimizer alive."""

    def update(
        gradient: Tensor,
        time: Tensor,
        negative: Tensor | bool,
        number: Tensor,
        learning_rate: Tensor,
        count: Tensor,
        scalars: tuple[Tensor, ...],
        condition: Tensor | None,
    ) -> TableUpdate:
        rule = cast(Rule, optimizer())  # It lives while it makes a step.
        step = Step(number, learning_rate, count, scalars)
        return TableUpdate(
            rule, kinds, gradient, step, (time, negative), condition
        )

    return update


class TableUpdate:
    """The update of rows by one gradient, a `backend.RowUpdate`.

    Args:
        rule: The optimizer.
        kinds: The kinds of its slots.
        gradient: (R, ...).
        step: The step.
        clock: The decay clock after it, as `backend.read_clocks` gives it.
        condition: Boolean scalar or `None`, see `update_of`.
    """

    def __init__(
        self,
        rule: Rule,
        kinds: list[Slot],
        gradient: Tensor,
        step: Step,
        clock: tuple[Tensor, Tensor | bool],
        condition: Tensor | None,
    ) -> None:
        self.rule, self.kinds = rule, kinds
        self.gradient, self.step = gradient, step
        self.time, self.negative = clock
        self.condition = condition

    @property
    def touched(self) -> Tensor:
        """Tells whether each row has a gradient in a step that is made (R,)."""
        # The sum is faster than `ops.any`, and NaN is not zero either.
        axes = tuple(range(1, len(self.gradient.shape)))
        touched = ops.sum(ops.abs(self.gradient), axis=axes) != 0
        if self.condition is not None:
            touched = ops.logical_and(touched, self.condition)
        return touched

    def next_slots(
        self, slots: list[Tensor], last_step: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns the slots after idle steps and this one."""
        count = self.step.count
        new = caught_up(self.kinds, slots, count, last_step)
        new = self.rule.next_slots(self.gradient, new, self.step)
        if last_step is not None:
            last_step = ops.broadcast_to(count, ops.shape(last_step))
        return new, last_step

    def next_values(
        self, values: Tensor, stamps: Tensor, slots: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Returns the rows after the decay that they owe and this step."""
        owed = decay.owed_at(self.time, self.negative, stamps)
        value = decay.decayed(values, owed)
        value = self.rule.next_value(value, self.gradient, slots, self.step)
        value = decay.signed(value, self.negative)
        return value, ops.broadcast_to(self.time, ops.shape(stamps))


def caught_up(
    kinds: list[Slot],
    slots: list[Tensor],
    count: Tensor,
    last_step: Tensor | None = None,
) -> list[Tensor]:
    """Returns slots (R, ...) of these kinds after the steps rows were idle.

    `count` is that of this step, `last_step` (R,) those of their last ones.
    """
    if last_step is None:
        return slots
    # At least 0, because weights of a later step may have been put back.
    idle = ops.maximum(count - last_step - 1, 0)
    decayed = []
    for kind, slot in zip(kinds, slots, strict=True):
        if kind.decay is not None:
            # This is decay^idle, faster than `ops.power`; a decay of 0 leaves
            # 0.
            rate = math.log(max(kind.decay, 1e-300))
            factors = ops.exp(rate * ops.cast(idle, slot.dtype))
            slot = slot * decay.of_rows(factors, slot)
        decayed.append(slot)
    return decayed
