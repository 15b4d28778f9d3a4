"""An update of rows whose compiled form is shared with others like it."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from keras_treegate.types import Tensor


class SharedUpdate(NamedTuple):
    """An update of tables by a gradient: a rule, apart from its operands.

    rule: called with the tables, the gradient and the operands; sets the rows.
    operands: what changes from step to step: tensors, or `None` for none.
    key: equal for rules that do the same, whose compiled form then is shared;
        `None` for a rule that shares with no other.
    """

    rule: Callable[..., None]
    operands: tuple = ()
    key: Hashable = None

    def __call__(self, tables: Any, gradient: Tensor) -> None:
        self.rule(tables, gradient, *self.operands)
