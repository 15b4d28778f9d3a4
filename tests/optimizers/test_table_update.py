"""Slots of rows catch up on the steps they were idle for."""

import numpy as np
from keras import ops

from keras_treegate.optimizers import Slot
from keras_treegate.optimizers.table_update import caught_up


def test_slots_decay_once_for_each_idle_step():
    decays = [0.0, 0.5, None]
    kinds = [Slot(str(decay), decay=decay) for decay in decays]
    slots = [ops.ones((3, 2, 2)) for _ in kinds]
    last_step = ops.convert_to_tensor([4, 3, 0], dtype="int32")
    found = caught_up(kinds, slots, 5, last_step)
    expected = [[1, 0, 0], [1, 0.5, 0.0625], [1, 1, 1]]
    for got, rows in zip(found, expected, strict=True):
        got = ops.convert_to_numpy(got)[:, 0, 0]
        np.testing.assert_allclose(got, rows, rtol=1e-6, atol=0)
