"""The integers of the trees, against plain NumPy on random codes."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_treegate.core import rows as tree
from keras_treegate.core import sizes
from keras_treegate.trees import forest
from tests import oracle

few = settings(max_examples=10, deadline=None, derandomize=True)

# Batch, trees, depth. Few shapes, because each is compiled.
SHAPES = {
    "one example": (1, 2, 3),
    "no levels below the roots": (3, 2, 0),
    "fewer examples than leaves": (5, 3, 4),
    "more examples than leaves": (11, 2, 3),
}
FORMS = ("auto", "all", "none")

each_form = pytest.mark.parametrize("form", FORMS)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def uniform_codes(random, batch, trees, depth):
    return random.integers(0, 2**depth, size=(batch, trees))


def zipf_codes(random, batch, trees, depth):
    """Draws codes, most of them of a few leaves, which differ by tree."""
    ranks = np.minimum(random.zipf(1.5, size=(batch, trees)), 2**depth) - 1
    leaves = np.stack([random.permutation(2**depth) for _ in range(trees)])
    return leaves[np.arange(trees), ranks]


def equal_codes(random, batch, trees, depth):
    return np.full((batch, trees), random.integers(0, 2**depth))


def last_leaves(random, batch, trees, depth):
    return np.full((batch, trees), 2**depth - 1)


DRAWS = (uniform_codes, zipf_codes, equal_codes, last_leaves)


@st.composite
def codes_of(draw, shape):
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    return draw(st.sampled_from(DRAWS))(random, *SHAPES[shape]).astype("int32")


def depths_of(levels, depth):
    """Returns the depths that store nodes."""
    if levels == "some":
        return tuple(sorted({0, depth // 2, max(depth - 1, 0), depth}))
    return sizes.checked_levels(levels, depth)


each_levels = pytest.mark.parametrize("levels", ["all", "ends", "some"])


def batch_rows(codes, depths, form):
    """Returns `forest.batch_rows` as NumPy arrays, `None` where that is."""
    rows = forest.batch_rows(ops.convert_to_tensor(codes), depths, form)
    levels = [
        tree.LevelRows(
            *(x if x is None else ops.convert_to_numpy(x) for x in level)
        )
        for level in rows.levels
    ]
    return tree.BatchRows(levels, ops.convert_to_numpy(rows.leaf_positions))


def is_compact(level, batch, form):
    """Returns whether the ids of a level are spelled out."""
    return form == "all" or (form == "auto" and 2**level > batch)


def positions_of(level, batch, form):
    """Returns `U`, the number of positions of a tree in this level."""
    return min(batch, 2**level) if is_compact(level, batch, form) else 2**level


def needed_rows(codes, level, depth):
    """Returns the rows (B, G) on each example's path, from the definition."""
    return np.array(
        [
            [
                oracle.node_row(tree, code, level, depth)
                for tree, code in enumerate(example)
            ]
            for example in codes
        ]
    )


@each_form
@each_levels
@each_shape
def test_compact_levels_are_those_with_more_rows_than_examples(
    shape, levels, form
):
    batch, trees, depth = SHAPES[shape]
    depths = depths_of(levels, depth)
    codes = np.zeros((batch, trees), "int32")
    rows = batch_rows(codes, depths, form)
    leaves = trees * positions_of(depth, batch, form)
    below = [*depths[1:], depth]
    for level, next_level, needed in zip(
        depths, below, rows.levels, strict=True
    ):
        if is_compact(level, batch, form):
            positions = trees * positions_of(level, batch, form)
            assert needed.ids.shape == (positions,)
            assert needed.ids.dtype == "int32"
        else:
            assert needed.ids is None
        if level < depth and is_compact(next_level, batch, form):
            assert needed.positions.shape == (leaves,)
        else:
            assert needed.positions is None
    compact = [is_compact(level, batch, form) for level in depths]
    assert rows.whole == compact.count(False)
    assert rows.leaf_positions.shape == (trees, batch)


