"""Path products under JAX: in blocks, for other platforms, and in memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from keras_treegate.backend.jax import products
from keras_treegate.layers import TreeGatedDense
from tests.backend.test_paths import each_shape, example, expected


@each_shape
@pytest.mark.parametrize("block", [1, 40, 2**25])
def test_blocks_of_any_size_give_the_same(shape, block):
    # A block is one example, some of them, or all trees and examples.
    x, sums, positions, dy = map(jnp.asarray, example(shape))
    blocks = jax.jit(partial(products.product_by_blocks, block=block))
    of_inputs = jax.jit(
        partial(products.gradient_of_inputs_by_blocks, block=block)
    )
    of_sums = jax.jit(
        partial(products.gradient_of_sums, num_positions=len(sums), block=block)
    )
    found = blocks(x, sums, positions), of_inputs(dy, sums, positions)
    found = (*found, of_sums(x, dy, positions))
    for got, want in zip(found, expected(*example(shape)), strict=True):
        np.testing.assert_allclose(got, want, 1e-5, 1e-5)


def gradients(x, sums, positions):
    return jax.grad(
        lambda x, sums: products.path_product(x, sums, positions).sum(), (0, 1)
    )(x, sums)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("function", [products.path_product, gradients])
def test_products_are_lowered_for_every_platform(function, platform):
    x, sums, positions, _ = map(jnp.asarray, example("more steps than one"))
    exported = jax.export.export(jax.jit(function), platforms=[platform])
    assert exported(x, sums, positions).platforms == (platform,)


def test_no_array_of_all_kernels_is_made():
    # (B, P, Q) would be 32 MB here, forward as backward.
    batch, trees, width, units, leaves = 512, 16, 8, 128, 4
    x = jax.ShapeDtypeStruct((batch, trees, width), "float32")
    sums = jax.ShapeDtypeStruct((trees * leaves, width, units), "float32")
    positions = jax.ShapeDtypeStruct((trees, batch), "int32")
    for function in (products.path_product, gradients):
        step = jax.jit(function).lower(x, sums, positions).compile()
        block = step.memory_analysis().temp_size_in_bytes
        assert block < batch * trees * width * units * 4 / 4


@pytest.mark.parametrize("depth", [2, 9])
def test_a_batch_of_symbolic_size_is_right(depth):
    # Keras traces with such a size where a layer tells no output shape.
    layer = TreeGatedDense(3, depth=depth, num_trees=2, seed=0)
    layer.build((None, 20))
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, 20), "float32")
    exported = jax.export.export(jax.jit(lambda x: layer(x)))(shape)
    x = np.random.default_rng(0).normal(size=(5, 20)).astype("float32")
    np.testing.assert_allclose(exported.call(x), layer(x), 1e-5, 1e-6)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_table_of_bfloat16_is_cast_by_the_row(batch):
    # XLA on CPU would cast the table, before the loop that gathers rows.
    trees, width, units, rows = 4, 16, 64, 256
    x = jnp.ones((batch, trees, width))
    table = jax.ShapeDtypeStruct((trees * rows, width, units), "bfloat16")
    positions = jnp.zeros((trees, batch), "int32")

    def gradient(x, table):
        return jax.grad(
            lambda x: products.path_product(x, table, positions).sum()
        )(x)

    for function in (
        lambda x, table: products.path_product(x, table, positions),
        gradient,
    ):
        compiled = jax.jit(function).lower(x, table).compile()
        memory = compiled.memory_analysis().temp_size_in_bytes
        assert memory < trees * rows * width * units  # half of the table
