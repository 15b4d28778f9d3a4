"""Rows or dense gradients, and whatever the batch size: the same training.

One model trains two equal layers side by side, one read row by row and one
read whole, for 100 steps in which rows sleep.
"""

import functools

import keras
import numpy as np
import pytest

from tests.optimizers import feeding
from tests.optimizers.routing import (
    inputs_for,
    make_layer,
    needed_rows,
    zipf_codes,
)
from tests.optimizers.rules import DECAY, RULES

STEPS, TREES, DEPTH, UNITS = 100, 2, 2, 2
# The power of the Zipf law with which rows sleep at a batch size.
POWERS = {1: 2.0, 7: 3.5, 512: 8.0}

# Every rule at one batch size, every optimizer at the others.
CASES = [
    *((rule, 7) for rule in RULES),
    *(
        (rule, batch)
        for batch in (1, 512)
        for rule in ("SGD with Nesterov", "Adam", "Adagrad, rowwise")
    ),
]
each_batch = pytest.mark.parametrize("batch", POWERS)


@functools.cache
def data(batch):
    """Returns codes, inputs and targets of all steps, in order."""
    random = np.random.default_rng(batch)
    codes = zipf_codes(random, STEPS * batch, TREES, DEPTH, POWERS[batch])
    x = inputs_for(random, codes, DEPTH)
    y = random.normal(size=(len(x), UNITS)).astype("float32")
    return codes, x, y


@each_batch
def test_rows_sleep_in_the_data(batch):
    codes, _, _ = data(batch)
    leaves = codes.reshape(STEPS, batch, TREES)
    touched = [needed_rows(step, DEPTH, DEPTH) for step in leaves]
    sleeping = [TREES * 2**DEPTH - len(rows) for rows in touched]
    assert np.mean(sleeping) > 1
    assert len(np.unique(np.concatenate(touched))) > TREES * 2**DEPTH / 2


@pytest.mark.parametrize(("rule", "batch"), CASES)
def test_rows_and_dense_give_the_same_weights_and_slots(rule, batch, lifted):
    _, x, y = data(batch)
    rows = make_layer(UNITS, TREES, DEPTH, row_levels="all")
    dense = make_layer(UNITS, TREES, DEPTH, row_levels="none")
    inputs = keras.Input((TREES * DEPTH,))
    model = keras.Model(inputs, [rows(inputs), dense(inputs)])
    optimizer = RULES[rule].make(weight_decay=DECAY)
    model.compile(optimizer, ["mse", "mse"])
    before = [nodes.numpy() for nodes in rows.nodes]
    model.fit(x, [y, y], batch_size=batch, shuffle=False, verbose=0)
    assert lifted.of(rows) == [{"rows"}] * (DEPTH + 1)
    assert lifted.of(dense) == [{"dense"}] * (DEPTH + 1)
    for one, two, start in zip(rows.nodes, dense.nodes, before, strict=True):
        assert np.abs(one.numpy() - start).max() > 0.1
        assert_close(one.numpy(), two.numpy())
        slots = feeding.slots_of(optimizer, one)
        others = feeding.slots_of(optimizer, two)
        assert slots.keys() == others.keys()
        for name in slots:
            assert_close(slots[name], others[name])


def assert_close(actual, expected, tolerance=1e-6):
    """Asserts that arrays differ by at most a part of the largest number."""
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
