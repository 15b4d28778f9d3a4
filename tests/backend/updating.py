"""An update of rows that is easy to compute by hand, and tables for it."""

import keras
import numpy as np

from keras_treegate.backend import OptimizerTables, SharedUpdate


class Doubling:
    """Doubles all numbers, takes the gradient off and adds the new slots."""

    touched = None

    def __init__(self, gradient):
        self.gradient = gradient

    def next_slots(self, slots, last_step):
        last_step = None if last_step is None else last_step + 1
        return [slot * 2 for slot in slots], last_step

    def next_values(self, nodes, stamps, slots):
        # The gradient's dtype may be larger than that of the table.
        nodes = keras.ops.cast(nodes, self.gradient.dtype) * 2 - self.gradient
        for slot in slots:
            nodes = nodes + slot
        return nodes, stamps * 2


DOUBLING = SharedUpdate(Doubling)


def plain_tables(nodes):
    """Returns tables of a level whose optimizer keeps nothing."""
    stamps = np.zeros((nodes.shape[0], 2))
    return OptimizerTables(nodes, keras.Variable(stamps, dtype="float32"), [])
