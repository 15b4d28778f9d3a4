"""The backend of TensorFlow: the functions of `backend.contract`."""

from keras_treegate.backend.common.processes import (
    data_parallel as data_parallel,
)
from keras_treegate.backend.tensorflow.codes import hash_codes as hash_codes
from keras_treegate.backend.tensorflow.codes import sign_codes as sign_codes
from keras_treegate.backend.tensorflow.compiling import compiled as compiled
from keras_treegate.backend.tensorflow.counts import count as count
from keras_treegate.backend.tensorflow.exporting import (
    check_export as check_export,
)
from keras_treegate.backend.tensorflow.exporting import gather as gather
from keras_treegate.backend.tensorflow.exporting import (
    is_exporting as is_exporting,
)
from keras_treegate.backend.tensorflow.exporting import quotient as quotient
from keras_treegate.backend.tensorflow.folded import (
    folded_outputs as folded_outputs,
)
from keras_treegate.backend.tensorflow.leaf_sums import leaf_sums as leaf_sums
from keras_treegate.backend.tensorflow.lookups import bounded_ids as bounded_ids
from keras_treegate.backend.tensorflow.lookups import (
    distinct_ids as distinct_ids,
)
from keras_treegate.backend.tensorflow.lookups import spread_rows as spread_rows
from keras_treegate.backend.tensorflow.processes import (
    mean_of_processes as mean_of_processes,
)
from keras_treegate.backend.tensorflow.products import PRODUCT as PRODUCT
from keras_treegate.backend.tensorflow.products import (
    path_product as path_product,
)
from keras_treegate.backend.tensorflow.row_gradients import (
    as_row_gradient as as_row_gradient,
)
from keras_treegate.backend.tensorflow.row_gradients import (
    read_table as read_table,
)
from keras_treegate.backend.tensorflow.row_gradients import (
    take_rows as take_rows,
)
from keras_treegate.backend.tensorflow.rows import (
    DECAY_STATE_IS_TRAINABLE as DECAY_STATE_IS_TRAINABLE,
)
from keras_treegate.backend.tensorflow.rows import is_dense as is_dense
from keras_treegate.backend.tensorflow.rows import owed_decay as owed_decay
from keras_treegate.backend.tensorflow.rows import read_clocks as read_clocks
from keras_treegate.backend.tensorflow.rows import read_rows as read_rows
from keras_treegate.backend.tensorflow.rows import write_rows as write_rows
from keras_treegate.backend.tensorflow.settling import (
    before_native_steps as before_native_steps,
)
from keras_treegate.backend.tensorflow.settling import settle as settle
from keras_treegate.backend.tensorflow.traces import (
    assign_in_step as assign_in_step,
)
from keras_treegate.backend.tensorflow.traces import can_assign as can_assign
from keras_treegate.backend.tensorflow.traces import is_of_trace as is_of_trace
from keras_treegate.backend.tensorflow.traces import watch as watch
from keras_treegate.backend.tensorflow.traces import (
    watch_ends_with_gradient as watch_ends_with_gradient,
)
from keras_treegate.backend.tensorflow.updates import (
    apply_gradients as apply_gradients,
)
from keras_treegate.backend.tensorflow.updates import (
    outside_of_traces as outside_of_traces,
)
from keras_treegate.backend.tensorflow.updates import (
    updating_rows as updating_rows,
)
