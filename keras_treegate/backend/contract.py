"""What a backend must offer, as a typed contract.

Each framework has a folder of three files: `rows` for the rows of tables and
their gradients, `paths` for leaf sums and path products, and `updates`. Its
`__init__` names what this contract asks for, and mypy holds it against it. A
new backend is a new folder.

`ids` are distinct, ascending and in bounds everywhere but in `count`. Functions
take plain tensors, variables and tuples of them, and call nothing of the floors
above.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.backend.common.shared_update import SharedUpdate
from keras_treegate.core.rows import BatchRows, LevelTables
from keras_treegate.types import Tensor, Variable

Result = TypeVar("Result")

# Called with the rows of some tables, and with the gradient (R, W, Q) of the
# rows of the first.
RowUpdate: TypeAlias = Callable[[Any, Tensor], None]

# Called with the variables of the tables, a gradient and an update of rows.
UpdateRows: TypeAlias = Callable[
    [list[Variable], Tensor | RowGradient, RowUpdate | SharedUpdate], None
]


class Backend(Protocol):
    """The functions of a framework that `keras_treegate.backend` hands on.

    Attributes:
        DECAY_STATE_IS_TRAINABLE: Whether an optimizer can write only its own
            variables and trainable ones, so that clocks and stamps must be
            trainable weights.
        PRODUCT: How a path product is computed, and why, for people to read.
    """

    DECAY_STATE_IS_TRAINABLE: bool
    PRODUCT: str

    @staticmethod
    def leaf_sums(levels: list[LevelTables], rows: BatchRows) -> Tensor:
        """Returns the sum of the rows along the path to each leaf slot.

        Args:
            levels: the tables of each level, from the roots down.
            rows: the rows of them that the batch needs.

        Returns:
            (G * U, W, Q), of the dtype of the nodes, with all decay settled.
            The gradient of a level that is read row by row is carried as rows.
        """

    @staticmethod
    def path_product(inputs: Tensor, sums: Tensor, slots: Tensor) -> Tensor:
        """Multiplies each example with the leaf sums of its own slots.

            y[b] = sum over g, w of inputs[b, g, w] * sums[slots[g, b], w]

        Args:
            inputs: (B, G, W).
            sums: (G * U, W, Q), of any dtype; cast to that of the inputs.
            slots: (G, B), integers, counted over all trees.

        Returns:
            (B, Q), of the dtype of the inputs.
        """

    @staticmethod
    def take_rows(variable: Variable, ids: Tensor, as_rows: bool) -> Tensor:
        """Returns rows of a table, whose gradient is carried as these rows.

        At least where `as_rows` says that an optimizer looks for them.
        """

    @staticmethod
    def lift(
        gradient: Tensor, variable: Variable
    ) -> tuple[Tensor | RowGradient, str | None]:
        """Returns a gradient as rows where it was carried as rows.

        And the reason why it is dense where it was rows and is no longer, or
        `None`.
        """

    @staticmethod
    def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
        """Returns rows without a gradient; all where `ids` is `None`."""

    @staticmethod
    def read_level(level: LevelTables, ids: Tensor | None) -> Tensor:
        """Returns rows (R, W, Q) of a level with the decay that they owe.

        The gradient for the nodes is that of the decayed rows, as if the decay
        had been written each time: a row that owes half of itself does not get
        half the gradient. All rows where `ids` is `None`.
        """

    @staticmethod
    def updating_rows() -> AbstractContextManager[UpdateRows]:
        """Returns a context for the updates of one step.

        It gives a function `update_rows(variables, gradient, update)`, whose
        updates are made before the context ends. It calls
        `update(tables, gradient)`, which takes slices of a list of rows of the
        variables and sets them anew; what it has set is what it takes next. Of
        a `RowGradient` only its rows are read and written, maybe a part at a
        time; of a dense gradient all. Updates that are a `SharedUpdate` with
        equal keys share what is compiled.
        """

    @staticmethod
    def outside_of_traces() -> AbstractContextManager:
        """Returns a context to make variables in while a step is traced.

        The trace then has no part in how they are made.
        """

    @staticmethod
    def write_rows(variable: Variable, start: int, rows: Tensor) -> None:
        """Sets a run of rows, in place and outside of any step.

        Nothing else may hold the old value of the variable.
        """

    @staticmethod
    def owed_decay(
        clock: Variable, stamps: Variable, ids: Tensor | None
    ) -> Tensor:
        """Returns `core.decay.owed` of two variables (R,), without a gradient.

        Where these are trainable weights, their gradients are zeros.
        """

    @staticmethod
    def read_clock(clock: Tensor) -> tuple[Tensor, Any]:
        """Returns `core.decay.read_clock`; the sign as a `bool` if known."""

    @staticmethod
    def settle(nodes: Variable, clock: Variable, stamps: Variable) -> None:
        """Pays the decay that rows owe, and sets clock and stamps to zero.

        Does nothing where none is owed. Works in a step as well, eager or
        traced.
        """

    @staticmethod
    def before_native_steps(
        variable: Variable, settle: Callable[[], None]
    ) -> None:
        """Has a method called before a native optimizer writes a variable.

        An optimizer of the framework's own, where the framework tells of that.
        """

    @staticmethod
    def count(
        low: Variable, high: Variable, ids: Tensor, added: Tensor | None
    ) -> None:
        """Adds one for each of the `ids`, which may repeat here.

        To counts of `high * COUNTER_RADIX + low` in two variables (N,). Where
        `added` is not `None`, adds what it says for each, 0 or 1 (int32).
        Replicas add up.
        """

    @staticmethod
    def watch(
        tensor: Tensor, variable: Variable, check: Callable[[], None] | None
    ) -> Tensor:
        """Returns the tensor, and has `check` called before its gradient is.

        In a graph of TensorFlow that is not the backward pass but Keras, when
        it asks the `variable` for its regularization. `None` ends that.
        """

    @staticmethod
    def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
        """Returns whether the check of a watched tensor is let go in time.

        That is when no gradient can be taken any more, through the tensor nor
        through the other.
        """

    @staticmethod
    def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
        """Returns a function of tensors, as fast as it is in a graph.

        Of a function of a module, that depends on its arguments alone.
        """

    @staticmethod
    def is_dense(value: Any) -> bool:
        """Returns whether a value is no sparse or ragged tensor."""

    @staticmethod
    def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
        """Returns whether a tensor can be used together with another."""

    @staticmethod
    def can_assign(variable: Variable, tensor: Tensor) -> bool:
        """Returns whether what is made of a tensor can go into a variable.

        Not under JAX inside of a loop (`scan`, `keras.layers.RNN`), an inner
        `jit` or a `vmap`, which such values must not outlive.
        """

    @staticmethod
    def assign_in_step(variable: Variable, value: Tensor) -> None:
        """Assigns to a variable, unless that would outlive a trace."""
