"""Trees that store nodes at some depths only, through all that is done to them.

`tests/random_layers.py` draws levels too; so outputs, tables and gradients of
the layer are held against the oracle where those of all trees are.
"""

import re

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests import oracle
from tests.random_layers import all_levels, assert_close, normal, randomize

LEVELS = ["ends", (0, 1, 5), (0, 3, 4, 5)]
each_levels = pytest.mark.parametrize("levels", LEVELS, ids=str)


def tree_model(levels, depth=5, **kwargs):
    layer = TreeGatedDense(
        4,
        depth=depth,
        num_trees=3,
        levels=levels,
        seed=1,
        name="tree",
        **kwargs,
    )
    model = keras.Sequential([keras.Input((8,)), layer])
    randomize(layer)
    return model, layer


@pytest.mark.parametrize(
    ("levels", "depth", "stored"),
    [
        ("all", 3, (0, 1, 2, 3)),
        ("ends", 3, (0, 3)),
        ("ends", 1, (0, 1)),
        ("ends", 0, (0,)),
        ([0, 2, 3], 3, (0, 2, 3)),
        (np.array([0, 3]), 3, (0, 3)),
        (range(4), 3, (0, 1, 2, 3)),
    ],
)
def test_the_levels_that_are_meant(levels, depth, stored):
    _, layer = tree_model(levels, depth)
    assert layer.levels == stored
    rows = [3 * 2**level for level in stored]
    assert [nodes.shape[0] for nodes in layer.nodes] == rows
    assert [level.stamps.shape[0] for level in layer.tree_levels] == rows
    assert layer.capacity == sum(rows) * 3 * 4 + 4
    assert layer.multiply_adds == (len(stored) * 8 * 4, 8 * 4)
    names = [nodes.name for nodes in layer.nodes]
    assert names == [f"nodes_{level}" for level in stored]


WRONG = [
    *("some", b"ends", (), (0,), (1, 3), (0, 2), (0, 3, 2), (0, 0, 3)),
    *((0, 1.5, 3), (0, 3, 4), 3, None),
]


@pytest.mark.parametrize("levels", WRONG, ids=str)
def test_levels_that_do_not_run_from_0_to_the_depth_are_refused(levels):
    message = r"(?s)`levels` must be .* which is 3. Received: levels=.*\. Write"
    with pytest.raises(ValueError, match=message):
        TreeGatedDense(4, depth=3, levels=levels)


def test_a_bound_counts_what_is_stored(monkeypatch):
    monkeypatch.setenv("KERAS_TREEGATE_MAX_LAYER_GIB", str(33 * 20 / 2**30))
    TreeGatedDense(1, depth=5, num_trees=1, levels="ends").build((None, 5))
    with pytest.raises(ValueError, match=re.escape("(1260 bytes)")):
        TreeGatedDense(1, depth=5, num_trees=1).build((None, 5))


@each_levels
def test_a_saved_model_is_the_same(levels, tmp_path):
    model, layer = tree_model(levels)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].levels == layer.levels
    x = normal(9, 8)
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    given = levels if levels == "ends" else list(levels)
    assert layer.get_config()["levels"] == given


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@each_levels
def test_training_is_the_oracles(levels, weight_decay):
    model, layer = tree_model(levels, use_bias=False)
    model.compile(StepAwareAdam(0.1, weight_decay=weight_decay), "mse")
    adam = oracle.Adam(
        [nodes.numpy() for nodes in layer.nodes], weight_decay=weight_decay
    )
    for step in range(4):
        x = normal(5, 8, seed=step)
        target = normal(5, 4, seed=step + 9)
        codes = np.array(layer.leaf_codes(x))
        nodes = all_levels(layer)
        for level, weights in zip(layer.levels, adam.weights, strict=True):
            nodes[level] = weights
        dy = 2 * (oracle.forward(x, nodes, codes) - target) / target.size
        _, slopes, _ = oracle.gradients(x, dy, nodes, codes)
        adam.apply([slopes[level] for level in layer.levels], 0.1)
        model.train_on_batch(x, target)
    for level, expected in zip(layer.tree_levels, adam.weights, strict=True):
        assert_close(level.read(), expected, 1e-4)


