"""The outputs of a folded layer in few operations.

For one example an eager operation costs more than what it computes. So these
are PyTorch's own, and as few as can be.
"""

from typing import cast

import torch

from keras_treegate.backend.common import folded
from keras_treegate.backend.torch.paths import path_product
from keras_treegate.core.tree_shape import FoldedTables
from keras_treegate.types import Tensor

# The numbers of a part of a table that are cast at a time. So few stay in a
# cache between the cast and the product.
PART_SIZE = 2**18

# A gather and a product of so few numbers take less time than a bag.
SMALL = 2**15

# Rows of so many numbers are read where they lie, with a product for each. That
# takes less time than a gather. It takes less than a bag for one example alone,
# because a bag shares out more of them among the threads.
LARGE_ROW = 2**16


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    if not _is_served(inputs, tables):
        return folded.outputs(inputs, tables, codes, path_product)
    trees = tables.trees
    dtype = getattr(torch, tables.dtype)
    x = inputs.to(dtype).reshape(-1, trees.inputs)
    if tables.table.shape[0] == trees.num_trees:  # all leaves are equal
        positions = torch.arange(trees.num_trees, device=x.device)
        positions = positions.expand(x.shape[0], -1)
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


def _is_served(inputs: Tensor, tables: FoldedTables) -> bool:
    """Returns whether a plain tensor is computed with, and no gradient.

    A cast in parts would be as many operations for a compiler, and those of the
    reference are few.
    """
    is_cast = str(tables.table.dtype) != f"torch.{tables.dtype}"
    if is_cast and torch.compiler.is_compiling():
        return False
    return (
        type(inputs) is torch.Tensor
        and not (inputs.requires_grad and torch.is_grad_enabled())
        and not inputs.is_meta
    )


def _products(x: Tensor, tables: FoldedTables, positions: Tensor) -> Tensor:
    """Multiplies each of the inputs (B, P) with rows (B, G) of the table."""
    table = tables.table
    width, units = table.shape[1:]
    small = x.numel() * units <= SMALL
    same = tables.scale is None and table.dtype == x.dtype
    # A sum of float16 would be rounded after each tree.
    wide = x.dtype in (torch.float32, torch.float64)
    in_place = wide and not small and (x.shape[0] == 1 or not same)
    if width * units >= LARGE_ROW and in_place:
        numbers = _numbers(positions)
        if numbers is not None:
            x = _scaled(x, positions, tables.scale)
            return _products_in_place(x, numbers, table)
    if same and not small:
        rows = positions
        if width > 1:
            of_block = torch.arange(
                width, dtype=positions.dtype, device=positions.device
            )
            rows = torch.add(of_block, positions[:, :, None], alpha=width)
            rows = rows.reshape(x.shape[0], -1)[:, : x.shape[1]].contiguous()
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
    trees = max(1, PART_SIZE // (width * units * min(examples, x.shape[0])))
    products = []
    for of_part, ids in zip(
        x.split(examples), positions.split(examples), strict=True
    ):
        parts = zip(
            of_part.split(trees * width, 1), ids.split(trees, 1), strict=True
        )
        products.append(sum(_gathered_products(*p, tables) for p in parts))
    return torch.cat(products)


def _numbers(positions: Tensor) -> list[list[int]] | None:
    """Returns numbers on the CPU, or `None` if they cannot be had.

    A trace or a compiler would keep them for all inputs, and
    `torch.func.vmap` hides them.
    """
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if traced or positions.device.type != "cpu":
        return None
    try:
        return cast(list[list[int]], positions.tolist())
    except RuntimeError:
        return None


def _products_in_place(
    x: Tensor, numbers: list[list[int]], table: Tensor
) -> Tensor:
    """Multiplies inputs (B, P) with rows (B, G), of which none is gathered."""
    width, units = table.shape[1:]
    kernel = torch.empty((width, units), dtype=x.dtype)  # stays in a cache
    products = torch.zeros((x.shape[0], units), dtype=x.dtype)
    for example, rows in enumerate(numbers):
        product = products[example, None]
        blocks = x[example, None].split(width, 1)
        for number, block in zip(rows, blocks, strict=False):  # or padding
            row = table[number]
            if row.dtype != x.dtype:
                row = kernel.copy_(row)
            product.addmm_(block, row[: block.shape[1]])
    return products


def _gathered_products(
    x: Tensor, positions: Tensor, tables: FoldedTables
) -> Tensor:
    """Multiplies inputs (b, g * W) with rows (b, g), gathered and cast."""
    x = _scaled(x, positions, tables.scale)
    rows = tables.table.index_select(0, positions.reshape(-1)).to(x.dtype)
    kernels = rows.reshape(*x.shape, rows.shape[2])
    return torch.bmm(x[:, None], kernels)[:, 0]


def _scaled(x: Tensor, positions: Tensor, scale: Tensor | None) -> Tensor:
    """Multiplies inputs (b, P) with the scales of their rows (b, G), if any."""
    if scale is None:
        return x
    factors = scale.index_select(0, positions.reshape(-1))
    columns = positions.shape[1] * scale.shape[1]
    factors = factors.reshape(x.shape[0], columns)[:, : x.shape[1]]
    return x * factors.to(x.dtype)
