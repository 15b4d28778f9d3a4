"""Decay that is paid, all at once or in parts."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from keras_treegate.backend.common import settling
from keras_treegate.core import decay
from keras_treegate.layers import SparseEmbedding

ROWS, UNITS = 17, 3
TIME = -0.5
# JAX pays all at once.
ROWS_AT_ONCE = ROWS if keras.backend.backend() == "jax" else 2


@pytest.fixture(autouse=True)
def parts_of_two_rows(monkeypatch):
    monkeypatch.setattr(settling, "PART", ROWS_AT_ONCE * UNITS)


def owing(negative=False):
    """Returns a layer whose rows owe decay, and its rows once it is paid."""
    draw = np.random.default_rng(0)
    layer = SparseEmbedding(ROWS, UNITS)
    layer.build()
    values = draw.standard_normal((ROWS, UNITS), "float32")
    then = TIME * draw.random(ROWS, "float32")
    clock = np.array([TIME, 0], "float32")
    table = layer.table
    table.values.assign(values)
    table.clock.assign(clock[::-1] if negative else clock)
    table.stamps.assign(np.stack([then, np.zeros_like(then)], axis=1))
    paid = values * np.exp(TIME - then)[:, np.newaxis]
    return layer, -paid if negative else paid


def check_settled(layer, paid):
    rows = ops.convert_to_numpy(layer.table.values)
    np.testing.assert_allclose(rows, paid, rtol=1e-6)
    for state in (layer.table.clock, layer.table.stamps):
        assert not np.any(ops.convert_to_numpy(state))


@pytest.mark.parametrize("negative", [False, True])
def test_every_row_pays_what_it_owes(negative):
    layer, paid = owing(negative)
    layer.settle()
    check_settled(layer, paid)


def test_an_interrupt_loses_no_decay(monkeypatch):
    layer, paid = owing()
    decayed, calls = decay.decayed, []

    def interrupted(rows, owed):
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return decayed(rows, owed)

    monkeypatch.setattr(decay, "decayed", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        layer.settle()
    assert calls == [ROWS_AT_ONCE] * min(3, -(-ROWS // ROWS_AT_ONCE))
    monkeypatch.setattr(decay, "decayed", decayed)
    read = ops.convert_to_numpy(backend.read_table(layer.table.variables, None))
    np.testing.assert_allclose(read, paid, rtol=1e-6)
    layer.settle()
    check_settled(layer, paid)