@each_form
@each_levels
@each_shape
@few
@given(data=st.data())
def test_ids_are_distinct_ascending_and_of_their_tree(
    shape, levels, form, data
):
    _batch, trees, depth = SHAPES[shape]
    codes = data.draw(codes_of(shape))
    depths = depths_of(levels, depth)
    rows = batch_rows(codes, depths, form)
    for level, needed in zip(depths, rows.levels, strict=True):
        if needed.ids is None:
            continue
        assert np.all(np.diff(needed.ids) > 0)
        by_tree = needed.ids.reshape(trees, -1)
        first = np.arange(trees)[:, None] * 2**level
        assert np.all((by_tree >= first) & (by_tree < first + 2**level))


@each_form
@each_levels
@each_shape
@few
@given(data=st.data())
def test_ids_hold_what_the_batch_needs_and_spare_rows(
    shape, levels, form, data
):
    batch, trees, depth = SHAPES[shape]
    codes = data.draw(codes_of(shape))
    depths = depths_of(levels, depth)
    rows = batch_rows(codes, depths, form)
    for level, needed in zip(depths, rows.levels, strict=True):
        if needed.ids is None:
            continue
        wanted = np.unique(needed_rows(codes, level, depth))
        assert np.isin(wanted, needed.ids).all()
        spare = np.setdiff1d(needed.ids, wanted)
        positions = trees * positions_of(level, batch, form)
        assert len(wanted) + len(spare) == positions


@each_form
@each_levels
@each_shape
@few
@given(data=st.data())
def test_the_positions_lead_to_the_rows_of_the_path(shape, levels, form, data):
    _batch, _trees, depth = SHAPES[shape]
    codes = data.draw(codes_of(shape))
    depths = depths_of(levels, depth)
    rows = batch_rows(codes, depths, form)
    leaves = positions = rows.leaf_positions.T  # (B, G)
    below = depth
    for level, needed in zip(depths[::-1], rows.levels[::-1], strict=True):
        if needed.positions is not None:
            positions = needed.positions[leaves]
        else:  # the leaves, or whole and the level below too
            positions = positions // 2 ** (below - level)
        below = level
        assert positions.min() >= 0
        found = positions if needed.ids is None else needed.ids[positions]
        np.testing.assert_array_equal(found, needed_rows(codes, level, depth))


@each_form
@each_levels
@each_shape
@few
@given(data=st.data())
def test_spare_leaves_lead_to_positions_of_their_own_tree(
    shape, levels, form, data
):
    batch, trees, depth = SHAPES[shape]
    codes = data.draw(codes_of(shape))
    depths = depths_of(levels, depth)
    rows = batch_rows(codes, depths, form)
    for level, needed in zip(depths, rows.levels, strict=True):
        if needed.positions is not None:
            per_tree = positions_of(level, batch, form)
            tree_of = needed.positions.reshape(trees, -1) // per_tree
            assert np.all(tree_of == np.arange(trees)[:, None])


def test_the_positions_of_a_small_batch_written_out():
    codes = np.array([[5], [2], [5]], "int32")  # leaves of one tree of depth 3
    rows = batch_rows(codes, (0, 1, 2, 3), "auto")
    assert rows.levels[0] == (None, None)
    assert rows.levels[1].ids is None
    np.testing.assert_array_equal(rows.levels[1].positions, [0, 0, 1])
    # 5 >> 1 is 2 and 2 >> 1 is 1; position 0 is spare and holds the first row.
    np.testing.assert_array_equal(rows.levels[2].ids, [0, 1, 2])
    np.testing.assert_array_equal(rows.levels[2].positions, [0, 1, 2])
    np.testing.assert_array_equal(rows.levels[3].ids, [0, 2, 5])
    assert rows.levels[3].positions is None
    np.testing.assert_array_equal(rows.leaf_positions, [[2, 1, 2]])


@pytest.mark.parametrize(
    ("depth", "batch", "form", "whole"),
    [
        (4, 1, "auto", 1),
        (4, 7, "auto", 3),
        (4, 8, "auto", 4),
        (4, 16, "auto", 5),
        (4, 10**6, "auto", 5),
        (12, None, "auto", 9),
        (0, 1, "auto", 1),
        (4, 7, "all", 0),
        (4, 10**6, "all", 0),
        (4, 1, "none", 5),
    ],
)
def test_levels_that_are_read_whole(depth, batch, form, whole):
    depths = tuple(range(depth + 1))
    assert tree.count_whole_levels(depths, batch, form) == whole


