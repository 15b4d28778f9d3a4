"""Sizes of trees: the number of trees, blocks, kernels, what is stored."""

import numpy as np
import pytest
from keras import ops

from keras_treegate.core.tree_shape import TreeShape
from tests import oracle


def test_a_tree_shape_says_how_many_numbers_it_stores():
    shape = TreeShape.of(3, inputs=7, depth=2, units=5, levels=(0, 1, 2))
    assert shape.width == 3
    assert [shape.level_shape(level) for level in range(3)] == (
        oracle.node_shapes(7, 5, depth=2, trees=3)
    )
    assert shape.stored == sum(
        np.prod(shape.level_shape(level)) for level in range(3)
    )
    ends = shape._replace(levels=(0, 2))
    assert ends.stored == shape.stored - np.prod(shape.level_shape(1))


@pytest.mark.parametrize(
    ("num_trees", "expected"), [("auto", 7), (None, 7), (3, 3)]
)
def test_the_number_of_trees_that_is_meant(num_trees, expected):
    assert TreeShape.of(num_trees, 7, 2, 5, (0, 2)).num_trees == expected


def test_auto_means_64_trees_of_many_inputs():
    assert TreeShape.of("auto", 65, 2, 5, (0, 2)).num_trees == 64


def test_blocks_pads_the_last_block():
    x = np.random.default_rng(0).normal(size=(2, 7)).astype("float32")
    shape = TreeShape.of(3, inputs=7, depth=1, units=2, levels=(0, 1))
    blocks = ops.convert_to_numpy(shape.blocks(ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(blocks, oracle.blocks(x, 3).astype("float32"))


def test_kernels_put_blocks_back_in_order():
    shape = TreeShape.of(3, inputs=7, depth=1, units=2, levels=(0, 1))
    blocks = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
    kernels = shape.kernels(ops.convert_to_tensor(blocks))
    kernels = ops.convert_to_numpy(kernels)
    for unit in range(7):
        tree_number, slot = oracle.place(unit, 7, 3)
        np.testing.assert_allclose(
            kernels[:, unit], blocks[:, tree_number, slot], rtol=1e-6
        )
