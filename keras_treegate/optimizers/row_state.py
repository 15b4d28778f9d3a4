"""State that a step-aware optimizer keeps of each variable, and of each row."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_treegate.tables import row_table
from keras_treegate.tables.layout_errors import naming_layout_errors
from keras_treegate.types import Store, Tensor, Variable


class Slot(NamedTuple):
    """A kind of optimizer state that each variable has.

    Args:
        name: Its name, a part of that of the variables.
        decay: The factor by which a step with a zero gradient multiplies it;
            `None` where such a step leaves it as it is. Defaults to `None`.
        initial: Its value at the start. Defaults to `0.0`.
        per_row: Whether a row of a table has one number, and not one for
            each weight. Defaults to `False`.

    Example:

    >>> import keras_treegate
    >>> keras_treegate.optimizers.Slot("velocity", decay=0.9).initial
    0.0
    """

    name: str
    decay: float | None = None
    initial: float = 0.0
    per_row: bool = False


class Step(NamedTuple):
    """A step, as the rule of an optimizer sees it.

    Args:
        number: int32 scalar, `iterations` counted from 1; a user may set it.
        learning_rate: Scalar of the variable's dtype.
        count: int32 scalar, the steps that were taken, this one included.
        scalars: What the optimizer's `step_scalars` returned. Defaults to `()`.

    Example:

    >>> import keras_treegate
    >>> keras_treegate.optimizers.Step(1, 0.01, 1).learning_rate
    0.01
    """

    number: Tensor
    learning_rate: Tensor
    count: Tensor
    scalars: tuple[Tensor, ...] = ()


class VariableState:
    """The state of one variable; opaque to Keras's tracking.

    Attributes:
        variable: The variable.
        table: The `RowTable` that it holds the rows of, or `None`.
        decays: Whether weight decay applies to it.
        slots: Variables, one for each kind.
        last_step: Variable (R,) with the step, from 1 on, in which each row was
            last written; `None` where no slot owes anything for idle steps.
        kinds: The kinds of its slots.
    """

    def __init__(
        self, variable: Variable, kinds: list[Slot], decays: bool
    ) -> None:
        self.variable = variable
        self.table = row_table.of(variable)
        self.decays = decays
        self.slots: list[Variable] = []
        self.last_step: Variable | None = None
        written = getattr(variable, "overwrite_with_gradient", False)
        self.kinds = [] if written else kinds

    def add_variables(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Makes the slots, as variables of an optimizer."""
        rows = None if self.table is None else self.variable.shape[0]
        for kind in self.kinds:
            initializer = keras.initializers.Constant(kind.initial)
            if kind.per_row and rows is not None:
                name = self._name(kind.name)
                shape = (rows, *[1] * (len(self.variable.shape) - 1))
                with naming_layout_errors(name, shape):
                    slot = optimizer.add_variable(
                        shape=shape,
                        initializer=initializer,
                        dtype=self.variable.dtype,
                        name=name,
                    )
            else:
                slot = optimizer.add_variable_from_reference(
                    self.variable, name=kind.name, initializer=initializer
                )
            self.slots.append(slot)
        if rows is not None and any(k.decay is not None for k in self.kinds):
            name = self._name("last_step")
            with naming_layout_errors(name, (rows,)):
                self.last_step = optimizer.add_variable(
                    shape=(rows,),
                    initializer="zeros",
                    dtype="int32",
                    name=name,
                )

    def is_untouched(self) -> bool:
        """Returns whether all gradients were zero; false without slots."""
        return len(self.slots) > 0 and all(
            bool(ops.all(ops.convert_to_tensor(slot) == kind.initial))
            for slot, kind in zip(self.slots, self.kinds, strict=True)
        )

    def _name(self, name: str) -> str:
        """Returns the name of a slot that has one number for each row.

        It holds the path of the table's clock, because a key of a `LayoutMap`
        that is meant for the rows, such as ".*nodes.*", has more axes than
        these slots.
        """
        path = (
            self.variable.path if self.table is None else self.table.clock.path
        )
        return f"{path.replace('/', '_')}_{name}"


def idle_steps(table: row_table.RowTable) -> np.ndarray | None:
    """Counts the steps since each row of a table was written, (N,) int64.

    The optimizer that has taken the most steps decides, if several listen to
    the table; `None` where none of them keeps the last steps. A row that was
    never written has been idle for all its steps.
    """
    counted: list[tuple[int, np.ndarray]] = []
    for optimizer in table.listeners:
        last_step = optimizer.last_steps(table.values)
        if last_step is not None:
            step = int(ops.convert_to_numpy(optimizer.steps_taken))
            last_step = ops.convert_to_numpy(last_step).astype("int64")
            counted.append((step, step - last_step))
    if not counted:
        return None
    return max(counted, key=lambda pair: pair[0])[1]


def check_decay_state(variables: list[Variable]) -> None:
    """Raises for tables without their clock and stamps, where these train."""
    given = {id(variable) for variable in variables}
    for variable in variables:
        table = row_table.of(variable)
        if table is None or not table.clock.trainable:
            continue
        if not {id(table.clock), id(table.stamps)} <= given:
            raise ValueError(
                "`variables` must hold the clock and stamps of each table of "
                f"rows along with it. Received: {variable.path!r} without "
                "them. Pass all of `model.trainable_variables`."
            )


def key_of_rule(
    optimizer: keras.optimizers.Optimizer, attributes_of_base: frozenset[str]
) -> tuple[object, ...] | None:
    """Returns a key that is equal for optimizers with the same rule.

    It holds the class and the hyperparameters. `None` where attributes of a
    subclass are anything but numbers, strings and `None`.
    """
    attributes = {
        name: value
        for name, value in vars(optimizer).items()
        if name not in attributes_of_base
    }
    plain = bool | int | float | str | None
    if not all(isinstance(value, plain) for value in attributes.values()):
        return None
    items = sorted(attributes.items())
    return (type(optimizer), *((name, repr(value)) for name, value in items))


@contextlib.contextmanager
def counting_steps(
    optimizer: keras.optimizers.Optimizer,
    store: Store,
    variables: list[Variable],
) -> Iterator[Store]:
    """Yields a store of numbered variables that has the steps taken too.

    The steps taken are the last of the variables, and files of version 0.1.0
    lack them. They are then read from the other variables that were loaded.
    """
    last = str(len(variables) - 1)
    numbers = list(map(str, range(len(variables) - 1)))
    if optimizer.steps_taken is None or set(store.keys()) != set(numbers):
        yield store
        return
    yield {**{number: store[number] for number in numbers}, last: 0}
    steps = [optimizer.iterations, *(s.last_step for s in optimizer.states)]
    optimizer.steps_taken.assign(
        max(
            int(ops.convert_to_numpy(step).max())
            for step in steps
            if step is not None
        )
    )
