"""The outputs of a folded layer in `keras.ops` and a path product."""

from collections.abc import Callable

from keras import ops

from keras_treegate.core.numerics import dequantize
from keras_treegate.core.rows import first_of_trees
from keras_treegate.core.tree_shape import FoldedTables
from keras_treegate.types import Tensor


def outputs(
    inputs: Tensor,
    tables: FoldedTables,
    codes: Tensor,
    path_product: Callable[[Tensor, Tensor, Tensor], Tensor],
    table: Tensor | None = None,
) -> Tensor:
    """Computes `folded_outputs` as `backend.contract` describes it.

    The product is given the `table`, if there is one, as it is.
    """
    x = ops.reshape(ops.cast(inputs, tables.dtype), (-1, tables.trees.inputs))
    if table is None or tables.table.shape[0] == tables.trees.num_trees:
        table = ops.convert_to_tensor(tables.table)
    products = _products(x, tables, codes, path_product, table)
    if tables.bias is not None:
        products = products + ops.cast(tables.bias, tables.dtype)
    axes = (-1,) if len(inputs.shape) == 2 else ops.shape(inputs)[:-1]
    return ops.reshape(products, (*axes, tables.trees.units))


def _products(
    x: Tensor,
    tables: FoldedTables,
    codes: Tensor,
    path_product: Callable[[Tensor, Tensor, Tensor], Tensor],
    table: Tensor,
) -> Tensor:
    """Multiplies each of the inputs (B, P) with its kernel: (B, Q)."""
    trees = tables.trees
    scale = tables.scale
    if scale is not None:
        scale = ops.convert_to_tensor(scale)
    if table.shape[0] == trees.num_trees:  # all leaves are equal
        blocks = dequantize(table, scale, x.dtype)
        return ops.matmul(x, trees.kernels(blocks))
    codes = ops.transpose(ops.reshape(codes, (-1, trees.num_trees)))
    positions = codes + first_of_trees(
        trees.num_trees, 2**trees.depth
    )  # (G, B)
    if tables.slots is not None:
        positions = ops.take(ops.convert_to_tensor(tables.slots), positions)
    x = trees.blocks(x)  # (B, G, W)
    if scale is not None:  # A scale of a row is a factor of its input.
        flat = ops.reshape(ops.transpose(positions), (-1,))
        scale = ops.reshape(ops.take(scale, flat, axis=0), ops.shape(x))
        x = x * ops.cast(scale, x.dtype)
    return path_product(x, table, positions)
