"""The functions of the framework that runs; only this folder names one.

`contract.Backend` says what each function does, and what a new backend needs.
"""

import importlib
from typing import cast

import keras

from keras_treegate.backend.common.reference import (
    rows_at_positions as rows_at_positions,
)
from keras_treegate.backend.common.row_gradient import (
    RowGradient as RowGradient,
)
from keras_treegate.backend.common.row_updates import (
    OptimizerTables as OptimizerTables,
)
from keras_treegate.backend.common.row_updates import RowUpdate as RowUpdate
from keras_treegate.backend.common.row_updates import (
    SharedUpdate as SharedUpdate,
)
from keras_treegate.backend.contract import Backend as Backend
from keras_treegate.backend.contract import UpdateRows as UpdateRows

NAME: str = keras.backend.backend()

_running = cast(Backend, importlib.import_module(f"{__name__}.{NAME}"))

DECAY_STATE_IS_TRAINABLE = _running.DECAY_STATE_IS_TRAINABLE
PRODUCT = _running.PRODUCT
apply_gradients = _running.apply_gradients
assign_in_step = _running.assign_in_step
bounded_ids = _running.bounded_ids
can_assign = _running.can_assign
before_native_steps = _running.before_native_steps
check_export = _running.check_export
compiled = _running.compiled
count = _running.count
data_parallel = _running.data_parallel
distinct_ids = _running.distinct_ids
folded_outputs = _running.folded_outputs
gather = _running.gather
hash_codes = _running.hash_codes
is_dense = _running.is_dense
is_exporting = _running.is_exporting
is_of_trace = _running.is_of_trace
leaf_sums = _running.leaf_sums
mean_of_processes = _running.mean_of_processes
as_row_gradient = _running.as_row_gradient
outside_of_traces = _running.outside_of_traces
owed_decay = _running.owed_decay
path_product = _running.path_product
quotient = _running.quotient
read_clocks = _running.read_clocks
read_table = _running.read_table
read_rows = _running.read_rows
settle = _running.settle
sign_codes = _running.sign_codes
spread_rows = _running.spread_rows
take_rows = _running.take_rows
updating_rows = _running.updating_rows
watch = _running.watch
watch_ends_with_gradient = _running.watch_ends_with_gradient
write_rows = _running.write_rows

__all__ = [
    "DECAY_STATE_IS_TRAINABLE",
    "NAME",
    "PRODUCT",
    "Backend",
    "OptimizerTables",
    "RowGradient",
    "RowUpdate",
    "SharedUpdate",
    "UpdateRows",
    "apply_gradients",
    "as_row_gradient",
    "assign_in_step",
    "before_native_steps",
    "bounded_ids",
    "can_assign",
    "check_export",
    "compiled",
    "count",
    "data_parallel",
    "distinct_ids",
    "folded_outputs",
    "gather",
    "hash_codes",
    "is_dense",
    "is_exporting",
    "is_of_trace",
    "leaf_sums",
    "mean_of_processes",
    "outside_of_traces",
    "owed_decay",
    "path_product",
    "quotient",
    "read_clocks",
    "read_rows",
    "read_table",
    "rows_at_positions",
    "settle",
    "sign_codes",
    "spread_rows",
    "take_rows",
    "updating_rows",
    "watch",
    "watch_ends_with_gradient",
    "write_rows",
]
