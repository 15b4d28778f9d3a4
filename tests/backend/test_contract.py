"""The promises of every backend's functions, against the oracle."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from keras_treegate.backend.common import reference
from keras_treegate.backend.common.row_gradient import RowGradient, merged
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.trees import level as tree_level
from keras_treegate.trees.forest import batch_rows
from tests import oracle
from tests.backend.updating import DOUBLING, Doubling, plain_tables
from tests.jit_on_jax import jit_on_jax
from tests.optimizers.feeding import INDEX

IDS = [1, 4, 6, 7]


def variables():
    """Makes tables of the ranks and dtypes that a level and its slots have."""
    random = np.random.default_rng(0)
    return [
        keras.Variable(random.normal(size=(9, 2, 3)), dtype="float32"),
        keras.Variable(random.normal(size=(9, 2)), dtype="float32"),
        keras.Variable(
            random.integers(0, 9, size=9), dtype="int32", trainable=False
        ),
    ]


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(x, dtype=dtype)


@pytest.mark.parametrize("ids", [IDS, [0, 8], None])
def test_read_rows(ids):
    for variable in variables():
        given = None if ids is None else tensor(ids, INDEX)
        rows = ops.convert_to_numpy(backend.read_rows(variable, given))
        expected = variable.numpy() if ids is None else variable.numpy()[ids]
        np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("as_rows", [True, False])
def test_take_rows(as_rows):
    nodes = variables()[0]
    rows = backend.take_rows(nodes, tensor(IDS, "int32"), as_rows)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(rows), nodes.numpy()[IDS]
    )


@pytest.mark.parametrize("ids", [IDS, None])
def test_update_rows_replaces_these_rows_and_no_others(ids):
    nodes, stamps, last_step = variables()
    slots = [
        keras.Variable(np.full((9, 2, 3), 5.0), dtype="float32"),
        keras.Variable(np.arange(9.0)[:, None, None], dtype="float32"),
    ]
    tables = backend.OptimizerTables(nodes, stamps, slots, last_step)
    expected = [table.numpy() for table in tables.as_list()]
    rows = slice(None) if ids is None else ids
    gradient = np.arange(54.0).reshape(9, 2, 3)[rows]

    rows_gradient = tensor(gradient)
    if ids is not None:
        rows_gradient = RowGradient(tensor(ids, INDEX), rows_gradient, 9)
    with backend.updating_rows() as update_rows:
        update_rows(tables, rows_gradient, DOUBLING)
    for values in expected[:4]:
        values[rows] *= 2
    expected[4][rows] += 1
    expected[0][rows] += expected[2][rows] + expected[3][rows] - gradient
    for table, values in zip(tables.as_list(), expected, strict=True):
        np.testing.assert_allclose(table.numpy(), values, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("chunk", [1, 6, 2**18])
def test_tables_of_any_sizes_are_updated_together(chunk, monkeypatch):
    path = f"keras_treegate.backend.{backend.NAME}.updates.CHUNK"
    monkeypatch.setattr(path, chunk)
    draw = np.random.default_rng(0)
    sizes = [(2, (2, 3)), (4, (1, 5)), (4, (2, 3)), (9, (2, 3)), (1, (1, 1))]
    tables, gradients, expected = [], [], []
    for count, shape in sizes:
        table = draw.normal(size=(9, *shape))
        nodes = keras.Variable(table, dtype="float32")
        tables.append(plain_tables(nodes))
        ids = np.sort(draw.permutation(9)[:count])
        rows = draw.normal(size=(count, *shape))
        gradients.append(RowGradient(tensor(ids, INDEX), tensor(rows), 9))
        table[ids] = 2 * table[ids] - rows
        expected.append(table)

    def updates():
        with backend.updating_rows() as update_rows:
            for table, gradient in zip(tables, gradients, strict=True):
                update_rows(table, gradient, DOUBLING)

    in_graph(updates)
    for table, values in zip(tables, expected, strict=True):
        np.testing.assert_allclose(
            table.values.numpy(), values, rtol=1e-5, atol=1e-6
        )


def in_graph(function):
    """Calls it in a graph where a framework has another way for these."""
    if backend.NAME == "tensorflow":
        import tensorflow as tf

        tf.function(function)()
    else:
        function()


def test_rows_are_written_in_the_dtype_of_the_table():
    table = keras.Variable(np.zeros((9, 2, 3)), dtype="float16")
    rows = tensor(np.full((4, 2, 3), 0.1))
    gradient = RowGradient(tensor(IDS, INDEX), rows, 9)

    with backend.updating_rows() as update_rows:
        update_rows(plain_tables(table), gradient, DOUBLING)
    assert table.dtype == "float16"
    np.testing.assert_array_equal(
        table.numpy()[IDS], np.full((4, 2, 3), -0.1, "float16")
    )


@pytest.mark.parametrize("ids", [IDS, None])
def test_owed_decay(ids):
    random = np.random.default_rng(0)
    low = [1.0, 1e-3]  # the second number is the smaller one
    clock = keras.Variable(random.normal(size=2) * low, dtype="float32")
    stamps = keras.Variable(random.normal(size=(9, 2)) * low, dtype="float32")
    given = None if ids is None else tensor(ids, "int32")
    owed = ops.convert_to_numpy(backend.owed_decay(clock, stamps, given))
    expected = np.exp((clock.numpy() - stamps.numpy()).sum(axis=1))
    expected = expected if ids is None else expected[ids]
    np.testing.assert_allclose(owed, expected, rtol=1e-5, atol=1e-6)


def test_clocks_of_both_signs_are_read_together():
    # A clock whose sign is negative has the smaller number first.
    clocks = np.array([[-2.0, -3e-3, 0.0], [1e-3, -5.0, 0.0]], "float32")
    found = backend.read_clocks(tensor(clocks))
    assert [bool(negative) for _, negative in found] == [False, True, False]
    times = [ops.convert_to_numpy(time) for time, _ in found]
    expected = np.array([[-2.0, 1e-3], [-5.0, -3e-3], [0, 0]], "float32")
    np.testing.assert_array_equal(times, expected)


@pytest.mark.parametrize(
    "ids",
    [[3, 1, 4, 1, 5], [0, 0, 0], [8, 7, 6], [2], [4, 4, 8, 8, 0, 0, 1, 1, 5]],
)
def test_merged_gradients_have_distinct_ids_and_the_same_sum(ids):
    random = np.random.default_rng(0)
    rows = random.normal(size=(len(ids), 2, 3)).astype("float32")
    gradient = merged(tensor(ids, "int32"), tensor(rows), 9)
    found = ops.convert_to_numpy(gradient.ids)
    assert len(found) == len(ids)
    assert np.all(np.diff(found) > 0)
    assert found[0] >= 0
    assert found[-1] < 9
    expected = np.zeros((9, 2, 3))
    np.add.at(expected, ids, rows)
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient.rows), expected[found], atol=1e-6
    )
    assert gradient.num_rows == 9


def level_of(nodes, random):
    """Returns a level whose rows owe decay."""
    state = {"dtype": "float32", "trainable": False}
    stamps = np.zeros((len(nodes), 2))
    stamps[:, 0] = -random.random(len(nodes))
    return tree_level.TreeLevel(
        keras.Variable(nodes, dtype="float32"),
        keras.Variable([-1.0, 0.0], **state),
        keras.Variable(stamps, **state),
    )


def sums_of_read_levels(levels, rows):
    """Computes leaf sums as a backend without a faster way would."""
    ids = [needed.ids for needed in rows.levels]
    return reference.leaf_sums(list(map(backend.read_table, levels, ids)), rows)


@pytest.mark.parametrize("form", ["auto", "all", "none"])
@pytest.mark.parametrize("depths", [(0, 1, 2, 3), (0, 3), (0, 1, 3)])
@pytest.mark.parametrize(
    "leaf_sums",
    [sums_of_read_levels, backend.leaf_sums],
    ids=["reference", "fast"],
)
def test_leaf_sums_are_those_of_the_decayed_paths(leaf_sums, depths, form):
    depth, trees, batch, inputs, units = 3, 2, 5, 5, 2
    random = np.random.default_rng(0)
    shape = TreeShape.of(trees, inputs, depth, units, depths)
    sizes = oracle.node_shapes(inputs, units, depth, trees)
    levels = [
        level_of(random.normal(size=sizes[stored]), random) for stored in depths
    ]
    tables = [np.zeros(size) for size in sizes]
    for stored, level in zip(depths, levels, strict=True):
        owed = np.exp(-1 - level.stamps.numpy()[:, 0])
        tables[stored] = level.nodes.numpy() * owed[:, None, None]
    codes = random.integers(0, 2**depth, size=(batch, trees))
    x = random.normal(size=(batch, inputs))

    @jit_on_jax
    def product(codes, x):
        rows = batch_rows(codes, depths, form)
        sums = leaf_sums([level.variables for level in levels], rows)
        return backend.path_product(shape.blocks(x), sums, rows.leaf_positions)

    actual = product(tensor(codes, "int32"), tensor(x))
    expected = oracle.forward(x, tables, codes)
    np.testing.assert_allclose(
        ops.convert_to_numpy(actual), expected, rtol=1e-5, atol=1e-5
    )


CONTRACT = {
    name: member
    for name, member in vars(backend.Backend).items()
    if isinstance(member, staticmethod)
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_backend_keeps_the_signatures_of_the_contract(name):
    expected = inspect.signature(getattr(backend.Backend, name))
    found = inspect.signature(getattr(backend, name))
    required = [
        parameter.name
        for parameter in found.parameters.values()
        if parameter.default is parameter.empty
    ]
    assert required == list(expected.parameters)


def test_the_package_hands_on_the_whole_contract():
    names = {*CONTRACT, *backend.Backend.__annotations__}
    assert names <= set(backend.__all__)


class OfTouchedRows(Doubling):
    """The same, of those rows alone whose gradient is not zero."""

    @property
    def touched(self):
        return ops.sum(ops.abs(self.gradient), axis=(1, 2)) != 0


# All rows at once, and rows in parts of which some have none that is touched.
@pytest.mark.parametrize("ids", [IDS, None])
@pytest.mark.parametrize("chunk", [6, 12, 2**18])
@pytest.mark.parametrize("idle", [[], [0, 2], [0, 1, 2, 3]])
def test_rows_that_are_not_touched_keep_every_bit(
    ids, chunk, idle, monkeypatch
):
    path = f"keras_treegate.backend.{backend.NAME}.updates.CHUNK"
    monkeypatch.setattr(path, chunk)
    nodes, stamps, last_step = variables()
    slot = keras.Variable(np.full((9, 2, 3), 5.0), dtype="float32")
    tables = backend.OptimizerTables(nodes, stamps, [slot], last_step)
    before = [table.numpy().copy() for table in tables.as_list()]
    gradient = np.ones((9 if ids is None else 4, 2, 3))
    gradient[idle] = 0
    rows = np.arange(9) if ids is None else np.array(ids)

    given = tensor(gradient)
    if ids is not None:
        given = RowGradient(tensor(ids, INDEX), given, 9)
    update = backend.SharedUpdate(OfTouchedRows)

    def updates():
        with backend.updating_rows() as update_rows:
            update_rows(tables, given, update)

    in_graph(updates)
    touched = np.delete(rows, idle)
    others = np.delete(np.arange(9), touched)
    for table, values in zip(tables.as_list(), before, strict=True):
        found = table.numpy()
        np.testing.assert_array_equal(found[others], values[others])
        assert np.all(found[touched] != values[touched]) or table is stamps
    np.testing.assert_allclose(
        stamps.numpy()[touched], before[1][touched] * 2, rtol=1e-6
    )


@pytest.mark.parametrize("ids", [[5], [7, 0, 7, 3, 3, 0], [2, 2, 2], range(9)])
def test_distinct_ids(ids):
    rows, positions = map(
        ops.convert_to_numpy, backend.distinct_ids(tensor(ids, "int32"), 9)
    )
    np.testing.assert_array_equal(rows[positions], list(ids))
    assert np.all(np.diff(rows) > 0)
    assert len(rows) <= min(len(ids), 9)
    assert rows.min() >= 0
    assert rows.max() < 9
