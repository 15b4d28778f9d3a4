"""An update of rows that others like it can share the compiled form of."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple


class SharedUpdate(NamedTuple):
    """A function of tables and a gradient, apart from what it is given.

    rule: called with the tables, the gradient and the operands; sets the rows.
    operands: what changes from step to step: tensors, or `None` for none.
    key: equal for rules that do the same, whose compiled form then is shared;
        `None` for a rule that shares with no other.
    """

    rule: Callable
    operands: tuple = ()
    key: Hashable = None

    def __call__(self, tables: Any, gradient: Any) -> None:
        self.rule(tables, gradient, *self.operands)
