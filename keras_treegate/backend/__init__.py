"""What the frameworks do each in their own way: the only folder that names one.

Each file has the same functions:

    take_rows(variable, ids, as_rows)
        Rows of a table. Its gradient is carried to the optimizer as the rows it
        touches, at least where `as_rows` says that an optimizer looks for them.
    lift(gradient, variable)
        The gradient, a `RowGradient` where it was carried as rows; and why it
        is dense where it was rows and is no longer, or `None`.
    read_rows(variable, ids)
        Rows without a gradient; all of them where `ids` is `None`.
    update_rows(variables, gradient, update)
        Replaces the rows of several tables by `update(rows, gradient)`, a list
        of theirs. Of a `RowGradient` only its rows are read and written, maybe
        a part at a time; of a dense gradient all.
    owed_decay(clock, stamps, ids)
        `decay.owed` of two variables. Where these are trainable weights, each
        has itself for a gradient.

`ids` are distinct, ascending and in bounds everywhere.
"""

import importlib
from typing import Any

import keras

from keras_treegate.backend.reference import take_slots as take_slots
from keras_treegate.backend.row_gradient import RowGradient as RowGradient

_name = f"keras_treegate.backend.{keras.backend.backend()}"
_framework: Any = importlib.import_module(_name)
try:
    _paths: Any = importlib.import_module(f"{_name}_paths")
except ModuleNotFoundError:
    from keras_treegate.backend import reference as _paths

leaf_sums = _paths.leaf_sums
path_product = _paths.path_product
take_rows = _framework.take_rows
lift = _framework.lift
read_rows = _framework.read_rows
update_rows = _framework.update_rows
owed_decay = _framework.owed_decay
DECAY_STATE_IS_TRAINABLE = _framework.DECAY_STATE_IS_TRAINABLE

__all__ = [
    "DECAY_STATE_IS_TRAINABLE",
    "RowGradient",
    "leaf_sums",
    "lift",
    "owed_decay",
    "path_product",
    "read_rows",
    "take_rows",
    "take_slots",
    "update_rows",
]
