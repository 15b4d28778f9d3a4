"""The outputs of a folded layer in few operations.

For one example an eager operation costs more than what it computes. So these
are PyTorch's own, and as few as can be.
"""

import torch

from keras_treegate.backend.common import folded
from keras_treegate.backend.torch.paths import path_product
from keras_treegate.core.tree_shape import FoldedTables
from keras_treegate.types import Tensor

# The numbers of a part of a table that are cast at a time. So few stay in a
# cache between the cast and the product.
PART_SIZE = 2**18

# A gather and a product of so few numbers take less time than a bag.
SMALL = 2**16


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    if not _is_served(inputs):
        return folded.outputs(inputs, tables, codes, path_product)
    trees = tables.trees
    dtype = getattr(torch, tables.dtype)
    x = inputs.to(dtype).reshape(-1, trees.inputs)
    if tables.table.shape[0] == trees.num_trees:  # all leaves are equal
        positions = torch.arange(trees.num_trees, device=x.device)
        positions = positions.expand(len(x), -1)
    else:
        leaves = 2**trees.depth
        first = torch.arange(
            *(0, trees.num_trees * leaves, leaves),
            dtype=codes.dtype,
            device=codes.device,
        )
        positions = codes.reshape(-1, trees.num_trees) + first
        if tables.slots is not None:
            positions = tables.slots[positions]
    products = _products(x, tables, positions)
    if tables.bias is not None:
        products = products + tables.bias.to(dtype)
    return products.reshape(*inputs.shape[:-1], trees.units)


def _is_served(inputs: Tensor) -> bool:
    """Returns whether a plain tensor is computed with, and no gradient."""
    return (
        type(inputs) is torch.Tensor
        and not (inputs.requires_grad and torch.is_grad_enabled())
        and not inputs.is_meta
        and not torch.compiler.is_compiling()
    )


def _products(x: Tensor, tables: FoldedTables, positions: Tensor) -> Tensor:
    """Multiplies each of the inputs (B, P) with rows (B, G) of the table."""
    table = tables.table
    width, units = table.shape[1:]
    small = x.numel() * units <= SMALL
    if tables.scale is None and table.dtype == x.dtype and not small:
        rows = positions
        if width > 1:
            of_block = torch.arange(
                width, dtype=positions.dtype, device=positions.device
            )
            rows = torch.add(of_block, positions[:, :, None], alpha=width)
            rows = rows.reshape(len(x), -1)[:, : x.shape[1]].contiguous()
        return torch.nn.functional.embedding_bag(
            rows,
            table.reshape(-1, units),
            mode="sum",
            per_sample_weights=x,
        )
    padding = positions.shape[1] * width - x.shape[1]
    if padding:
        x = torch.nn.functional.pad(x, (0, padding))
    if small:
        return _gathered_products(x, positions, tables)
    examples = max(1, PART_SIZE // (width * units))
    trees = max(1, PART_SIZE // (width * units * min(examples, len(x))))
    products = []
    for of_part, ids in zip(
        x.split(examples), positions.split(examples), strict=True
    ):
        parts = zip(
            of_part.split(trees * width, 1), ids.split(trees, 1), strict=True
        )
        products.append(sum(_gathered_products(*p, tables) for p in parts))
    return torch.cat(products)


def _gathered_products(
    x: Tensor, positions: Tensor, tables: FoldedTables
) -> Tensor:
    """Multiplies inputs (b, g * W) with rows (b, g), gathered and cast."""
    ids = positions.reshape(-1)
    if tables.scale is not None:  # A scale of a row is a factor of its input.
        scale = tables.scale.index_select(0, ids)
        x = x * scale.reshape(x.shape).to(x.dtype)
    rows = tables.table.index_select(0, ids).to(x.dtype)
    kernels = rows.reshape(*x.shape, rows.shape[2])
    return torch.bmm(x[:, None], kernels)[:, 0]
