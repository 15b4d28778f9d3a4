"""Leaf sums and row gradients as XLA compiles them under TensorFlow."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_treegate.backend.common import xla_loops
from keras_treegate.backend.tensorflow import paths as tensorflow_paths
from keras_treegate.backend.tensorflow.in_place import InPlace
from keras_treegate.core.rows import BatchRows, LevelRows
from tests.backend.test_paths import each_shape, example, expected


@each_shape
@pytest.mark.parametrize("added", [1, 40, 100])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_blocks_of_any_size_give_the_same(shape, added, known, monkeypatch):
    """Of one example, of some (and a rest), and of all, in batches that
    TensorFlow knows the size of when it traces, or not."""
    monkeypatch.setattr(xla_loops, "ADDED_PER_STEP", added)
    x, sums, positions, dy = map(tf.constant, example(shape))
    batch = len(x) if known else None
    of_sums = tf.function(
        tensorflow_paths._gradient_of_sums,
        input_signature=[
            tf.TensorSpec((batch, *x.shape[1:])),
            tf.TensorSpec((batch, *dy.shape[1:])),
            tf.TensorSpec(sums.shape),
            tf.TensorSpec((len(positions), batch), tf.int32),
        ],
        jit_compile=True,
        autograph=False,
    )
    found = of_sums(x, dy, sums, positions)
    _, _, want = expected(*example(shape))
    np.testing.assert_allclose(found, want, 1e-5, 1e-5)


def test_leaf_sums_read_tables_where_they_lie():
    """No other array of a table's size is made, nor of its stamps'."""
    tables = [tf.Variable(tf.ones((size, 2, 4))) for size in (256, 512)]
    states = [
        (tf.zeros(2), tf.Variable(tf.zeros((table.shape[0], 2))))
        for table in tables
    ]
    leaves = tf.range(10) * 50
    positions = tf.range(10)
    levels = [LevelRows(leaves // 2, positions), LevelRows(leaves, None)]
    in_place = InPlace.of
    sums = tf.function(
        lambda: tensorflow_paths._leaf_sums(
            list(map(in_place, tables)),
            [(clock, in_place(stamps)) for clock, stamps in states],
            BatchRows(levels, None),
        ),
        jit_compile=True,
        autograph=False,
    )
    np.testing.assert_array_equal(sums(), np.full((10, 2, 4), 2.0))
    text = sums.experimental_get_compiler_ir()(stage="optimized_hlo")
    made = re.findall(r"= f32\[(?:256|512)\b\S* ([\w-]+)\(", text)
    assert made  # found in the text at all
    assert set(made) <= {"parameter", "bitcast"}
