"""Path products against NumPy, on fast paths and in `keras.ops` alone."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from keras_treegate.backend.common import reference
from tests import gradients
from tests.jit_on_jax import jit_on_jax


class PathProduct(keras.layers.Layer):
    """The product with sums that are trained."""

    def __init__(self, sums, positions):
        super().__init__()
        self.positions = positions
        self.sums = self.add_weight(
            shape=sums.shape, initializer=lambda *_, **__: sums
        )

    def call(self, inputs):
        positions = ops.convert_to_tensor(self.positions)
        return backend.path_product(inputs, self.sums.value, positions)


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    """Sets to 0 the size below which TensorFlow uses the reference eagerly."""
    paths = sys.modules.get("keras_treegate.backend.tensorflow.products")
    if paths is not None:
        monkeypatch.setattr(paths, "SMALL", 0)


# Batch, trees, width, units and positions of a tree.
SHAPES = {
    "one example": (1, 3, 2, 5, 4),
    "one tree": (6, 1, 11, 3, 8),
    "units of the paper": (5, 7, 1, 4, 2),
    "one position": (4, 2, 3, 6, 1),
    "more steps than one": (9, 5, 4, 3, 16),
    "one output": (3, 2, 9, 1, 4),
    "rows of parts": (5, 2, 3, 48, 4),
    "rows of many parts": (2, 2, 1, 544, 3),
}
each_shape = pytest.mark.parametrize("shape", SHAPES)


def example(shape, dtype="float32"):
    """Draws inputs (B, G, W), sums (R, W, Q), positions (G, B), dy (B, Q)."""
    batch, trees, width, units, positions = SHAPES[shape]
    random = np.random.default_rng(len(shape))
    x = random.normal(size=(batch, trees, width)).astype(dtype)
    sums = random.normal(size=(trees * positions, width, units)).astype(dtype)
    first = np.arange(trees)[:, None] * positions
    ids = random.integers(positions, size=(trees, batch)) + first
    dy = random.normal(size=(batch, units)).astype(dtype)
    return x, sums, ids.astype("int32"), dy


def expected(x, sums, positions, dy):
    """Computes the product and its gradients for inputs and sums by NumPy."""
    y = np.zeros(dy.shape)
    dx, dsums = np.zeros(x.shape), np.zeros(sums.shape)
    for b in range(len(x)):
        for g in range(x.shape[1]):
            row = positions[g, b]
            y[b] += x[b, g].astype(float) @ sums[row].astype(float)
            dx[b, g] = sums[row].astype(float) @ dy[b]
            dsums[row] += np.outer(x[b, g], dy[b])
    return y, dx, dsums


@each_shape
@pytest.mark.parametrize(
    "product",
    [reference.path_product, backend.path_product],
    ids=["reference", "fast"],
)
def test_a_product_equals_numpy(shape, product):
    x, sums, positions, dy = example(shape)
    y = jit_on_jax(product)(*map(ops.convert_to_tensor, (x, sums, positions)))
    want, _, _ = expected(x, sums, positions, dy)
    np.testing.assert_allclose(ops.convert_to_numpy(y), want, 1e-5, 1e-5)


@each_shape
def test_the_gradients_of_a_product_equal_numpy(shape):
    x, sums, positions, dy = example(shape)
    layer = PathProduct(sums, positions)
    layer.build(x.shape)
    (dx,), (dsums,) = gradients.of_layer(layer, dy, x)
    _, want_dx, want_dsums = expected(x, sums, positions, dy)
    np.testing.assert_allclose(dx, want_dx, 1e-5, 1e-5)
    np.testing.assert_allclose(dsums, want_dsums, 1e-5, 1e-5)


@each_shape
@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_table_of_another_dtype_is_cast(shape, dtype):
    x, sums, positions, dy = example(shape)
    if dtype == "int8":
        sums = np.round(sums * 20).astype("int8")
    else:
        sums = np.round(sums * 16) / 16  # exact in bfloat16
    table = ops.cast(ops.convert_to_tensor(sums.astype("float32")), dtype)
    tensors = ops.convert_to_tensor(x), table, ops.convert_to_tensor(positions)
    y = jit_on_jax(backend.path_product)(*tensors)
    want, _, _ = expected(x, sums, positions, dy)
    np.testing.assert_allclose(ops.convert_to_numpy(y), want, 1e-5, 1e-4)


def test_a_product_of_float64_is_as_precise_as_its_result():
    x, sums, positions, dy = example("one tree", "float64")
    tensors = [ops.convert_to_tensor(a) for a in (x, sums, positions)]
    y = ops.convert_to_numpy(jit_on_jax(backend.path_product)(*tensors))
    # JAX has float32 for it, unless it is told.
    tolerance = 500 * np.finfo(y.dtype).eps
    np.testing.assert_allclose(
        y, expected(x, sums, positions, dy)[0], tolerance
    )
