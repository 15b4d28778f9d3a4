"""Tables whose rows compiled functions read where they lie, without a copy."""

from typing import NamedTuple

import tensorflow as tf

from keras_treegate.types import Tensor, Variable


def native(variable: Variable | tf.Variable) -> Tensor:
    """Returns the `tf.Variable`; an `update_step` may already have that."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def is_shared(argument: object) -> bool:
    """Returns whether an argument is a variable that replicas share."""
    return isinstance(argument, tf.distribute.DistributedValues)


def lies_in_place(table: Tensor) -> bool:
    """Returns whether a compiled function can read rows of a table itself.

    It cannot for a tensor in a `StatelessScope`, nor for variables that
    replicas share.
    """
    return isinstance(table, tf.Variable) and not is_shared(table)


class InPlace(NamedTuple):
    """A table whose rows a compiled function gathers without a copy of it.

    handle: of the variable, which the function does not keep.
    like: no rows, of the shape and the dtype of those of the table.
    """

    handle: Tensor
    like: Tensor

    @classmethod
    def of(cls, table: tf.Variable) -> "InPlace":
        """Returns the table of a variable."""
        return cls(table.handle, tf.zeros((0, *table.shape[1:]), table.dtype))

    def rows(self, ids: Tensor) -> Tensor:
        """Gathers rows by their ids."""
        rows = tf.raw_ops.ResourceGather(
            resource=self.handle, indices=ids, dtype=self.like.dtype
        )
        return tf.ensure_shape(rows, (*ids.shape, *self.like.shape[1:]))

    def all_rows(self) -> Tensor:
        """Reads the table; XLA does not copy it."""
        table = tf.raw_ops.ReadVariableOp(
            resource=self.handle, dtype=self.like.dtype
        )
        return tf.reshape(table, (-1, *self.like.shape[1:]))
