"""Updates of rows: their tables, their rule, and the order of the work."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from keras import ops

from keras_treegate.core import decay
from keras_treegate.types import Tensor

Table = TypeVar("Table")
Other = TypeVar("Other")


class OptimizerTables(NamedTuple, Generic[Table]):
    """The tables that an optimizer updates together, or rows of them.

    values: (N, ...), the weights; of rows (R, ...), and so on.
    stamps: (N, 2), see `core.decay`.
    slots: (N, ...) or (N, 1, ...) each, what the optimizer keeps of the rows.
    last_step: (N,), the step in which each row was last written; `None` where
        no slot needs it.
    """

    values: Table
    stamps: Table
    slots: list[Table]
    last_step: Table | None = None

    def as_list(self) -> list[Table]:
        """Returns the tables in their order, without one that is `None`."""
        steps = [] if self.last_step is None else [self.last_step]
        return [self.values, self.stamps, *self.slots, *steps]

    def with_values(self, values: Iterable[Other]) -> "OptimizerTables[Other]":
        """Puts values, in the order of `as_list`, in place of the tables."""
        weights, stamps, *rest = values
        slots, steps = rest[: len(self.slots)], rest[len(self.slots) :]
        return OptimizerTables(weights, stamps, slots, *steps)


class RowUpdate(Protocol):
    """The change that one gradient makes to its rows.

    Both methods return new rows and change nothing, as if all of them were
    touched. `next_values` is given the slots that `next_slots` returned.
    """

    @property
    def touched(self) -> Tensor | None:
        """Tells whether each row changes (R,); `None` where all do."""

    def next_slots(
        self, slots: list[Tensor], last_step: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns the slots (R, ...) and last steps (R,) after the update."""

    def next_values(
        self, values: Tensor, stamps: Tensor, slots: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Returns the rows (R, ...) and stamps (R, 2) after the update."""


class SharedUpdate(NamedTuple):
    """An update of rows whose compiled form is shared with others like it.

    rule: called with a gradient and the operands; returns its `RowUpdate`.
    operands: what changes from step to step: tensors, tuples of them, or `None`
        for none.
    key: equal for rules that do the same, whose compiled form then is shared;
        `None` for a rule that shares with no other.
    """

    rule: Callable[..., RowUpdate]
    operands: tuple[Tensor, ...] = ()
    key: Hashable = None

    def of(self, gradient: Tensor) -> RowUpdate:
        """Returns the update by a gradient (R, ...)."""
        return self.rule(gradient, *self.operands)


def updated_tables(
    tables: OptimizerTables[Tensor],
    update: RowUpdate,
    touched: Tensor | None,
    read: Callable[[Tensor], Tensor],
    write: Callable[[Tensor, Tensor], Tensor],
) -> OptimizerTables[Tensor]:
    """Returns tables after an update of those rows of them that are touched.

    Rows are read where they are used, the slots once more after they were
    written. So each gather has one use, and XLA on CPU makes one loop of both,
    whose reads overlap; a gather by itself moves one row after the other,
    several times as slowly. Because each write depends on the read before it,
    it is made in place.

    Args:
        tables: the tables.
        update: the update of the rows.
        touched: whether each row changes (R,), boolean; `None` where all do.
        read: returns the rows of a table.
        write: returns a table with new rows.
    """

    def written(table: Tensor, new: Tensor, old: Tensor) -> Tensor:
        """Returns a table with its new rows where touched, else the old."""
        if touched is not None:
            new = ops.where(decay.of_rows(touched, old), new, old)
        return write(table, new)

    slots, last_step = tables.slots, tables.last_step
    if slots:
        old = list(map(read, slots))
        before = None if last_step is None else read(last_step)
        new, step = update.next_slots(old, before)
        slots = list(map(written, slots, new, old))
        if last_step is not None:
            last_step = written(last_step, step, before)
    values, stamps = read(tables.values), read(tables.stamps)
    new_values, new_stamps = update.next_values(
        values, stamps, list(map(read, slots))
    )
    return OptimizerTables(
        written(tables.values, new_values, values),
        written(tables.stamps, new_stamps, stamps),
        slots,
        last_step,
    )


def updated_rows(
    rows: OptimizerTables[Tensor], update: RowUpdate, touched: Tensor | None
) -> OptimizerTables[Tensor]:
    """Returns rows that have been read already after an update of them."""
    return updated_tables(
        rows, update, touched, lambda old: old, lambda _, new: new
    )