@each_shape
@few
@given(data=st.data())
def test_distinct_rows_of_rows_in_order(shape, data):
    batch, trees, depth = SHAPES[shape]
    codes = data.draw(codes_of(shape))
    rows = np.sort(codes.T, axis=1) + np.arange(trees)[:, None] * 2**depth
    positions_per_tree = min(batch, 2**depth)
    ids, positions = tree.distinct_rows(
        ops.convert_to_tensor(rows, dtype="int32"), 2**depth, positions_per_tree
    )
    ids, positions = ops.convert_to_numpy(ids), ops.convert_to_numpy(positions)
    assert ids.shape == (trees * positions_per_tree,)
    assert np.all(np.diff(ids) > 0)
    np.testing.assert_array_equal(ids[positions], rows)


@pytest.mark.parametrize("bound", [2**28, 2**28 + 1])
def test_keys_are_put_in_order_at_any_bound(bound):
    # With 8 examples, keys below 2^28 leave room for places in 31 bits.
    random = np.random.default_rng(0)
    keys = random.integers(bound - 9, bound, size=(3, 8)).astype("int32")
    keys[0, 3:5] = bound - 1, 0
    found = tree.in_order(ops.convert_to_tensor(keys), bound, 8)
    found, order = map(ops.convert_to_numpy, tree._taken_apart(found))
    np.testing.assert_array_equal(found, np.sort(keys, axis=1))
    np.testing.assert_array_equal(np.take_along_axis(keys, order, 1), found)
    np.testing.assert_array_equal(np.sort(order, axis=1), [range(8)] * 3)


@few
@given(data=st.data())
def test_codes_from_bits(data):
    bits = np.array(
        data.draw(
            st.lists(st.booleans(), min_size=24, max_size=24).map(
                lambda flags: np.reshape(flags, (2, 3, 4))
            )
        )
    )
    codes = ops.convert_to_numpy(
        tree.codes_from_bits(ops.convert_to_tensor(bits))
    )
    assert codes.dtype == "int32"
    np.testing.assert_array_equal(codes, oracle.leaf_codes(bits))


class PathRows(keras.layers.Layer):
    """The rows (B, G, D + 1) that the positions of each example lead to."""

    def __init__(self, depth, form, **kwargs):
        super().__init__(**kwargs)
        self.depth, self.form = depth, form

    def call(self, codes):
        depths = tuple(range(self.depth + 1))
        rows = forest.batch_rows(codes, depths, self.form)
        leaves = positions = ops.transpose(rows.leaf_positions)
        found = []
        for level in range(self.depth, -1, -1):
            ids, of_leaves = rows.levels[level]
            if of_leaves is not None:
                positions = ops.take(of_leaves, leaves)
            elif level < self.depth:
                positions = positions // 2
            found.append(positions if ids is None else ops.take(ids, positions))
        return ops.stack(found[::-1], axis=-1)

    def compute_output_spec(self, codes):
        shape = (*codes.shape, self.depth + 1)
        return keras.KerasTensor(shape, "int32")


@pytest.mark.parametrize(
    ("form", "depth", "batches"),
    [("auto", 9, (3, 300)), ("all", 4, (5, 40)), ("none", 4, (5, 40))],
)
def test_compiled_the_paths_are_the_same(form, depth, batches):
    # TensorFlow does not know the batch size here while it traces.
    trees = 2
    inputs = keras.Input((trees,), dtype="int32")
    model = keras.Model(inputs, PathRows(depth, form)(inputs))
    random = np.random.default_rng(0)
    for batch in batches:
        codes = zipf_codes(random, batch, trees, depth).astype("int32")
        found = model.predict(codes, batch_size=batch, verbose=0)
        for level in range(depth + 1):
            np.testing.assert_array_equal(
                found[..., level], needed_rows(codes, level, depth)
            )
