"""What the frameworks do each in their own way: the only folder that names one.

Each framework has a folder of three files: `rows` for the rows of tables and
their gradients, `paths` for leaf sums and path products (see
`common.reference`), and `updates`. They have the same functions:

    take_rows(variable, ids, as_rows)
        Rows of a table. Its gradient is carried to the optimizer as the rows it
        touches, at least where `as_rows` says that an optimizer looks for them.
    lift(gradient, variable)
        The gradient, a `RowGradient` where it was carried as rows; and why it
        is dense where it was rows and is no longer, or `None`.
    read_rows(variable, ids)
        Rows without a gradient; all of them where `ids` is `None`.
    updating_rows()
        A context for the updates of one step, which are made before it ends. It
        gives a function `update_rows(variables, gradient, update)`. That calls
        `update(tables, gradient)`, which takes slices of a list of rows of the
        variables and sets them anew; what it has set is what it takes next. Of
        a `RowGradient` only its rows are read and written, maybe a part at a
        time; of a dense gradient all.
    write_rows(variable, start, rows)
        Sets a run of rows, in place and outside of any step. Nothing else may
        hold the old value of the variable.
    owed_decay(clock, stamps, ids)
        `decay.owed` of two variables. Where these are trainable weights, each
        has itself for a gradient.
    count(low, high, ids)
        Adds one for each of the `ids`, which may repeat here, to counts of
        `high * COUNT_BASE + low` in two variables (N,). Replicas add up.
    watch(tensor, variable, check)
        The tensor; whoever takes a gradient through it calls `check` before.
        Under TensorFlow that is not the backward pass but Keras, when it asks
        the `variable` for its regularization. `None` ends that.
    compiled(function)
        A module's function of tensors, and of nothing else that changes, as
        fast as it is in a graph.
    is_of_trace(tensor, like)
        Whether a tensor can be used together with another that is at hand.
    assign_in_step(variable, value)
        Assigns to a variable; does nothing where that would outlive a trace.

`ids` are distinct, ascending and in bounds everywhere else.
"""

import importlib
from typing import Any

import keras

from keras_treegate.backend.common.count_base import COUNT_BASE as COUNT_BASE
from keras_treegate.backend.common.reference import take_slots as take_slots
from keras_treegate.backend.common.row_gradient import (
    RowGradient as RowGradient,
)

NAME = keras.backend.backend()

_rows: Any = importlib.import_module(f"keras_treegate.backend.{NAME}.rows")
_updates: Any = importlib.import_module(
    f"keras_treegate.backend.{NAME}.updates"
)
_paths: Any = importlib.import_module(f"keras_treegate.backend.{NAME}.paths")

PRODUCT = _paths.PRODUCT
leaf_sums = _paths.leaf_sums
path_product = _paths.path_product
take_rows = _rows.take_rows
lift = _rows.lift
read_rows = _rows.read_rows
updating_rows = _updates.updating_rows
write_rows = _rows.write_rows
owed_decay = _rows.owed_decay
count = _rows.count
watch = _rows.watch
is_of_trace = _rows.is_of_trace
assign_in_step = _rows.assign_in_step
compiled = _rows.compiled
DECAY_STATE_IS_TRAINABLE = _rows.DECAY_STATE_IS_TRAINABLE

__all__ = [
    "COUNT_BASE",
    "DECAY_STATE_IS_TRAINABLE",
    "NAME",
    "PRODUCT",
    "RowGradient",
    "assign_in_step",
    "compiled",
    "count",
    "is_of_trace",
    "leaf_sums",
    "lift",
    "owed_decay",
    "path_product",
    "read_rows",
    "take_rows",
    "take_slots",
    "updating_rows",
    "watch",
    "write_rows",
]
