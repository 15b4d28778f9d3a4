"""Pruned trees, against an oracle of loops."""

import functools

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.transforms.sublayers import descendants
from tests import oracle
from tests.transforms import models
from tests.transforms.models import normal

make = functools.partial(TreeGatedDense, depth=3, num_trees=2, seed=1)


def one_layer(**kwargs):
    layer = make(4, name="mine", **kwargs)
    model = keras.Sequential([keras.Input((6,)), layer])
    models.randomize(model)
    return model, layer


def counts(layer, x):
    codes = np.array(layer.leaf_codes(x)).reshape(-1, layer.num_trees)
    return np.stack(
        [np.bincount(tree, minlength=2**layer.depth) for tree in codes.T]
    )


def merged_leaves(layer, visits, min_visits):
    """Returns the pruned leaf table: each kept path, or its group's mean."""
    table = oracle.leaf_table([level.numpy() for level in layer.nodes])
    out, depth = np.zeros_like(table), layer.depth
    for tree in range(len(table)):

        def stop(code, tree=tree):
            """Returns the deepest kept node on the path, as (level, prefix)."""
            level = 0
            for deeper in range(1, depth + 1):
                shift = depth - deeper
                below = [
                    c for c in range(2**depth) if c >> shift == code >> shift
                ]
                if visits[tree, below].sum() >= min_visits:
                    level = deeper
            return level, code >> (depth - level)

        for code in range(2**depth):
            group = [c for c in range(2**depth) if stop(c) == stop(code)]
            weights = visits[tree, group]
            if weights.sum():
                out[tree, code] = np.average(
                    table[tree, group], axis=0, weights=weights
                )
            else:
                level, _ = stop(code)
                assert level == depth or visits[tree, code] == 0
                out[tree, code] = np.nan
    return out


@pytest.mark.parametrize("min_visits", [1, 2, 5, 1000])
def test_leaves_are_kept_or_merged_with_those_they_stop_with(min_visits):
    model, layer = one_layer()
    visits = counts(layer, normal(12, 6))
    assert np.any(visits == 0)
    expected = merged_leaves(layer, visits, min_visits)
    new = keras_treegate.prune(model, min_visits, visits={"mine": visits})
    (pruned,) = new.layers
    table = np.array(keras.ops.convert_to_numpy(pruned.leaf_table()))
    repeats = 2 ** (layer.depth - pruned.depth)
    table = np.repeat(table, repeats, axis=1)
    seen = np.isfinite(expected)
    assert np.any(seen)
    np.testing.assert_allclose(table[seen], expected[seen], atol=1e-5)
    if min_visits == 1000:
        assert pruned.depth == 0


@pytest.mark.parametrize("structure", models.STRUCTURES)
def test_what_was_visited_keeps_its_outputs(structure):
    model, x = models.STRUCTURES[structure](make)
    models.randomize(model)
    visits = {}
    trees = [
        layer
        for layer in descendants(model)
        if isinstance(layer, TreeGatedDense)
    ]
    for layer in trees:
        # All but the last leaf: no example is known to go elsewhere.
        visits[layer.name] = np.ones((layer.num_trees, 8), int)
    before = models.values(model)
    new, report = keras_treegate.prune(
        model, visits=visits, data=x, return_report=True
    )
    assert report.rows_freed == 0
    assert report.largest_change < 1e-5
    models.assert_same_outputs(model, new, x)
    models.assert_unchanged(model, before)
    models.assert_nothing_shared(model, new)


def test_unvisited_subtrees_go_and_visited_examples_see_nothing_of_it(tmp_path):
    model, layer = one_layer()
    x = normal(5, 6)
    visits = counts(layer, x)
    new, report = keras_treegate.prune(
        model, visits={"mine": visits}, data=x, return_report=True
    )
    models.assert_same_outputs(model, new, x, 1e-6)
    kept = sum(
        np.count_nonzero(visits.reshape(2 * 2**level, -1).sum(axis=1))
        for level in range(4)
    )
    assert report.rows == 2 * 15
    assert report.rows_freed == 30 - kept > 0
    assert report.largest_change < 1e-6
    zero = sum(
        np.count_nonzero(~np.any(level.numpy(), axis=(1, 2)))
        for level in new.layers[0].nodes
    )
    assert zero == report.rows_freed
    folded = keras_treegate.fold(new)
    assert folded.layers[0].stored_leaves < 8
    models.assert_same_outputs(new, folded, normal(40, 6, seed=3))
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(new, loaded, normal(40, 6, seed=3), 1e-6)


