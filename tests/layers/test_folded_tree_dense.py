"""The folded layer by itself: config, shapes and errors."""

import keras
import numpy as np
import pytest

from keras_treegate.gates import SignGate
from keras_treegate.layers import FoldedTreeDense

FULL = {
    "units": 3,
    "depth": 2,
    "num_trees": 2,
    "gate": SignGate(threshold="running_mean", seed=4),
    "activation": "relu",
    "use_bias": False,
    "table_dtype": "int8",
    "stored_leaves": 3,
    "name": "folded",
    "dtype": "mixed_bfloat16",
}


def ones(*shape):
    return np.ones(shape, "float32")


@pytest.mark.parametrize("arguments", [{"units": 4}, FULL])
def test_config_round_trip(arguments):
    layer = FoldedTreeDense(**arguments)
    config = layer.get_config()
    assert FoldedTreeDense.from_config(config).get_config() == config
    assert set(FULL) <= set(config)
    serialized = keras.saving.serialize_keras_object(layer)
    assert serialized["registered_name"] == "keras_treegate>FoldedTreeDense"
    loaded = keras.saving.deserialize_keras_object(serialized)
    assert loaded.get_config() == config


def test_variables_and_shapes():
    layer = FoldedTreeDense(**FULL)
    y = layer(ones(4, 2, 5))
    assert tuple(y.shape) == layer.compute_output_shape((4, 2, 5)) == (4, 2, 3)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    shapes = {v.name: (tuple(v.shape), v.dtype) for v in layer.weights}
    assert shapes["table"] == ((6, 3, 3), "int8")
    assert shapes["scale"] == ((6, 3), "float32")
    assert shapes["slots"] == ((8,), "int32")
    assert layer.trainable_weights == []
    assert layer.num_trees == 2


def test_a_table_is_of_the_compute_dtype():
    layer = FoldedTreeDense(3, depth=1, dtype="mixed_float16")
    layer.build((None, 4))
    assert layer.table.dtype == "float16"
    assert layer.bias.dtype == "float32"


def test_a_second_build_changes_nothing():
    layer = FoldedTreeDense(3, depth=1)
    layer.build((None, 4))
    variables = layer.variables
    layer.build((None, 4))
    assert [id(v) for v in layer.variables] == [id(v) for v in variables]


def test_it_refuses_to_be_trainable():
    message = r"(?s)`trainable` must be `False`.*Received: trainable=True.*fold"
    with pytest.raises(ValueError, match=message):
        FoldedTreeDense(3, trainable=True)
    layer = FoldedTreeDense(3)
    with pytest.raises(ValueError, match=message):
        layer.trainable = True
    model = keras.Sequential([keras.Input((4,)), layer])
    model.trainable = False
    with pytest.raises(ValueError, match=message):
        model.trainable = True
    assert not layer.trainable


def test_training_is_told_once_that_nothing_trains():
    layer = FoldedTreeDense(3, depth=1, name="mine")
    with pytest.warns(UserWarning, match=r"'mine' is folded.*stays as it is"):
        layer(ones(2, 4), training=True)
    layer(ones(2, 4), training=True)  # a second warning would be an error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "(?s)`units` must be.*Received: units=0"),
        ({"depth": -1}, "(?s)`depth` must be.*Received: depth=-1"),
        (
            {"table_dtype": "int4"},
            "(?s)`table_dtype` must be.*Received: table_dtype='int4'.*Leave",
        ),
        (
            {"stored_leaves": 0},
            "(?s)`stored_leaves` must be.*Received: stored_leaves=0",
        ),
        ({"gate": "relu"}, "(?s)`gate` must be.*Received: gate='relu'"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FoldedTreeDense(**{"units": 3, **arguments})


TOO_LARGE = {
    "leaves": ({"units": 100, "depth": 5}, 100 * 32 * 5 * 4),
    "all trees": ({"units": 100, "depth": 2, "num_trees": 5}, 100 * 4 * 5 * 4),
    "the table dtype": (
        {"units": 100, "depth": 4, "num_trees": 1, "table_dtype": "float64"},
        100 * 16 * 5 * 8,
    ),
    "stored leaves": (
        {"units": 100, "depth": 5, "num_trees": 1, "stored_leaves": 6},
        100 * 6 * 5 * 4 + 32 * 4,
    ),
    "the scale of int8": (
        {"units": 1, "depth": 9, "num_trees": 1, "table_dtype": "int8"},
        512 * 5 * (1 + 4),
    ),
    "the slots": (
        {"units": 1, "depth": 12, "num_trees": 1, "stored_leaves": 1},
        5 * 4 + 4096 * 4,
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_more_memory_than_a_layer_may_take(case, monkeypatch):
    arguments, size = TOO_LARGE[case]
    name = "KERAS_TREEGATE_MAX_LAYER_GIB"
    source = {"gate_inputs_shape": (None, 16)}
    monkeypatch.setenv(name, str(size / 2**30))
    FoldedTreeDense(**arguments).build((None, 5), **source)
    monkeypatch.setenv(name, str((size - 1) / 2**30))
    layer = FoldedTreeDense(**arguments)
    with pytest.raises(
        ValueError,
        match=rf"(?s)must make a table of leaves.*Received: .*\({size} bytes",
    ):
        layer.build((None, 5), **source)
    assert layer.variables == []


def test_more_rows_than_a_table_may_have():
    layer = FoldedTreeDense(1, depth=28, num_trees=None)
    with pytest.raises(ValueError, match=r"(?s)2\*\*31 rows.*30 tree"):
        layer.build((None, 30))
    assert layer.variables == []


@pytest.mark.parametrize("stored", [5, 2**50])
def test_more_stored_leaves_than_there_are(stored):
    message = f"(?s)`stored_leaves` .*at most 4.*Received: .*{stored}"
    with pytest.raises(ValueError, match=message):
        FoldedTreeDense(1, depth=2, stored_leaves=stored)


def test_inputs_that_are_refused():
    with pytest.raises(ValueError, match=r"(?s)`inputs` must have a rank.*Add"):
        FoldedTreeDense(3, depth=1).build((4,))
    with pytest.raises(ValueError, match=r"(?s)`num_trees` must be at most"):
        FoldedTreeDense(3, depth=1, num_trees=9).build((None, 4))
    layer = FoldedTreeDense(3, depth=1)
    message = r"(?s)`gate_inputs` must have the leading axes.*Received"
    with pytest.raises(ValueError, match=message):
        layer(ones(2, 4), gate_inputs=ones(3, 4))
