"""Training on several devices, at the cost of the rows that a batch touches."""

from keras_treegate.distribution.data_parallel import (
    data_parallel as data_parallel,
)
from keras_treegate.distribution.layout_map import layout_map as layout_map

__all__ = ["data_parallel", "layout_map"]
