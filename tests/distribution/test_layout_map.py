"""Layouts of tables: the keys, bad arguments, and training under them."""

import re

import keras
import pytest

from keras_treegate.distribution import layout_map


def mesh_of(shape=(2, 2), axes=("batch", "model")):
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    devices = [f"cpu:{number}" for number in range(count)]
    return keras.distribution.DeviceMesh(shape, axes, devices)


@pytest.mark.parametrize(
    ("path", "axes"),
    [
        ("tree/nodes_8", ("model", None, None)),
        ("model/tree/nodes_31", ("model", None, None)),
        ("tree/stamps_8", ("model", None)),
        ("tree/visits_low", ("model",)),
        ("tree/visits_high", ("model",)),
        ("adam/tree_clock_8_last_step", ("model",)),
        ("adagrad/model_tree_clock_13_accumulator", ("model", None, None)),
        ("sparse_embedding/embeddings", ("model", None)),
        ("model/sparse_embedding_3/stamps", ("model", None)),
        ("adam/model_sparse_embedding_3_clock_last_step", ("model",)),
        ("adagrad/sparse_embedding_clock_accumulator", ("model", None)),
        ("tree/nodes_7", None),
        ("tree/stamps_7", None),
        ("tree/clock_8", None),
        ("sparse_embedding/clock", None),
        ("adam/tree_clock_7_last_step", None),
        ("embedding/embeddings", None),
        ("tree/bias", None),
        ("dense/kernel", None),
    ],
)
def test_rows_are_split_with_all_of_their_state(path, axes):
    found = layout_map(mesh_of())[path]
    assert (found if found is None else found.axes) == axes


@pytest.mark.parametrize(
    ("path", "axes"),
    [
        ("tree/nodes_8", (None, None, "model")),
        ("sparse_embedding/embeddings", (None, "model")),
        ("tree/stamps_8", None),
        ("tree/visits_low", None),
        ("adam/tree_clock_8_last_step", None),
    ],
)
def test_units_are_split_without_the_state_of_rows(path, axes):
    found = layout_map(mesh_of(), shard="units")[path]
    assert (found if found is None else found.axes) == axes


def test_arguments_choose_axis_levels_layers_and_visits():
    layouts = layout_map(
        mesh_of(), axis="batch", min_rows=5, embeddings=".*", visits=False
    )
    assert layouts["tree/nodes_3"].axes == ("batch", None, None)
    assert layouts["tree/nodes_2"] is None
    assert layouts["words/embeddings"].axes == ("batch", None)
    assert layouts["adam/words_clock_last_step"].axes == ("batch",)
    assert layouts["adam/words_clock_5_last_step"].axes == ("batch",)
    assert layouts["tree/visits_low"] is None
    assert layout_map(mesh_of(), embeddings="")["words/embeddings"] is None


def test_a_level_of_fewer_rows_than_devices_is_replicated():
    layouts = layout_map(mesh_of((1, 16)), min_rows=1)
    assert layouts["tree/nodes_3"] is None
    assert layouts["tree/nodes_4"].axes == ("model", None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mesh": 4}, "`mesh` must be a keras.distribution.DeviceMesh"),
        ({"axis": "rows"}, "one of ('batch', 'model'). Received: axis='rows'"),
        ({"shard": "columns"}, "`shard` must be 'rows' or 'units'. Received"),
        ({"min_rows": 0}, "`min_rows` must be"),
        ({"embeddings": None}, "`embeddings` must be a regular expression"),
        ({"visits": 1}, "`visits` must be"),
        ({"mesh": mesh_of((1, 3))}, "Received: 3 devices along 'model'"),
    ],
)
def test_bad_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layout_map(**({"mesh": mesh_of()} | arguments))


def test_units_may_be_split_by_any_number():
    layouts = layout_map(mesh_of((1, 3)), shard="units")
    assert layouts["tree/nodes_8"].axes == (None, None, "model")
