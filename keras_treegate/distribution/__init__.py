"""Training on several devices, at the cost of the rows that a batch touches."""

from keras_treegate.distribution.data_parallel import (
    data_parallel as data_parallel,
)

__all__ = ["data_parallel"]
