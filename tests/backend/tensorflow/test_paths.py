"""Leaf sums and products as XLA compiles them under TensorFlow."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_treegate.backend.common import xla_loops
from keras_treegate.backend.tensorflow import products
from keras_treegate.backend.tensorflow.in_place import InPlace
from keras_treegate.backend.tensorflow.leaf_sums import _leaf_sums
from keras_treegate.core.rows import BatchRows, LevelRows
from tests.backend.test_paths import each_shape, example, expected


@each_shape
@pytest.mark.parametrize("added", [1, 40, 100])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_blocks_of_any_size_give_the_same(shape, added, known, monkeypatch):
    # A block is one example, some (and a rest) or all, in batches that
    # TensorFlow knows the size of when it traces, or does not.
    monkeypatch.setattr(xla_loops, "ADDED_PER_STEP", added)
    x, sums, positions, dy = map(tf.constant, example(shape))
    batch = len(x) if known else None
    of_sums = tf.function(
        products._gradient_of_sums,
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
    # No other array of a table's size is made, nor of its stamps'.
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
        lambda: _leaf_sums(
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


@pytest.mark.parametrize("units", [8, 33])  # added up in lanes, and not
def test_a_product_in_place_has_the_gradient_of_its_inputs(units):
    shape = (8, 3, units)
    random = np.random.default_rng(0)
    table = tf.Variable(random.normal(size=shape), dtype=tf.float32)
    x = tf.constant(random.normal(size=(1, 2, 3)), dtype=tf.float32)
    positions = tf.constant([[1], [6]])

    @tf.function
    def outputs_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = products.product_in_place(x, table, positions)
            loss = tf.reduce_sum(y**2)
        return y, tape.gradient(loss, x)

    y, gradient = outputs_and_gradient(x)
    kernel = table.numpy()[[1, 6]]  # (G, W, Q)
    want = np.einsum("bgw,gwq->bq", x, kernel)
    np.testing.assert_allclose(y, want, 1e-5, 1e-5)
    want = np.einsum("bq,gwq->bgw", 2 * want, kernel)
    np.testing.assert_allclose(gradient, want, 1e-5, 1e-5)


def test_a_product_reads_its_table_where_it_lies():
    table = tf.Variable(tf.ones((512, 2, 64)))
    x, positions = tf.ones((1, 4, 2)), tf.zeros((4, 1), tf.int32)
    product = tf.function(
        lambda: products._by_units_of(x, InPlace.of(table), positions),
        jit_compile=True,
        autograph=False,
    )
    np.testing.assert_array_equal(product(), np.full((1, 64), 8.0))
    text = product.experimental_get_compiler_ir()(stage="optimized_hlo")
    made = re.findall(r"= f32\[(?:512|1024),\S* ([\w-]+)\(", text)
    assert "parameter" in made  # found in the text at all
    assert set(made) <= {"parameter", "bitcast", "get-tuple-element"}
