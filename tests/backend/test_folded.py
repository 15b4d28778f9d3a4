"""A folded layer's codes and outputs on this backend, against the oracle."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from keras_treegate.core import codes as formulas
from keras_treegate.core.numerics import dequantize, quantize
from keras_treegate.core.tree_shape import FoldedTables, TreeShape
from tests import oracle
from tests.jit_on_jax import jit_on_jax

TREES, DEPTH, UNITS = 3, 2, 4
LEAVES = 2**DEPTH


def random():
    return np.random.default_rng(0)


def without_a_gradient(function, *arguments):
    """Calls a function as a server does."""
    if keras.backend.backend() == "torch":
        import torch

        with torch.no_grad():
            return function(*arguments)
    return function(*arguments)


def tables_of(inputs, dtype, pruned):
    """Returns tables of drawn numbers, and every leaf (G * L, W, Q) of them."""
    stored = 2 if pruned else LEAVES
    shape = TreeShape(TREES, inputs, DEPTH, UNITS, (0, DEPTH))
    drawn = random().normal(size=(TREES * stored, shape.width, UNITS))
    table, scale = quantize(ops.convert_to_tensor(drawn, "float32"), dtype)
    leaves = ops.convert_to_numpy(dequantize(table, scale, "float32"))
    slots = None
    if pruned:
        of_leaf = np.arange(TREES)[:, None] * stored + [0, 1, 1, 0]
        slots = ops.convert_to_tensor(of_leaf.reshape(-1), "int32")
        leaves = leaves[of_leaf.reshape(-1)]
    bias = ops.convert_to_tensor(np.arange(UNITS), "float32")
    return FoldedTables(table, scale, slots, bias, shape, "float32"), leaves


# PyTorch has several ways, by the numbers in a product and in a row.
WAYS = {"a bag or parts": (0, 2**16), "rows in place": (0, 0)}
WAYS["a gather"] = (2**16, 0)


@pytest.mark.parametrize(
    "way", WAYS if keras.backend.backend() == "torch" else ["its own"]
)
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("inputs", [3, 8])
def test_outputs_are_the_products_with_the_leaves(
    inputs, dtype, pruned, way, monkeypatch
):
    if keras.backend.backend() == "torch":
        from keras_treegate.backend.torch import folded

        small, large_row = WAYS[way]
        monkeypatch.setattr(folded, "SMALL", small)
        monkeypatch.setattr(folded, "LARGE_ROW", large_row)
        monkeypatch.setattr(folded, "PART_SIZE", 2 * UNITS)
    tables, leaves = tables_of(inputs, dtype, pruned)
    x = random().normal(size=(2, 3, inputs)).astype("float32")
    codes = random().integers(0, LEAVES, (2, 3, TREES)).astype("int32")
    width = tables.trees.width
    kernels = leaves.reshape(TREES, LEAVES, width, UNITS)
    expected = np.zeros((2, 3, UNITS)) + np.arange(UNITS)
    for place in np.ndindex(2, 3):
        for unit in range(inputs):
            tree, row = divmod(unit, width)
            kernel = kernels[tree, codes[place][tree]]
            expected[place] += x[place][unit] * kernel[row]

    def outputs(x, codes):
        return backend.folded_outputs(x, tables, codes)

    found = without_a_gradient(
        jit_on_jax(outputs),
        ops.convert_to_tensor(x),
        ops.convert_to_tensor(codes),
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("thresholds", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_sign_codes(dtype, thresholds):
    source = random().normal(size=(5, 2, 6))
    source[0, 0] = [0.0, -0.0, np.nan, 1e-39, -1e-39, np.inf]
    source = ops.cast(ops.convert_to_tensor(source), dtype)
    units = np.array([[4, 0, 1], [2, 5, 3]])
    limits = np.array([[1e-39, 0.5, -1.0], [0.0, 0.25, -1e-39]])
    exact = ops.convert_to_numpy(ops.cast(source, "float32"))
    limit = limits if thresholds else np.zeros_like(limits)
    limit = np.where(np.abs(limit) < 1e-38, 0, limit)
    bits = np.where(np.abs(exact) < 1e-38, 0, exact)[..., units] > limit
    found = backend.sign_codes(
        source,
        ops.convert_to_tensor(units, "int32"),
        ops.convert_to_tensor(limits, "float32") if thresholds else None,
        (2, 3),
    )
    assert keras.backend.standardize_dtype(found.dtype) == "int32"
    expected = oracle.leaf_codes(bits.reshape(10, 2, 3).astype(int))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(found).reshape(10, 2), expected
    )


def test_sign_codes_of_no_bits():
    units = ops.zeros((3, 0), "int32")
    found = backend.sign_codes(ops.ones((4, 2)), units, None, (3, 0))
    np.testing.assert_array_equal(ops.convert_to_numpy(found), np.zeros((4, 3)))


HASHES = {
    "orders 1 and 3": ((1, 2), (3, 4)),
    "two hashes of an order": ((2, 10), (2, 3)),
    "no bits": ((1, 0),),
}


@pytest.mark.parametrize("hashes", HASHES.values(), ids=HASHES)
def test_hash_codes(hashes):
    # They are compared with integers of any size, in Python.
    tokens = random().integers(-(2**31), 2**31, (4, 2, 5)).astype("int32")
    tokens[0] = [[-1, 0, 255, 256, -256], [2**31 - 1, -(2**31), 1, 2, 3]]
    ages = hashes[-1][0]
    of_tokens = random().integers(1, formulas.PRIME, (4 * ages, TREES))
    of_hashes = random().integers(1, formulas.PRIME, (3 * len(hashes), TREES))
    expected = np.zeros((4, 2, TREES), "int32")
    for place in np.ndindex(expected.shape):
        *example, tree = place
        code = 0
        for number, (order, bits) in enumerate(hashes):
            total = 0
            for age in range(order):
                token = int(tokens[(*example, 4 - age)]) % 2**32
                for digit in range(4):
                    total += int(of_tokens[4 * age + digit, tree]) * (
                        token >> 8 * digit & 255
                    )
            high, low = divmod(total % formulas.PRIME, 1024)
            one, two, three = of_hashes[3 * number : 3 * number + 3, tree]
            hashed = (int(one) * low + int(two) * high + int(three)) % (
                formulas.PRIME
            )
            code = (code << bits) + (hashed >> 20 - bits)
        expected[place] = code
    found = backend.hash_codes(
        *(
            ops.convert_to_tensor(array, "int32")
            for array in (tokens, of_tokens, of_hashes)
        ),
        hashes,
    )
    assert keras.backend.standardize_dtype(found.dtype) == "int32"
    np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_gradient_changes_no_output(dtype):
    # PyTorch takes another way where a gradient is asked for.
    tables, _ = tables_of(8, dtype, False)
    x = random().normal(size=(5, 8)).astype("float32")
    codes = ops.convert_to_tensor(
        random().integers(0, LEAVES, (5, TREES)), "int32"
    )
    served = without_a_gradient(
        backend.folded_outputs, ops.convert_to_tensor(x), tables, codes
    )
    variable = keras.Variable(x)
    with_gradient = backend.folded_outputs(variable.value, tables, codes)
    np.testing.assert_allclose(
        ops.convert_to_numpy(served),
        ops.convert_to_numpy(with_gradient),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("inputs", [3, 8])
def test_one_example_in_a_graph(inputs, dtype, monkeypatch):
    # TensorFlow takes other ways for one example.
    tables, _ = tables_of(inputs, dtype, False)
    x = random().normal(size=(5, inputs)).astype("float32")
    codes = random().integers(0, LEAVES, (5, TREES)).astype("int32")
    expected = ops.convert_to_numpy(
        without_a_gradient(
            backend.folded_outputs,
            ops.convert_to_tensor(x),
            tables,
            ops.convert_to_tensor(codes),
        )
    )
    table = keras.Variable(tables.table, dtype=dtype, trainable=False)

    def outputs(x, codes):
        given = tables._replace(table=table.value)
        return backend.folded_outputs(x, given, codes)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        from keras_treegate.backend.tensorflow import folded

        monkeypatch.setattr(folded, "PART_SIZE", 2 * UNITS * 3)
        outputs = tf.function(outputs)
    for place in range(5):
        arrays = (x[place : place + 1], codes[place : place + 1])
        found = without_a_gradient(
            jit_on_jax(outputs), *map(ops.convert_to_tensor, arrays)
        )
        np.testing.assert_allclose(
            ops.convert_to_numpy(found),
            expected[place : place + 1],
            rtol=1e-5,
            atol=1e-5,
        )
