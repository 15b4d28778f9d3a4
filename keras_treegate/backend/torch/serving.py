"""Leaf codes and the outputs of a folded layer, in few operations.

For one example an eager operation costs more than what it computes. So these
are PyTorch's own, and as few as can be.
"""

import torch

from keras_treegate.backend.common import folded
from keras_treegate.backend.torch.exporting import gather, is_exporting
from keras_treegate.backend.torch.paths import path_product
from keras_treegate.core import codes as formulas
from keras_treegate.core.codes import HASH_BITS, PRIME, TOKEN_DIGITS
from keras_treegate.core.numerics import SMALLEST_NORMAL
from keras_treegate.core.rows import FoldedTables
from keras_treegate.types import Tensor

# The numbers of a part of a table that are cast at a time. So few stay in a
# cache between the cast and the product.
PART_SIZE = 2**18

# A gather and a product of so few numbers take less time than a bag.
SMALL = 2**16


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    if is_exporting():  # some runtimes shift no bits
        return formulas.sign_codes(inputs, units, thresholds, shape, gather)
    trees, depth = shape
    axes = inputs.shape[:-1]
    if not depth:
        return inputs.new_zeros((*axes, trees), dtype=torch.int32)
    if inputs.requires_grad:
        inputs = inputs.detach()
    source = inputs.index_select(-1, units.reshape(-1))
    if source.dtype not in (torch.float32, torch.float64):
        source = source.float()
    if thresholds is None:
        bits = source >= SMALLEST_NORMAL
    else:
        thresholds = thresholds.to(source.dtype).reshape(-1)
        bits = _without_subnormals(source) > _without_subnormals(thresholds)
    places = torch.arange(depth - 1, -1, -1, device=inputs.device)
    bits = bits.reshape(*axes, trees, depth)
    # PyTorch compiles no shift of booleans.
    return (bits.view(torch.uint8) << places).sum(-1, dtype=torch.int32)


def _without_subnormals(numbers: Tensor) -> Tensor:
    return numbers.masked_fill(numbers.abs() < SMALLEST_NORMAL, 0.0)


def hash_codes(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    trees = token_multipliers.shape[1]
    ages = token_multipliers.shape[0] // TOKEN_DIGITS
    newest = tokens[..., tokens.shape[-1] - ages :].to(torch.int64).flip(-1)
    shifts = torch.arange(0, 8 * TOKEN_DIGITS, 8, device=tokens.device)
    digits = (newest[..., None, None] >> shifts[:, None]) & 255
    multipliers = token_multipliers.reshape(ages, TOKEN_DIGITS, trees)
    of_tokens = (digits * multipliers).sum(-2) % PRIME  # (..., N, G)
    of_orders = of_tokens.cumsum(-2) % PRIME
    code = None
    for number, (order, bits) in enumerate(hashes):
        one, two, constant = hash_multipliers[
            3 * number : 3 * number + 3
        ].unbind()
        combined = of_orders[..., order - 1, :]
        hashed = one * (combined & 1023) + two * (combined >> 10) + constant
        hashed = hashed % PRIME >> HASH_BITS - bits
        code = hashed if code is None else (code << bits) + hashed
    if code is None:
        return tokens.new_zeros((*tokens.shape[:-1], trees), dtype=torch.int32)
    return code.to(torch.int32)


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    if not _is_served(inputs):
        return folded.outputs(inputs, tables, codes, path_product)
    trees = tables.trees
    dtype = getattr(torch, tables.dtype)
    x = inputs.to(dtype).reshape(-1, trees.inputs)
    if tables.table.shape[0] == trees.num_trees:  # all leaves are equal
        slots = torch.arange(trees.num_trees, device=x.device)
        slots = slots.expand(len(x), -1)
    else:
        leaves = 2**trees.depth
        first = torch.arange(
            *(0, trees.num_trees * leaves, leaves),
            dtype=codes.dtype,
            device=codes.device,
        )
        slots = codes.reshape(-1, trees.num_trees) + first
        if tables.slots is not None:
            slots = tables.slots[slots]
    products = _products(x, tables, slots)
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


def _products(x: Tensor, tables: FoldedTables, slots: Tensor) -> Tensor:
    """Multiplies each of the inputs (B, P) with rows (B, G) of the table."""
    table = tables.table
    width, units = table.shape[1:]
    small = x.numel() * units <= SMALL
    if tables.scale is None and table.dtype == x.dtype and not small:
        rows = slots
        if width > 1:
            of_block = torch.arange(
                width, dtype=slots.dtype, device=slots.device
            )
            rows = torch.add(of_block, slots[:, :, None], alpha=width)
            rows = rows.reshape(len(x), -1)[:, : x.shape[1]].contiguous()
        return torch.nn.functional.embedding_bag(
            rows,
            table.reshape(-1, units),
            mode="sum",
            per_sample_weights=x,
        )
    padding = slots.shape[1] * width - x.shape[1]
    if padding:
        x = torch.nn.functional.pad(x, (0, padding))
    if small:
        return _gathered_products(x, slots, tables)
    examples = max(1, PART_SIZE // (width * units))
    trees = max(1, PART_SIZE // (width * units * min(examples, len(x))))
    products = []
    for of_part, ids in zip(
        x.split(examples), slots.split(examples), strict=True
    ):
        parts = zip(
            of_part.split(trees * width, 1), ids.split(trees, 1), strict=True
        )
        products.append(sum(_gathered_products(*p, tables) for p in parts))
    return torch.cat(products)


def _gathered_products(
    x: Tensor, slots: Tensor, tables: FoldedTables
) -> Tensor:
    """Multiplies inputs (b, g * W) with rows (b, g), gathered and cast."""
    ids = slots.reshape(-1)
    if tables.scale is not None:  # A scale of a row is a factor of its input.
        scale = tables.scale.index_select(0, ids)
        x = x * scale.reshape(x.shape).to(x.dtype)
    rows = tables.table.index_select(0, ids).to(x.dtype)
    kernels = rows.reshape(*x.shape, rows.shape[2])
    return torch.bmm(x[:, None], kernels)[:, 0]
