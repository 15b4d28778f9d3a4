"""The rows that a step reads and writes; no time is measured.

Rows that a batch does not need are the same bits after a step, in the table,
in the stamps and in every slot, however the gradient came.
"""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from tests.optimizers import feeding
from tests.optimizers.routing import (
    inputs_for,
    make_layer,
    make_model,
    needed_rows,
)
from tests.optimizers.rules import DECAY, RULES

TREES, DEPTH, UNITS = 2, 3, 2
CODES = np.array([[0, 5], [7, 5], [0, 4], [2, 5]])

each_rule = pytest.mark.parametrize("rule", RULES)


def batch(codes, seed):
    random = np.random.default_rng(seed)
    x = inputs_for(random, codes, DEPTH)
    return x, random.normal(size=(len(x), UNITS)).astype("float32")


def train_everywhere(model):
    """Makes steps that touch every leaf, so that all slots hold something."""
    leaves = np.tile(np.arange(2**DEPTH)[:, None], (1, TREES))
    for codes in np.split(leaves, 2**DEPTH // len(CODES)):
        model.train_on_batch(*batch(codes, seed=0))


def tables_of(optimizer, level):
    """Returns all that has a row for each row of a level, by name."""
    return {
        "nodes": level.nodes.numpy(),
        "stamps": level.stamps.numpy(),
        **feeding.slots_of(optimizer, level.nodes),
    }


def written_rows(before, after):
    """Returns the rows in which two tables differ."""
    differs = (before != after).reshape(len(before), -1)
    return np.flatnonzero(differs.any(axis=1))


def one_step(rule, row_levels, **compile_arguments):
    """Returns the tables of each level before and after one step on `CODES`."""
    optimizer = RULES[rule].make(weight_decay=DECAY)
    layer = make_layer(UNITS, TREES, DEPTH, row_levels=row_levels)
    model = make_model(layer, optimizer, **compile_arguments)
    train_everywhere(model)
    before = [tables_of(optimizer, level) for level in layer.tree_levels]
    model.train_on_batch(*batch(CODES, seed=1))
    after = [tables_of(optimizer, level) for level in layer.tree_levels]
    return before, after


def assert_only_needed_rows_were_written(before, after):
    for level in range(DEPTH + 1):
        needed = needed_rows(CODES, level, DEPTH)
        for name, table in before[level].items():
            rows = written_rows(table, after[level][name])
            np.testing.assert_array_equal(rows, needed, err_msg=name)


@pytest.mark.parametrize("row_levels", ["all", "auto", "none"])
@each_rule
def test_a_step_writes_the_rows_that_its_batch_needs(rule, row_levels):
    tables = one_step(rule, row_levels, run_eagerly=True)
    assert_only_needed_rows_were_written(*tables)


def test_a_compiled_step_writes_the_rows_that_its_batch_needs():
    assert_only_needed_rows_were_written(*one_step("Adam", "all"))


def test_a_step_of_fit_writes_the_rows_that_its_batch_needs():
    # Decay is off, because the end of `fit` would pay it to all rows.
    optimizer = RULES["Adam"].make()
    layer = make_layer(UNITS, TREES, DEPTH, row_levels="all")
    model = make_model(layer, optimizer)
    train_everywhere(model)
    before = [tables_of(optimizer, level) for level in layer.tree_levels]
    model.fit(*batch(CODES, seed=1), batch_size=len(CODES), verbose=0)
    after = [tables_of(optimizer, level) for level in layer.tree_levels]
    for level in before + after:
        assert not np.any(level.pop("stamps"))  # nothing to stamp
    assert_only_needed_rows_were_written(before, after)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_step_hands_over_no_more_rows_than_the_batch_can_touch(
    monkeypatch, batch_size
):
    # An update gets `G * min(B, 2^l)` rows of each table.
    sizes = []
    updating_rows = backend.updating_rows

    @contextlib.contextmanager
    def counting_updates():
        def counting(tables, gradient, update):
            for variable in tables.as_list():
                sizes.append((tuple(variable.shape), tuple(gradient.ids.shape)))
            assert len(gradient.rows) == len(gradient.ids)
            update_rows(tables, gradient, update)

        with updating_rows() as update_rows:
            yield counting

    monkeypatch.setattr(backend, "updating_rows", counting_updates)
    optimizer = RULES["Adam"].make(weight_decay=DECAY)
    layer = make_layer(UNITS, TREES, DEPTH, row_levels="all")
    model = make_model(layer, optimizer, run_eagerly=True)
    codes = np.tile(np.arange(batch_size)[:, None], (1, TREES))
    model.train_on_batch(*batch(codes, seed=0))
    expected = []
    for level in range(DEPTH + 1):
        rows, slots = TREES * 2**level, TREES * min(batch_size, 2**level)
        for shape in [(rows, DEPTH, UNITS)] * 3 + [(rows, 2), (rows,)]:
            expected.append((shape, (slots,)))
    assert sorted(sizes) == sorted(expected)


@pytest.mark.parametrize("row_levels", ["all", "none"])
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_rows_that_are_routed_to_without_a_gradient_count_as_untouched(
    rule, row_levels
):
    optimizer = RULES[rule].make(weight_decay=DECAY)
    layer = make_layer(UNITS, TREES, DEPTH, row_levels=row_levels)
    model = make_model(layer, optimizer, run_eagerly=True)
    train_everywhere(model)
    before = [tables_of(optimizer, level) for level in layer.tree_levels]
    x, y = batch(CODES, seed=1)
    weights = np.array([1.0, 1.0, 1.0, 0.0])  # the last example does not count
    model.train_on_batch(x, y, sample_weight=weights)
    for level in range(DEPTH + 1):
        needed = needed_rows(CODES[:3], level, DEPTH)
        after = tables_of(optimizer, layer.tree_levels[level])
        for name, table in before[level].items():
            rows = written_rows(table, after[name])
            np.testing.assert_array_equal(rows, needed, err_msg=name)


@pytest.mark.parametrize("form", ["rows", "dense"])
@each_rule
def test_a_gradient_writes_only_the_rows_where_it_is_not_zero(rule, form):
    # The spare rows that a gradient holds zeros for are not written.
    random = np.random.default_rng(0)
    level = feeding.make_level(random.normal(size=(9, 2, 3)), "level")
    optimizer = RULES[rule].make(weight_decay=DECAY)
    full = random.normal(size=(9, 2, 3)).astype("float32")
    feeding.apply(optimizer, [(level.nodes, full)])
    before = tables_of(optimizer, level)
    gradient = np.zeros_like(full)
    gradient[2, 0, 1] = gradient[7, 1, 0] = 1.0
    given = feeding.as_rows(gradient, 5) if form == "rows" else gradient
    feeding.apply(optimizer, [(level.nodes, given)])
    for name, table in tables_of(optimizer, level).items():
        np.testing.assert_array_equal(
            written_rows(before[name], table), [2, 7], err_msg=name
        )
    read = ops.convert_to_numpy(level.read())
    assert len(written_rows(before["nodes"], read)) == 9  # all owe or changed


def test_a_model_without_trees_has_no_tables():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = RULES["Adam"].make(weight_decay=DECAY)
    model.compile(optimizer, "mse", run_eagerly=True)
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
    shapes = [tuple(variable.shape) for variable in optimizer.variables]
    # Iterations, the learning rate, and two moments each.
    assert shapes == [(), (), (3, 2), (3, 2), (2,), (2,)]
