"""The state of one `apply` of a step-aware optimizer.

The way of a gradient, from the backward pass to the rows of a table, such as a
level of a tree or the embeddings of a `SparseEmbedding`:

    backward pass             the framework carries the rows of the gradient:
      |                       a lazy tensor, `IndexedSlices`, or a record of
      |                       an array
    as_row_gradients          RowGradient(ids, rows, num_rows); dense where the
      |                       rows were lost, with a warning
    ApplyState.hand_over      Keras gets the rows alone, as if they were dense
      |
    Keras's `apply`           scales, clips and calls `update_step` for each
      |
    ApplyState.take_back      what Keras made of the rows, with their ids again
      |
    update_step               any other variable: the rule, and an assignment;
      |                       a table: its clock advances, its rows are queued
    ApplyState.update_rows    the backend updates the rows of all tables
                              together, before `apply` ends
"""

import contextlib
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

from keras import ops

from keras_treegate import backend
from keras_treegate.types import Tensor, Variable

Result = TypeVar("Result")


class ApplyState:
    """State that is kept while gradients pass through Keras.

    Args:
        update_rows: Queues updates of rows, see `backend.updating_rows`.
        condition: Boolean scalar, false for a step that changes nothing;
            `None` for a step that is made in any case.
    """

    def __init__(
        self,
        update_rows: backend.UpdateRows,
        condition: Tensor | None = None,
    ) -> None:
        self.update_rows = update_rows
        self.condition = condition
        self._gradients: dict[int, backend.RowGradient] = {}
        self._updated: set[int] = set()
        self._made: dict[Hashable, Any] = {}

    def hand_over(
        self, gradient: Tensor | backend.RowGradient, variable: Variable
    ) -> Tensor:
        """Returns the tensor that Keras sees: the rows, if there are some.

        The rows have the norm of the dense gradient that they stand for.
        """
        if gradient is not None:
            self._updated.add(id(variable))
        if isinstance(gradient, backend.RowGradient):
            self._gradients[id(variable)] = gradient
            return gradient.rows
        if gradient is not None and variable.overwrite_with_gradient:
            # Keras assigns it at once, whatever the condition of the step.
            return self.if_applied(gradient, variable.value)
        return gradient

    def take_back(
        self, gradient: Tensor, variable: Variable
    ) -> Tensor | backend.RowGradient:
        """Returns the gradient after Keras, with the ids of its rows."""
        gradient = ops.cast(gradient, variable.dtype)
        handed = self._gradients.get(id(variable))
        if handed is None:
            return gradient
        # An unchanged gradient keeps the summands of its rows.
        return handed if gradient is handed.rows else handed.with_rows(gradient)

    def updates(self, variable: Variable) -> bool:
        """Returns whether a variable has a gradient in this step."""
        return id(variable) in self._updated

    def once(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Returns what `make` returned when the key was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def if_applied(self, new: Tensor, old: Tensor) -> Tensor:
        """Returns the new value, or the old one in a step that is not made."""
        if self.condition is None:
            return new
        return ops.where(self.condition, new, old)


@contextlib.contextmanager
def in_step(
    steps: list[ApplyState],
    update_rows: backend.UpdateRows,
    condition: Tensor | None,
) -> Iterator[ApplyState]:
    """Keeps the state of a step among those that are being made."""
    applying = ApplyState(update_rows, condition)
    steps.append(applying)
    try:
        yield applying
    finally:
        steps.remove(applying)


def warn_of_lost_rows(
    causes: dict[tuple[str, str], list[str]], warned: set[tuple[str, str]]
) -> None:
    """Warns once of tables whose gradients are dense, with the cause.

    Args:
        causes: the tables, by the path of their layer and the cause.
        warned: the layers and causes that need no warning; added to.
    """
    for (layer, cause), tables in causes.items():
        if (layer, cause) not in warned:
            warned.add((layer, cause))
            warnings.warn(
                f"The gradient of {', '.join(tables)} of the layer {layer!r} "
                f"is dense: {cause}. Updates are right, but every row of "
                "it is read and written.",
                stacklevel=4,
            )
