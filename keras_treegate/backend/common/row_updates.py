"""Updates of rows: their tables, their rule, and the order of the work."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from keras_treegate.types import Tensor

Table = TypeVar("Table")
Other = TypeVar("Other")


class RowTables(NamedTuple, Generic[Table]):
    """The tables of a level that an optimizer updates, or rows of them.

    nodes: (N, W, Q); of rows (R, W, Q), and so on.
    stamps: (N, 2), see `core.decay`.
    slots: (N, W, Q) or (N, 1, 1) each, what the optimizer keeps of the rows.
    last_step: (N,), the step in which each row was last written; `None` where
        no slot needs it.
    """

    nodes: Table
    stamps: Table
    slots: list[Table]
    last_step: Table | None = None

    def as_list(self) -> list[Table]:
        """Returns the tables in their order, without one that is `None`."""
        steps = [] if self.last_step is None else [self.last_step]
        return [self.nodes, self.stamps, *self.slots, *steps]

    def with_values(self, values: Iterable[Other]) -> "RowTables[Other]":
        """Puts values, in the order of `as_list`, in place of the tables."""
        nodes, stamps, *rest = values
        slots, steps = rest[: len(self.slots)], rest[len(self.slots) :]
        return RowTables(nodes, stamps, slots, *steps)


class RowUpdate(Protocol):
    """The change that one gradient makes to its rows.

    Both methods return new rows and change nothing. `next_nodes` is given the
    slots that `next_slots` returned.
    """

    def next_slots(
        self, slots: list[Tensor], last_step: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Returns the slots (R, ...) and last steps (R,) after the update."""

    def next_nodes(
        self, nodes: Tensor, stamps: Tensor, slots: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Returns the nodes (R, W, Q) and stamps (R, 2) after the update."""


class SharedUpdate(NamedTuple):
    """An update of rows whose compiled form is shared with others like it.

    rule: called with a gradient and the operands; returns its `RowUpdate`.
    operands: what changes from step to step: tensors, or `None` for none.
    key: equal for rules that do the same, whose compiled form then is shared;
        `None` for a rule that shares with no other.
    """

    rule: Callable[..., RowUpdate]
    operands: tuple[Tensor, ...] = ()
    key: Hashable = None

    def of(self, gradient: Tensor) -> RowUpdate:
        """Returns the update by a gradient (R, W, Q)."""
        return self.rule(gradient, *self.operands)


def updated_tables(
    tables: RowTables[Tensor],
    update: RowUpdate,
    read: Callable[[Tensor], Tensor],
    write: Callable[[Tensor, Tensor], Tensor],
) -> RowTables[Tensor]:
    """Returns tables after an update of rows of them.

    Rows are read where they are used, the slots once more after they were
    written. So each gather has one use, and XLA on CPU makes one loop of both,
    whose reads overlap; a gather by itself moves one row after the other,
    several times as slowly. Because each write depends on the read before it,
    it is made in place.

    Args:
        tables: the tables.
        update: the update of the rows.
        read: returns the rows of a table.
        write: returns a table with new rows.
    """
    slots, last_step = tables.slots, tables.last_step
    if slots:
        new, step = update.next_slots(
            list(map(read, slots)),
            None if last_step is None else read(last_step),
        )
        slots = list(map(write, slots, new))
        last_step = None if last_step is None else write(last_step, step)
    nodes, stamps = update.next_nodes(
        read(tables.nodes), read(tables.stamps), list(map(read, slots))
    )
    return RowTables(
        write(tables.nodes, nodes),
        write(tables.stamps, stamps),
        slots,
        last_step,
    )


def updated_rows(
    rows: RowTables[Tensor], update: RowUpdate
) -> RowTables[Tensor]:
    """Returns rows that have been read already after an update of them."""
    return updated_tables(rows, update, lambda old: old, lambda _, new: new)
