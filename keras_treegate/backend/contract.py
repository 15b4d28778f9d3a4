"""The typed contract of a backend.

Each framework has a folder, whose `__init__` names what this contract asks for;
mypy holds it against it. A new backend is a new folder.

`ids` are distinct, ascending and in bounds everywhere but in `count` and
`bounded_ids`. Functions take plain tensors, variables and tuples of them, and
call nothing of the floors above.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from keras_treegate.backend.common.row_gradient import RowGradient
from keras_treegate.backend.common.row_updates import (
    OptimizerTables,
    SharedUpdate,
)
from keras_treegate.core.rows import BatchRows, TableVariables
from keras_treegate.core.tree_shape import FoldedTables
from keras_treegate.types import Shape, Tensor, Variable

Result = TypeVar("Result")

# Called with the tables of an update, the gradient of the first and an update.
UpdateRows: TypeAlias = Callable[
    [OptimizerTables[Variable], Tensor | RowGradient, SharedUpdate], None
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
    def leaf_sums(levels: list[TableVariables], rows: BatchRows) -> Tensor:
        """Returns the sum of the rows along the path to each leaf that is read.

        Args:
            levels: the tables of each level, from the roots down.
            rows: the rows of them that the batch needs.

        Returns:
            (G * U, W, Q), of the dtype of the nodes, with all decay settled.
            The gradient of a level that is read row by row is carried as rows.
        """

    @staticmethod
    def path_product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
        """Multiplies each example with the leaf sums at its own positions.

            y[b] = sum over g, w of inputs[b, g, w] * sums[positions[g, b], w]

        Args:
            inputs: (B, G, W).
            sums: (G * U, W, Q), of any dtype; cast to that of the inputs.
            positions: (G, B), integers, counted over all trees.

        Returns:
            (B, Q), of the dtype of the inputs.
        """

    @staticmethod
    def sign_codes(
        inputs: Tensor,
        units: Tensor,
        thresholds: Tensor | None,
        shape: tuple[int, int],
    ) -> Tensor:
        """Returns the leaf codes (..., G) of sign bits, int32.

        Numbers below 2^-126 in size count as 0; NaN is bit 0.

        Args:
            inputs: (..., S).
            units: (G, D), the inputs that are compared.
            thresholds: (G, D); `None` for zeros.
            shape: G and D, which a trace for a file would not know.
        """

    @staticmethod
    def hash_codes(
        tokens: Tensor,
        token_multipliers: Tensor,
        hash_multipliers: Tensor,
        hashes: tuple[tuple[int, int], ...],
    ) -> Tensor:
        """Returns the leaf codes (..., G) of tokens (..., n), int32.

        Args:
            tokens: integers, the newest last.
            token_multipliers: (4 * k, G), those of the digits of the k newest
                tokens, which are read.
            hash_multipliers: (3 * H, G), those of H hashes.
            hashes: for each its order and how many of its bits are used.
        """

    @staticmethod
    def folded_outputs(
        inputs: Tensor, tables: FoldedTables, codes: Tensor
    ) -> Tensor:
        """Returns the outputs (..., Q) of a folded layer, before activation.

        In the fewest operations where no gradient is asked for.

        Args:
            inputs: (..., P).
            tables: what the layer stores.
            codes: (..., G), integers.
        """

    @staticmethod
    def take_rows(variable: Variable, ids: Tensor, as_rows: bool) -> Tensor:
        """Returns rows of a table.

        Their gradient is carried as these rows, at least where `as_rows` says
        that an optimizer looks for them.
        """

    @staticmethod
    def spread_rows(rows: Tensor, positions: Tensor) -> Tensor:
        """Returns the row (B, ...) at each position (B,), of rows (R, ...).

        Positions are in bounds, and may repeat: the gradients of equal ones add
        up, to a dense gradient of the rows.
        """

    @staticmethod
    def bounded_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor | None]:
        """Returns ids (B,) as int32 in bounds, and where they were outside.

        Raises for ids outside of 0..num_rows - 1 where the framework can. Where
        it cannot, their places are marked in the booleans (B,), and there are
        other ids in their place; `None` where it always can.
        """

    @staticmethod
    def distinct_ids(ids: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
        """Returns the rows of ids (B,), and the position of each id (B,).

        The rows are distinct and ascending: min(B, num_rows) of them, with
        spare ones, or only those that are used, where shapes may depend on
        the ids.

        Args:
            ids: int32, at least one, in bounds.
            num_rows: of the table.
        """

    @staticmethod
    def as_row_gradient(
        gradient: Tensor, variable: Variable
    ) -> tuple[Tensor | RowGradient, str | None]:
        """Returns a gradient as rows where it was carried as rows.

        The second value is the reason why a gradient is dense that once was
        rows, or `None`.
        """

    @staticmethod
    def read_rows(variable: Variable, ids: Tensor | None) -> Tensor:
        """Returns rows without a gradient; all where `ids` is `None`."""

    @staticmethod
    def read_table(table: TableVariables, ids: Tensor | None) -> Tensor:
        """Returns rows (R, ...) of a table with the decay that they owe.

        The gradient for the table is that of the decayed rows, as if the decay
        had been written each time: a row that owes half of itself does not get
        half the gradient. All rows where `ids` is `None`.
        """

    @staticmethod
    def updating_rows() -> AbstractContextManager[UpdateRows]:
        """Returns a context for the updates of one step.

        The context gives a function `update_rows(tables, gradient, update)`,
        whose updates are made before the context ends, each in the order of
        `row_updates.updated_tables`. Of a `RowGradient` only its rows are read
        and written, maybe a part at a time; of a dense gradient all. Updates
        with equal keys share what is compiled.
        """

    @staticmethod
    def outside_of_traces() -> AbstractContextManager[None]:
        """Returns a context in which variables are made outside of any trace.

        It is entered where a step that is traced makes variables.
        """

    @staticmethod
    def apply_gradients(apply: Callable[..., None], *arguments: Any) -> None:
        """Calls the `apply` of Keras's optimizers with these arguments."""

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
    def read_clocks(clocks: Tensor) -> list[tuple[Tensor, Tensor | bool]]:
        """Returns `core.decay.read_clock` of each of some clocks (2, T).

        A sign that is known is a `bool`.
        """

    @staticmethod
    def settle(table: Variable, clock: Variable, stamps: Variable) -> None:
        """Pays the decay that rows owe, and sets clock and stamps to zero.

        Does nothing where none is owed. Works in a step as well, eager or
        traced.
        """

    @staticmethod
    def before_native_steps(
        variable: Variable, settle: Callable[[], None]
    ) -> None:
        """Has a method called before a native optimizer writes a variable.

        A native optimizer is one of the framework's own. Nothing is called
        where the framework has none, or does not announce its steps.
        """

    @staticmethod
    def count(
        low: Variable, high: Variable, ids: Tensor, added: Tensor | None
    ) -> None:
        """Adds one for each of the `ids`, which may repeat here.

        The counts are `high * COUNTER_RADIX + low`, in two variables (N,).
        Where `added` is not `None`, it holds the number to add for each id, 0
        or 1 (int32). The counts of replicas and of processes add up.
        """

    @staticmethod
    def data_parallel(
        model: Any,
        tables: list[Variable],
        statistics: list[Variable],
        options: dict[str, object],
    ) -> Any:
        """Returns a model wrapped to train in several processes.

        The gradients of the tables then are, after each backward pass, the
        means over the processes, carried as rows where they are so in each of
        them. Raises where the framework has no such processes.

        Args:
            model: a built Keras model.
            tables: those of it whose gradients are carried as rows.
            statistics: the variables for which `mean_of_processes` is asked,
                and the low words of `count`.
            options: those of the framework's own wrapper.
        """

    @staticmethod
    def mean_of_processes(variable: Variable, tensor: Tensor) -> Tensor:
        """Returns the mean of a float tensor over the processes of a variable.

        These are the ones that `data_parallel` was called in, or the replicas
        of a strategy of TensorFlow. The tensor itself where one program
        computes for all devices.
        """

    @staticmethod
    def watch(
        tensor: Tensor, variable: Variable, check: Callable[[], None] | None
    ) -> Tensor:
        """Returns the tensor, and has its gradient call `check`.

        In a graph of TensorFlow, Keras makes the call instead of the backward
        pass, when it asks the `variable` for its regularization. A `check` of
        `None` ends that.
        """

    @staticmethod
    def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
        """Returns whether the check of a watched tensor is released in time.

        That is when no gradient can be taken any more, neither through the
        tensor nor through the other.
        """

    @staticmethod
    def compiled(function: Callable[..., Result]) -> Callable[..., Result]:
        """Returns a function of tensors that is as fast as it is in a graph.

        The function given is one of a module, and depends on its arguments
        alone.
        """

    @staticmethod
    def is_exporting() -> bool:
        """Returns whether a model is traced for the file of a runtime.

        Nothing may then be computed but in plain operations, for which each
        runtime has its own. Not so for a file that holds what XLA compiles.
        """

    @staticmethod
    def check_export(shape: Shape, dtypes: list[str]) -> None:
        """Raises where the file that is made cannot hold a layer.

        Args:
            shape: that of the inputs (..., P).
            dtypes: those that the layer computes with and stores.
        """

    @staticmethod
    def gather(table: Tensor, ids: Tensor, axis: int) -> Tensor:
        """Returns parts of a table, in the operation that all files know.

        Args:
            table: of any dtype.
            ids: integers, all in bounds. They may repeat.
            axis: 0, or -1 with ids of one axis.
        """

    @staticmethod
    def quotient(numbers: Tensor, divisor: Tensor | int) -> Tensor:
        """Divides integers, rounded towards zero, alike in all files."""

    @staticmethod
    def is_dense(value: object) -> bool:
        """Returns whether a value is no tensor that is sparse or ragged."""

    @staticmethod
    def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
        """Returns whether a tensor can be used together with another."""

    @staticmethod
    def can_assign(variable: Variable, tensor: Tensor) -> bool:
        """Returns whether a value made of a tensor can go into a variable.

        It cannot under JAX inside of a loop (`scan`, `keras.layers.RNN`), an
        inner `jit` or a `vmap`, which such values must not outlive.
        """

    @staticmethod
    def assign_in_step(variable: Variable, value: Tensor) -> None:
        """Assigns to a variable, unless that would outlive a trace."""
