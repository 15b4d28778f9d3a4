"""The output of `explain`, against the rows that a batch really needs."""

import re

import numpy as np
import pytest
from keras import ops

from keras_treegate.layers import TreeGatedDense
from keras_treegate.trees.forest import batch_rows


def explained(layer, batch):
    texts = []
    layer.explain(batch, print_fn=texts.append)
    return texts[0]


@pytest.mark.parametrize("row_levels", ["auto", "all", "none"])
@pytest.mark.parametrize("batch", [1, 5, 64])
@pytest.mark.parametrize("levels", ["all", (0, 2, 5)])
def test_the_table_is_what_a_batch_reads(levels, batch, row_levels):
    layer = TreeGatedDense(3, depth=5, num_trees=2, levels=levels, seed=0)
    layer.build((None, 7))
    layer.row_levels = row_levels
    codes = np.random.default_rng(0).integers(32, size=(batch, 2))
    rows = batch_rows(
        ops.convert_to_tensor(codes.astype("int32")), layer.levels, row_levels
    )
    text = explained(layer, batch)
    assert "touched kB  stored kB" in text
    table = re.findall(
        r"^ +(\d+) +(\d+) +(whole|by row) +([\d.]+) +([\d.]+)$", text, re.M
    )
    assert tuple(int(level) for level, *_ in table) == layer.levels
    row = 4 * 3 * 4 / 1e3
    for line, needed in zip(table, rows.levels, strict=True):
        level, stored, how, touched, stored_size = line
        level = int(level)
        assert int(stored) == 2 * 2**level
        assert (how == "whole") == (needed.ids is None)
        read = 2 * 2**level if needed.ids is None else needed.ids.shape[0]
        assert float(touched) == pytest.approx(read * row, abs=6e-3)
        assert float(stored_size) == pytest.approx(int(stored) * row, abs=6e-3)


def test_large_layers_are_told_in_megabytes():
    layer = TreeGatedDense(64, depth=10, seed=0)
    layer.build((None, 64))
    total = sum(64 * 2**level for level in range(11)) * 64 * 4
    assert f"{total / 1e6:.2f}" == "33.54"
    lines = explained(layer, 32).splitlines()
    assert lines[2].endswith("touched MB  stored MB")
    assert lines[14].split()[::2] == ["all", "33.54"]


def test_the_work_is_that_of_the_layer():
    layer = TreeGatedDense(3, depth=5, num_trees=2, seed=0)
    layer.build((None, 7))
    text = explained(layer, 8)
    assert f"{layer.multiply_adds.folded:,} multiply-adds" in text
    assert "Path product: " in text


def test_the_batch_size_must_be_a_positive_integer():
    layer = TreeGatedDense(3, depth=2)
    layer.build((None, 7))
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        layer.explain(0)
