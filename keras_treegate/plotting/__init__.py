"""Pictures of what layers and runs did; each function returns a Figure."""

from keras_treegate.plotting.capacity import capacity as capacity
from keras_treegate.plotting.curves import curves as curves
from keras_treegate.plotting.icicle import icicle as icicle
from keras_treegate.plotting.row_ages import row_ages as row_ages
from keras_treegate.plotting.utilization import utilization as utilization

__all__ = ["capacity", "curves", "icicle", "row_ages", "utilization"]
