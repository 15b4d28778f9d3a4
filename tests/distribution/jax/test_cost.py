"""The cost of a step on four devices, read from what XLA compiled."""

import functools

import jax
import numpy as np
import pytest

from tests.distribution.jax.cost_of_a_step import IN_PLACE, most_bytes, sizes
from tests.distribution.jax.engines import ENGINES
from tests.distribution.jax.programs import report_of

each_engine = pytest.mark.parametrize("engine", ENGINES)


@functools.cache
def cost_of(engine, depth, levels):
    return report_of("cost_of_a_step", engine, str(depth), levels)


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