def test_the_largest_change_is_measured():
    model, layer = one_layer()
    x = normal(40, 6)
    visits = counts(layer, x)
    new, report = keras_treegate.prune(
        model, 8, {"mine": visits}, data=x, return_report=True
    )
    changes = models.outputs(model, x)[0] - models.outputs(new, x)[0]
    assert report.largest_change == pytest.approx(np.abs(changes).max())
    assert report.largest_change > 1e-3


def test_a_level_that_no_one_visits_is_taken_off():
    gate = SignGate(units=[[0, 1, 2], [3, 4, 5]], threshold="running_mean")
    model, layer = one_layer(gate=gate)
    gate.moving_mean.assign(normal(2, 3))
    gate.updates.assign(3.0)
    visits = np.zeros((2, 8), int)
    visits[:, 0] = 2
    visits[:, 1] = 3
    new = keras_treegate.prune(model, 4, visits={"mine": visits})
    (pruned,) = new.layers
    assert pruned.depth == 2
    np.testing.assert_array_equal(pruned.gate.units, [[0, 1], [3, 4]])
    np.testing.assert_array_equal(
        pruned.gate.moving_mean.numpy(), gate.moving_mean.numpy()[:, :2]
    )
    table = oracle.leaf_table([level.numpy() for level in layer.nodes])
    expected = (2 * table[:, 0] + 3 * table[:, 1]) / 5
    found = keras.ops.convert_to_numpy(pruned.leaf_table())
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_the_layer_s_own_counts_are_used():
    model, layer = one_layer()
    x = normal(5, 6)
    visits = counts(layer, x)
    model(x, training=True)
    np.testing.assert_array_equal(layer.leaf_visits, visits)
    given = keras_treegate.prune(model, visits={"mine": visits})
    own = keras_treegate.prune(model)
    models.assert_same_outputs(given, own, normal(30, 6), 0)


def test_a_layer_that_does_not_count_is_pruned_with_given_visits():
    model, layer = one_layer(count_visits=False)
    x = normal(5, 6)
    new = keras_treegate.prune(model, visits={"mine": counts(layer, x)})
    assert not new.layers[0].count_visits
    models.assert_same_outputs(model, new, x)
    with pytest.raises(ValueError, match="(?s)`visits` must have counts.*mine"):
        keras_treegate.prune(model)


@pytest.mark.parametrize("given", [False, True])
def test_a_pruned_layer_keeps_its_counts(given):
    model, layer = one_layer()
    visits = np.zeros((2, 8), int)
    visits[:, 0] = 2
    visits[:, 1] = 3
    visits[1, 6] = 2**40 + 5
    layer.visits.assign(visits)
    np.testing.assert_array_equal(layer.leaf_visits, visits)
    shallow = np.repeat(np.eye(1, 8, dtype=int), 2, axis=0)
    arguments = {"visits": {"mine": shallow}} if given else {}
    (pruned,) = keras_treegate.prune(model, 4, **arguments).layers
    expected = visits.reshape(2, 2**pruned.depth, -1).sum(axis=-1)
    assert pruned.depth == (0 if given else 3)
    np.testing.assert_array_equal(pruned.leaf_visits, expected)


REFUSED = {
    "no counts": ({"visits": {}}, "(?s)`visits` must have counts.*none for"),
    "another shape": (
        {"visits": {"mine": np.ones((2, 4), int)}},
        r"(?s)`visits` must be counts.*shape \(2, 4\), in place of \(2, 8\)",
    ),
    "negative": (
        {"visits": {"mine": np.full((2, 8), -1)}},
        r"(?s)`visits` must be counts of at least 0.*from -1 on",
    ),
    "a tree without any": (
        {"visits": {"mine": np.eye(8, dtype=int)[[0, 0]] * [[1], [0]]}},
        "(?s)`visits` must have visits of each tree.*'mine'.*Train",
    ),
    "min_visits": (
        {"min_visits": 0},
        "(?s)`min_visits` must be.*Received: min_visits=0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_pruned_is_refused(case):
    arguments, match = REFUSED[case]
    with pytest.raises(ValueError, match=match):
        keras_treegate.prune(one_layer()[0], **arguments)
