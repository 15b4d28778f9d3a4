"""Folded models: the same outputs, fewer numbers, nothing to train."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate.gates import SignGate
from keras_treegate.layers import FoldedTreeDense, TreeGatedDense
from keras_treegate.optimizers import StepAwareSGD
from keras_treegate.tables import row_table
from keras_treegate.transforms import leaves
from keras_treegate.transforms.sublayers import descendants
from tests import oracle
from tests.transforms import models
from tests.transforms.models import normal

make = functools.partial(TreeGatedDense, depth=3, num_trees=3, seed=1)


def folded_layers(model):
    return [
        layer
        for layer in descendants(model)
        if isinstance(layer, FoldedTreeDense)
    ]


def one_layer(**kwargs):
    layer = make(4, **kwargs)
    model = keras.Sequential([keras.Input((8,)), layer])
    models.randomize(model)
    return model, layer


@pytest.mark.parametrize("structure", models.STRUCTURES)
def test_a_model_of_any_structure_keeps_its_outputs(structure):
    model, x = models.STRUCTURES[structure](make)
    models.randomize(model)
    before = models.values(model)
    folded = keras_treegate.fold(model)
    assert folded_layers(folded)
    assert not any(
        isinstance(layer, TreeGatedDense) for layer in descendants(folded)
    )
    models.assert_same_outputs(model, folded, x)
    models.assert_unchanged(model, before)
    models.assert_nothing_shared(model, folded)


@pytest.mark.parametrize("dtype", [None, "int8", "bfloat16"])
@pytest.mark.parametrize("structure", models.SAVED_WHOLE)
def test_a_folded_model_is_saved_and_loaded(structure, dtype, tmp_path):
    model, x = models.STRUCTURES[structure](make)
    models.randomize(model)
    folded = keras_treegate.fold(model, dtype=dtype)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    models.assert_same_outputs(folded, loaded, x, 1e-6)
    assert len(folded_layers(loaded)) == len(folded_layers(folded))


@pytest.mark.parametrize("structure", models.SAVED_BY_WEIGHTS)
def test_what_is_inside_of_a_layer_is_saved_by_its_weights(structure, tmp_path):
    model, x = models.STRUCTURES[structure](make)
    models.randomize(model)
    folded = keras_treegate.fold(model)
    folded.save_weights(tmp_path / "folded.weights.h5")
    models.randomize(model, seed=2)
    other = keras_treegate.fold(model)
    other.load_weights(tmp_path / "folded.weights.h5")
    models.assert_same_outputs(folded, other, x, 1e-6)


@pytest.mark.parametrize("depth", [0, 1, 4])
@pytest.mark.parametrize("num_trees", [None, 1, 3])
def test_the_table_has_every_path_sum(depth, num_trees):
    layer = TreeGatedDense(4, depth=depth, num_trees=num_trees)
    model = keras.Sequential([keras.Input((8,)), layer])
    models.randomize(model)
    (folded,) = folded_layers(keras_treegate.fold(model))
    expected = oracle.leaf_table([level.numpy() for level in layer.nodes])
    table = folded.table.numpy().reshape(expected.shape)
    np.testing.assert_allclose(table, expected, atol=1e-5)
    assert folded.slots is None


def test_a_large_table_is_made_in_parts(monkeypatch):
    model, layer = one_layer()
    expected = oracle.leaf_table([level.numpy() for level in layer.nodes])
    sizes, read = [], leaves.read_settled_rows

    def counting_read(level, ids):
        sizes.append(len(ids))
        return read(level, ids)

    monkeypatch.setattr(leaves, "read_settled_rows", counting_read)
    monkeypatch.setattr(
        leaves, "CHUNK_BYTES", 5 * leaves.row_bytes(layer.nodes[0])
    )
    (folded,) = folded_layers(keras_treegate.fold(model))
    table = folded.table.numpy().reshape(expected.shape)
    np.testing.assert_allclose(table, expected, atol=1e-5)
    assert max(sizes) == 5 < len(table) * table.shape[1]


def test_weight_decay_that_is_owed_is_paid():
    model, layer = one_layer()
    model.compile(StepAwareSGD(0.1, weight_decay=0.5), "mse")
    x = normal(3, 8)
    # Not `fit`, whose end settles all decay.
    for _ in range(3):
        model.train_on_batch(x, normal(3, 4))
    level = row_table.of(layer.nodes[3])
    owed = np.sum(level.clock.numpy() - level.stamps.numpy(), axis=-1)
    assert np.any(owed < -0.01)
    x = normal(50, 8, seed=4)
    models.assert_same_outputs(model, keras_treegate.fold(model), x)


def test_gates_of_another_tensor_and_running_means():
    x, z = keras.Input((5, 8)), keras.Input((5, 3))
    gate = SignGate(threshold="running_mean")
    layer = make(4, gate=gate)
    model = keras.Model([x, z], layer(x, gate_inputs=z))
    models.randomize(model)
    gate.moving_mean.assign(normal(3, 3))
    gate.updates.assign(5.0)
    folded = keras_treegate.fold(model)
    models.assert_same_outputs(
        model, folded, [normal(6, 5, 8), normal(6, 5, 3)]
    )


def test_half_the_numbers_are_stored():
    model, layer = one_layer(use_bias=False)
    (folded,) = folded_layers(keras_treegate.fold(model))
    assert folded.table.shape == (3 * 8, 3, 4)
    stored = sum(int(np.prod(nodes.shape)) for nodes in layer.nodes)
    assert int(np.prod(folded.table.shape)) * 15 == stored * 8


def test_leaves_below_nodes_of_zeros_are_stored_once():
    model, layer = one_layer()
    deepest = layer.nodes[3].numpy()
    deepest[1:] = 0
    layer.nodes[3].assign(deepest)
    (folded,) = folded_layers(keras_treegate.fold(model))
    # Four leaves of each tree, and one more below the node that is left.
    assert folded.stored_leaves == 5
    assert folded.table.shape == (3 * 5, 3, 4)
    x = normal(50, 8)
    models.assert_same_outputs(model, keras_treegate.fold(model), x)


def test_one_tree_with_equal_leaves_beside_one_whose_leaves_all_differ():
    # Each leaf then has its own row, and none of them another's.
    model, layer = one_layer()
    deepest = layer.nodes[3].numpy()
    deepest[8:12] = 0  # in the second tree
    layer.nodes[3].assign(deepest)
    folded = keras_treegate.fold(model)
    (folded_layer,) = folded_layers(folded)
    assert folded_layer.slots is None
    models.assert_same_outputs(model, folded, normal(50, 8))


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_a_layer_of_roots_alone_is_stored_as_a_kernel(dtype):
    layer = make(4)
    model = keras.Sequential([keras.Input((8,)), layer])
    folded = keras_treegate.fold(model, dtype=dtype)
    assert folded.layers[0].table.shape == (3, 3, 4)
    tolerance = 1e-5 if dtype is None else 0.05
    models.assert_same_outputs(model, folded, normal(9, 8), tolerance)


@pytest.mark.parametrize(
    ("dtype", "error"),
    [("float32", 0), ("float16", 5e-4), ("bfloat16", 4e-3), ("int8", 1e-2)],
)
def test_smaller_dtypes_tell_the_error_they_cost(dtype, error):
    model, layer = one_layer()
    folded = keras_treegate.fold(model, dtype=dtype)
    (small,) = folded_layers(folded)
    assert small.table.dtype == dtype
    exact = oracle.leaf_table([level.numpy() for level in layer.nodes])
    table = ops.convert_to_numpy(ops.cast(small.table.value, "float32"))
    if dtype == "int8":
        assert small.scale.shape == (3 * 8, 3)
        table = table * small.scale.numpy()[..., None]
    changes = table.reshape(exact.shape) - exact
    expected = np.sqrt(np.sum(changes**2) / np.sum(exact**2))
    assert small.folding_error == pytest.approx(expected, abs=1e-6)
    assert error / 20 <= small.folding_error <= error
    x = normal(9, 8)
    models.assert_same_outputs(model, folded, x, 1e-5 + 20 * error)


def test_each_row_has_a_scale_of_its_own_in_int8():
    model, layer = one_layer()
    for level in layer.nodes[1:]:
        level.assign(np.zeros(level.shape))
    rows = layer.nodes[0].numpy()
    rows[2, 1] = 0
    layer.nodes[0].assign(rows)
    (small,) = folded_layers(keras_treegate.fold(model, dtype="int8"))
    largest = np.abs(rows).max(-1)
    largest[2, 1] = 127
    np.testing.assert_allclose(small.scale.numpy() * 127, largest, rtol=1e-6)
    np.testing.assert_array_equal(small.table.numpy()[2, 1], 0)
    assert np.all(np.abs(small.table.numpy()).max(-1).ravel()[:7] == 127)


def test_predictions_of_a_traced_function_are_the_same():
    model, _ = one_layer()
    folded = keras_treegate.fold(model, dtype="int8")
    x = normal(9, 8)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        folded.predict(x, verbose=0), expected, atol=0.15
    )


def test_a_model_of_an_optimizer_is_folded_without_it():
    model, _ = one_layer()
    model.compile("adam", "mse")
    model.fit(normal(9, 8), normal(9, 4), verbose=0)
    folded = keras_treegate.fold(model)
    assert not folded.compiled
    assert model.compiled
    model.fit(normal(9, 8), normal(9, 4), verbose=0)
    folded(normal(9, 8))


def test_layers_around_a_folded_one_train():
    layer = make(4)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8), layer, keras.layers.ReLU()]
    )
    models.randomize(model)
    folded = keras_treegate.fold(model)
    folded.compile("sgd", "mse")
    table = folded.layers[1].table.numpy().copy()
    kernel = folded.layers[0].kernel.numpy().copy()
    with pytest.warns(UserWarning, match=r"is folded: it stays as it is"):
        folded.fit(normal(9, 8), normal(9, 4), verbose=0)
    np.testing.assert_array_equal(folded.layers[1].table.numpy(), table)
    assert np.any(folded.layers[0].kernel.numpy() != kernel)
    models.assert_unchanged(model, models.values(model))


def test_frozen_layers_stay_frozen():
    model, _ = models.nested(make)
    model.get_layer("inner").trainable = False
    folded = keras_treegate.fold(model)
    assert not folded.get_layer("inner").trainable
    assert folded.trainable
    model, _ = models.subclassed(make)
    model.block.norm.trainable = False
    folded = keras_treegate.fold(model)
    assert not folded.block.norm.trainable
    assert folded.block.trainable


REFUSED = {
    "no model": (
        lambda: keras_treegate.fold(make(3)),
        "(?s)`model` must be a `keras.Model`.*Received: TreeGatedDense.*Put",
    ),
    "not built": (
        lambda: keras_treegate.fold(keras.Sequential([make(3)])),
        "(?s)`model` must be built.*Received: .*Call it",
    ),
    "nothing to fold": (
        lambda: keras_treegate.fold(
            keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        ),
        "(?s)`model` must have at least one.*Received: .*none. Use it",
    ),
    "an unknown dtype": (
        lambda: keras_treegate.fold(one_layer()[0], dtype="int4"),
        "(?s)`dtype` must be.*'int8'.*Received: dtype='int4'.*Leave it out",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_folded_is_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_credit_that_scales_nodes_is_refused():
    model, layer = one_layer()
    layer.credit.foldable = False
    message = r"(?s)`model` must have layers.*Received: .*credit=Straight"
    with pytest.raises(ValueError, match=message):
        keras_treegate.fold(model)


class Unclonable(keras.layers.Layer):
    def __init__(self, inner, given):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        return {}


def test_a_layer_that_keras_cannot_clone_is_named():
    inner = make(4)
    model = keras.Sequential([keras.Input((8,)), Unclonable(inner, 1)])
    message = r"(?s)`model` must be made of.*Received: .*Unclonable.*get_config"
    with pytest.raises(ValueError, match=message):
        keras_treegate.fold(model)
