"""The model of bytes, against the variables of a layer, and its command."""

import json

import keras
import numpy as np
import pytest

from benchmarks import scale
from benchmarks.__main__ import main
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD

OPTIMIZERS = {2: StepAwareAdam, 1: lambda: StepAwareSGD(momentum=0.9)}


def bytes_of(variables):
    return sum(keras.ops.convert_to_numpy(v.value).nbytes for v in variables)


@pytest.mark.parametrize("slots", OPTIMIZERS)
@pytest.mark.parametrize("levels", ["all", "ends", (0, 2, 5)])
def test_stored_bytes_are_those_of_the_variables(levels, slots):
    layer = TreeGatedDense(
        3, depth=5, num_trees=7, levels=levels, use_bias=False, seed=0
    )
    layer.build((None, 14))
    optimizer = OPTIMIZERS[slots]()
    optimizer.build(layer.trainable_variables)
    optimizer_state = [
        v for v in optimizer.variables if np.prod(v.shape, dtype=int) > 1
    ]
    gates = bytes_of(layer.gate.variables)
    found = bytes_of(layer.variables) - gates + bytes_of(optimizer_state)
    model = scale.Layer(14, 3, 7, layer.levels)
    assert scale.stored_bytes(model, slots) == found
    assert model.parameters == layer.count_params() - other_numbers(layer)


def other_numbers(layer):
    """Returns the numbers of a layer that are no nodes."""
    nodes = {id(variable) for variable in layer.nodes}
    others = [v for v in layer.variables if id(v) not in nodes]
    return sum(int(np.prod(v.shape)) for v in others)


def test_a_step_moves_what_the_limit_counts():
    layer = scale.Layer(8, 4, 2, (0, 3))
    row = 8 // 2 * 4 * 4
    assert scale.touched_bytes(layer, 5) == 2 * (1 + 5) * row
    assert scale.touched_bytes(layer, 50) == 2 * (1 + 8) * row
    assert scale.moved_bytes(layer, 5) == 7 * 2 * (1 + 5) * row
    assert scale.owners_bytes(layer, 5, 4) == 2 * 2 * (1 + 5) * row * 3 // 16


def test_the_command_writes_a_row_for_each_depth(tmp_path):
    arguments = [
        "scale",
        "--depths",
        "3",
        "5",
        "--units",
        "8",
        "--trees",
        "4",
        "--levels",
        "all",
        "--output",
    ]
    assert main([*arguments, str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "scale.json").read_text())["rows"]
    assert [row["depth"] for row in rows] == [3, 5]
    assert [row["parameters"] for row in rows] == [64 * 15, 64 * 63]
    assert "data parallel" in (tmp_path / "scale.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--units 8 --trees 3", "`--units` must be a multiple of `--trees`"),
        ("--depths 32", "`--depths` must be at most 31"),
    ],
)
def test_sizes_of_no_layer_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(["scale", *arguments.split()])
    assert message in capsys.readouterr().err