@each_levels
def test_a_folded_model_has_the_same_outputs(levels):
    model, layer = tree_model(levels)
    for nodes in layer.nodes[1:]:  # makes equal leaves, which are stored once
        rows = nodes.numpy().reshape(3, -1, 3, 4)
        rows[:, : rows.shape[1] // 2] = 0.0
        nodes.assign(rows.reshape(nodes.shape))
    folded = keras_treegate.fold(model)
    x = normal(40, 8)
    assert_close(folded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert folded.layers[0].table.shape[0] == 3 * (1 + 2**4)
    table = oracle.leaf_table(all_levels(layer))
    assert_close(layer.leaf_table(), table)


@pytest.mark.parametrize(
    ("levels", "grown"),
    [
        ("all", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("ends", (0, 5, 7)),
        ((0, 3, 5), (0, 3, 5, 7)),
    ],
    ids=str,
)
def test_a_grown_layer_gets_a_new_level_of_leaves(levels, grown):
    model, layer = tree_model(levels)
    deeper = keras_treegate.grow(model, depth=7)
    new = deeper.layers[0]
    assert new.levels == grown
    x = normal(9, 8)
    assert_close(deeper.predict(x, verbose=0), model.predict(x, verbose=0))
    same = keras_treegate.grow(model, depth=5).layers[0]
    assert same.get_config()["levels"] == layer.get_config()["levels"]


def test_dropped_leaves_merge_into_the_stored_level_above():
    # One tree of depth 2, whose leaves have 4, 1, 0 and 5 visits.
    layer = TreeGatedDense(1, depth=2, num_trees=1, levels="ends", name="tree")
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.nodes[0].assign(np.zeros((1, 2, 1)))
    leaves = np.array([[8.0, 8], [2, 2], [7, 7], [4, 4]])
    layer.nodes[1].assign(leaves[..., None])
    visits = {"tree": np.array([[4, 1, 0, 5]])}
    pruned = keras_treegate.prune(model, min_visits=4, visits=visits)
    # The leaf of one visit goes up to the root, and the others take it off.
    new = pruned.layers[0]
    assert_close(new.nodes[0], [[[2.0], [2.0]]])
    assert_close(new.nodes[1][..., 0], [[6, 6], [0, 0], [0, 0], [2, 2]])
    all_dropped = keras_treegate.prune(model, min_visits=6, visits=visits)
    (root,) = all_dropped.layers[0].nodes
    assert_close(root, np.full((1, 2, 1), (4 * 8 + 2 + 5 * 4) / 10))


def test_a_pruned_layer_keeps_the_levels_above():
    model, _ = tree_model((0, 2, 4, 5))
    visits = np.zeros((3, 32), int)
    visits[:, ::8] = 9  # at least four leaves, each below another node of 2
    visits[:, 1::8] = 1
    pruned = keras_treegate.prune(model, min_visits=10, visits={"tree": visits})
    assert pruned.layers[0].levels == (0, 2, 4)
    assert pruned.layers[0].depth == 4


@each_levels
def test_upcycled_layers_store_these_levels(levels):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    new = keras_treegate.upcycle(model, depth=5, levels=levels)
    layer = new.layers[0]
    assert layer.levels == ((0, 5) if levels == "ends" else levels)
    x = normal(9, 8)
    assert_close(new.predict(x, verbose=0), model.predict(x, verbose=0))


def test_pictures_of_ages_name_the_depths():
    model, layer = tree_model((0, 3, 5))
    model.compile(StepAwareAdam(0.1), "mse")
    model.fit(normal(9, 8), normal(9, 4), verbose=0)
    figure = keras_treegate.plotting.row_ages(layer)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert [label.split()[0] for label in labels] == ["0", "3", "5"]
