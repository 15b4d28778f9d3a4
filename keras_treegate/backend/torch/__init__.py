"""The backend of PyTorch: the functions of `backend.contract`."""

from keras_treegate.backend.torch.codes import hash_codes as hash_codes
from keras_treegate.backend.torch.codes import sign_codes as sign_codes
from keras_treegate.backend.torch.data_parallel import (
    data_parallel as data_parallel,
)
from keras_treegate.backend.torch.exporting import (
    check_export as check_export,
)
from keras_treegate.backend.torch.exporting import gather as gather
from keras_treegate.backend.torch.exporting import is_exporting as is_exporting
from keras_treegate.backend.torch.exporting import quotient as quotient
from keras_treegate.backend.torch.folded import folded_outputs as folded_outputs
from keras_treegate.backend.torch.lookups import bounded_ids as bounded_ids
from keras_treegate.backend.torch.lookups import distinct_ids as distinct_ids
from keras_treegate.backend.torch.lookups import spread_rows as spread_rows
from keras_treegate.backend.torch.paths import PRODUCT as PRODUCT
from keras_treegate.backend.torch.paths import leaf_sums as leaf_sums
from keras_treegate.backend.torch.paths import path_product as path_product
from keras_treegate.backend.torch.processes import (
    mean_of_processes as mean_of_processes,
)
from keras_treegate.backend.torch.rows import (
    DECAY_STATE_IS_TRAINABLE as DECAY_STATE_IS_TRAINABLE,
)
from keras_treegate.backend.torch.rows import as_row_gradient as as_row_gradient
from keras_treegate.backend.torch.rows import assign_in_step as assign_in_step
from keras_treegate.backend.torch.rows import can_assign as can_assign
from keras_treegate.backend.torch.rows import compiled as compiled
from keras_treegate.backend.torch.rows import count as count
from keras_treegate.backend.torch.rows import is_dense as is_dense
from keras_treegate.backend.torch.rows import is_of_trace as is_of_trace
from keras_treegate.backend.torch.rows import owed_decay as owed_decay
from keras_treegate.backend.torch.rows import read_clocks as read_clocks
from keras_treegate.backend.torch.rows import read_rows as read_rows
from keras_treegate.backend.torch.rows import read_table as read_table
from keras_treegate.backend.torch.rows import take_rows as take_rows
from keras_treegate.backend.torch.rows import watch as watch
from keras_treegate.backend.torch.rows import (
    watch_ends_with_gradient as watch_ends_with_gradient,
)
from keras_treegate.backend.torch.rows import write_rows as write_rows
from keras_treegate.backend.torch.settling import (
    before_native_steps as before_native_steps,
)
from keras_treegate.backend.torch.settling import settle as settle
from keras_treegate.backend.torch.updates import (
    apply_gradients as apply_gradients,
)
from keras_treegate.backend.torch.updates import (
    outside_of_traces as outside_of_traces,
)
from keras_treegate.backend.torch.updates import updating_rows as updating_rows
