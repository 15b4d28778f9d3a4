"""Leaf sums and path products under PyTorch, without an array (B, P, Q).

A path product is an `embedding_bag`: a bag of table rows for each example, with
its inputs for weights.
"""

import torch
from torch.autograd.function import FunctionCtx

from keras_treegate.backend.common import reference
from keras_treegate.backend.torch.lazy_gradient import LazyGradient
from keras_treegate.backend.torch.rows import owed_decay, read_table
from keras_treegate.core import decay
from keras_treegate.core.rows import BatchRows, TableVariables
from keras_treegate.types import Shape, Tensor, Variable

# The way a product is computed, and why.
PRODUCT = (
    "a bag of table rows for each example (`embedding_bag`), weighted by its "
    "inputs; in torch.compile a gather and an einsum, which it fuses"
)

# The numbers that a part of a product in another dtype holds.
PART_SIZE = 2**22


def leaf_sums(levels: list[TableVariables], rows: BatchRows) -> Tensor:
    tables = [level.values.value for level in levels]
    if tables[0].is_meta or torch.compiler.is_compiling():
        parts = map(read_table, levels, (needed.ids for needed in rows.levels))
        return reference.leaf_sums(list(parts), rows)
    states = [(level.clock, level.stamps) for level in levels]
    return _LeafSums.apply(rows, states, *tables)


class _LeafSums(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(
        rows: BatchRows,
        states: list[tuple[Variable, Variable]],
        *tables: Tensor,
    ) -> Tensor:
        sums = None
        for table, state, needed in zip(
            tables, states, rows.levels, strict=True
        ):
            owed = owed_decay(state[0], state[1], needed.ids)
            level = table.detach()
            if needed.ids is not None:
                level = level.index_select(0, needed.ids)
            # A row that owes nothing is kept to the last bit: exp(0) is 1.
            if not (owed.is_cpu and bool((owed == 1).all())):
                level = decay.decayed(level, owed)
            if needed.ids is None and sums is not None:
                below = level.view(len(sums), -1, *level.shape[1:])
                level = (below + sums[:, None]).view(level.shape)
                sums = None
            if needed.positions is not None:
                level = level.index_select(0, needed.positions)
            sums = level if sums is None else sums + level
        return sums

    @staticmethod
    def setup_context(
        ctx: FunctionCtx,
        inputs: tuple[BatchRows, *tuple[Tensor, ...]],
        output: Tensor,
    ) -> None:
        rows, _, *tables = inputs
        ctx.rows = rows
        ctx.shapes = [table.shape for table in tables]

    @staticmethod
    def backward(ctx: FunctionCtx, leaves: Tensor) -> tuple[Tensor | None, ...]:
        rows, gradients = ctx.rows, []
        below = leaves
        for shape, (ids, positions) in zip(
            ctx.shapes[::-1], rows.levels[::-1], strict=True
        ):
            if positions is not None:
                num_positions = shape[0] if ids is None else len(ids)
                below = leaves.new_zeros(num_positions, *shape[1:])
                below = below.index_add(0, positions, leaves)
            elif len(below) != shape[0] and ids is None:
                below = below.view(shape[0], -1, *shape[1:]).sum(1)
            gradient = below
            if ids is not None:
                gradient = _of_rows(shape, ids, below)
            gradients.append(gradient)
        return None, None, *gradients[::-1]


def _of_rows(shape: Shape, ids: Tensor, rows: Tensor) -> Tensor:
    if torch.is_grad_enabled():  # create_graph=True: needs a graph itself
        return rows.new_zeros(shape).index_add(0, ids, rows)
    return LazyGradient.of_rows(shape, ids.long(), rows)


def path_product(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    """Computes `reference.path_product`."""
    if inputs.is_meta or torch.compiler.is_compiling():
        return reference.path_product(inputs, sums, positions)
    if inputs.dtype == sums.dtype:
        return _PathProduct.apply(inputs, sums, positions)
    # Because bags are of one dtype, the reference computes this, a part at a
    # time, so that little is held in the larger dtype.
    trees = max(
        1, PART_SIZE // max(1, inputs[:, 0, :, None].numel() * sums.shape[2])
    )
    parts = zip(inputs.split(trees, 1), positions.split(trees), strict=True)
    return sum(reference.path_product(x, sums, ids) for x, ids in parts)


class _PathProduct(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
        return _bags(inputs, sums, positions)

    @staticmethod
    def setup_context(
        ctx: FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(
        ctx: FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, ...]:
        inputs, sums, positions = ctx.saved_tensors
        create_graph = torch.is_grad_enabled()
        # The bags have a first derivative only.
        product = reference.path_product if create_graph else _bags
        needed = ctx.needs_input_grad[:2]
        with torch.enable_grad():
            if not create_graph:
                inputs = inputs.detach().requires_grad_(needed[0])
                sums = sums.detach().requires_grad_(needed[1])
            outputs = product(inputs, sums, positions)
        values = [
            x
            for x, is_needed in zip((inputs, sums), needed, strict=True)
            if is_needed
        ]
        found = iter(
            torch.autograd.grad(
                outputs, values, gradient, create_graph=create_graph
            )
        )
        return (*(next(found) if x else None for x in needed), None)


def _bags(inputs: Tensor, sums: Tensor, positions: Tensor) -> Tensor:
    batch, trees, width = inputs.shape
    rows = torch.arange(width, device=positions.device, dtype=positions.dtype)
    ids = positions.T[:, :, None] * width + rows  # (B, G, W)
    return torch.nn.functional.embedding_bag(
        ids.reshape(batch, trees * width),
        sums.reshape(len(sums) * width, sums.shape[2]),
        mode="sum",
        per_sample_weights=inputs.reshape(batch, trees * width),
    )
