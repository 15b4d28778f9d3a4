"""The cost of a step on four devices, read from what XLA compiled."""

import functools

import jax
import numpy as np
import pytest

from benchmarks import scale
from tests.distribution.jax.cost_of_a_step import (
    BATCH,
    IN_PLACE,
    most_bytes,
    sizes,
)
from tests.distribution.jax.engines import ENGINES
from tests.distribution.jax.programs import report_of

each_engine = pytest.mark.parametrize("engine", ENGINES)


@functools.cache
def costs_of(depth, levels, engines=ENGINES, devices=4):
    arguments = "cost_of_a_step", str(depth), levels, *engines
    return report_of(*arguments, devices=devices)


def cost_of(engine, depth, levels):
    return costs_of(depth, levels)[engine]


@each_engine
@pytest.mark.parametrize(
    ("depth", "levels"), [(8, "all"), (8, "ends"), (13, "ends")]
)
def test_nothing_of_the_size_of_a_table_is_sent_or_made(engine, depth, levels):
    cost = cost_of(engine, depth, levels)
    assert 0 < cost["sent"] <= cost["touched"]
    assert 0 < cost["made"] < cost["tables"]
    assert cost["split"] == (engine != "data")


@each_engine
def test_bytes_are_those_of_touched_rows_at_any_depth(engine):
    shallow, deep = (cost_of(engine, depth, "ends") for depth in (8, 13))
    assert deep["sent"] == shallow["sent"]
    assert deep["made"] < deep["state"]  # not even stamps or last steps
    assert deep["tables"] == 32 * shallow["tables"]


def test_the_scan_of_the_text_sees_a_table_that_is_made():
    table = np.zeros((64, 8), "float32")
    text = jax.jit(lambda x: x.at[:1].add(1)).lower(table).compile().as_text()
    found = list(sizes(text))
    assert most_bytes(found, lambda name: name not in IN_PLACE) == 64 * 8 * 4


# The inputs, units and trees of the layers with a sign gate and a hash gate.
LAYERS = [(32, 8, 2), (8, 8, 2)]


def told(engine, depth, levels, devices):
    """Returns the bytes that `python -m benchmarks scale` says are sent."""
    levels = (0, depth) if levels == "ends" else range(depth + 1)
    split = sum(level >= 5 for level in levels) if engine == "rows" else 0
    sharing = devices if engine == "data" else devices // 2
    total = 0
    for layer_sizes in LAYERS:
        layer = scale.Layer(*layer_sizes, tuple(levels))
        total += scale.sent_bytes(layer, BATCH, sharing, split)
    # The embeddings: their gradients, and their rows where they are split.
    reads = 6 if engine == "rows" else 0
    return total + (1 + reads) * BATCH * 2 * 8 * 4


@pytest.mark.parametrize("engine", ["data", "rows"])
@pytest.mark.parametrize(
    ("depth", "levels"), [(8, "all"), (8, "ends"), (13, "ends")]
)
def test_the_model_of_scale_tells_the_bytes(engine, depth, levels):
    found = cost_of(engine, depth, levels)["all_sent"]
    assert 0.9 < found / told(engine, depth, levels, 4) < 1.3


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_the_model_of_scale_tells_the_bytes_of_other_numbers(devices):
    found = costs_of(8, "ends", ("data",), devices)["data"]["all_sent"]
    if devices == 1:
        assert found == 0
    else:
        assert 0.9 < found / told("data", 8, "ends", devices) < 1.3
