"""What a step does to the rows of a tree level that it touched."""

import weakref
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_treegate import backend
from keras_treegate.core import decay
from keras_treegate.optimizers.entry import Entry, Step, caught_up


def update_of(
    rule: Any, entry: Entry, clock: Any, step: Step, condition: Any
) -> backend.SharedUpdate:
    """Returns the update that a backend makes of `entry.tables`.

    A row with a gradient that is all zero stays as it is, and so do all of them
    where the `condition` is given and false.

    Args:
        rule: The optimizer.
        entry: What it keeps of the level.
        clock: The decay clock after this step.
        step: The step.
        condition: Boolean scalar or `None`.
    """
    key, kinds = rule.rule_key, entry.kinds
    return backend.SharedUpdate(
        _update_by(weakref.ref(rule), kinds),
        (*backend.read_clock(clock), *step, condition),
        None if key is None else (key, tuple(kinds), entry.last_step is None),
    )


def _update_by(optimizer: Any, kinds: list) -> Callable:
    """Returns the rule of a `SharedUpdate`, which keeps no optimizer alive."""

    def update(
        tables: Any,
        gradient: Any,
        time: Any,
        negative: Any,
        number: Any,
        learning_rate: Any,
        count: Any,
        condition: Any,
    ) -> None:
        rule, step = optimizer(), Step(number, learning_rate, count)
        # Faster than `ops.any`, and NaN is not zero either.
        touched = ops.sum(ops.abs(gradient), axis=(1, 2)) != 0  # (R,)
        if condition is not None:
            touched = ops.logical_and(touched, condition)
        if kinds:
            old = tables[2:]
            slots, last_step = old[: len(kinds)], old[len(kinds) :]
            new = caught_up(kinds, slots, count, *last_step)
            new = rule.next_slots(gradient, new, step)
            new += [count] * len(last_step)
            tables[2:] = _where(touched, new, old)
        rows, stamps, *slots = tables[: 2 + len(kinds)]
        value = decay.decayed(rows, decay.owed_at(time, negative, stamps))
        value = rule.next_value(value, gradient, slots, step)
        value = decay.signed(value, negative)
        tables[:2] = _where(touched, [value, time], [rows, stamps])

    return update


def _where(touched: Any, new: list, old: list) -> list:
    """New rows where they are touched (R,), of any rank; else the old."""

    def chosen(new: Any, old: Any) -> Any:
        axes = (1,) * (len(old.shape) - 1)
        return ops.where(ops.reshape(touched, (-1, *axes)), new, old)

    return [chosen(*pair) for pair in zip(new, old, strict=True)]
