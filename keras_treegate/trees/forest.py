"""The trees of one layer: nodes, level by level, and the paths in them."""

from collections.abc import Callable

import keras
from keras import ops

from keras_treegate import backend
from keras_treegate.core import decay
from keras_treegate.core.rows import (
    BatchRows,
    LevelRows,
    TableVariables,
    count_whole_levels,
    first_of_trees,
    in_order,
    rows_of_sorted,
)
from keras_treegate.core.tree_shape import TreeShape
from keras_treegate.tables.layout_errors import naming_layout_errors
from keras_treegate.trees import exported
from keras_treegate.trees.level import TreeLevel
from keras_treegate.types import Tensor, Variable


class Forest:
    """The trees of a layer.

    trees: their sizes.
    levels: one `TreeLevel` for each depth that stores nodes, `trees.levels`.
    row_levels: which levels are read row by row, see `batch_rows`.
    """

    def __init__(self, trees: TreeShape, levels: list[TreeLevel]) -> None:
        self.trees = trees
        self.levels = levels
        self.row_levels = "auto"

    @staticmethod
    def add_nodes(
        layer: keras.layers.Layer,
        trees: TreeShape,
        kernel: Callable[..., Tensor],
        nodes: Callable[..., Tensor],
    ) -> list[Variable]:
        """Makes the nodes of each level that is stored, as weights of a layer.

        Args:
            layer: the layer.
            trees: their sizes.
            kernel: initializer of the roots, drawn as a Dense kernel (P, Q).
            nodes: initializer of each deeper level.
        """

        def roots(shape: tuple[int, ...], dtype: str | None = None) -> Tensor:
            drawn = kernel((trees.inputs, trees.units), dtype=dtype)
            padding = shape[0] * shape[1] - trees.inputs
            return ops.reshape(ops.pad(drawn, ((0, padding), (0, 0))), shape)

        def weight(level: int) -> Variable:
            name, shape = f"nodes_{level}", trees.level_shape(level)
            with naming_layout_errors(f"{layer.name}/{name}", shape):
                return layer.add_weight(
                    name=name,
                    shape=shape,
                    initializer=nodes if level else roots,
                    autocast=False,
                )

        return list(map(weight, trees.levels))

    @classmethod
    def of_layer(
        cls, layer: keras.layers.Layer, trees: TreeShape, nodes: list[Variable]
    ) -> "Forest":
        """Makes the trees of a layer's nodes, with the state of their decay."""
        levels = [
            TreeLevel.of_layer(layer, variable, f"_{level}")
            for level, variable in zip(trees.levels, nodes, strict=True)
        ]
        return cls(trees, levels)

    def multiply(
        self, x: Tensor, codes: Tensor, scales: Tensor | None = None
    ) -> Tensor:
        """Multiplies inputs (B, P), each with the kernel of its own paths.

            y[b] = sum over g of x[b, g] @ (sum over the levels l of
                scales[b, g, l] * T[g, n(b, g, l)]),  scales[b, g, 0] = 1

        Args:
            x: (B, P).
            codes: the leaf codes (..., G).
            scales: those of the levels 1..D, (..., G, D); `None` for ones.

        Returns:
            (B, Q), of the dtype of `x`.
        """
        codes = self._flat(codes)
        if backend.is_exporting() and self.trees.depth:
            return self._multiply_plainly(x, codes, scales)
        if scales is not None:
            return self._multiply_scaled(x, codes, scales)
        if self.trees.depth == 0:
            kernel = self.trees.kernels(self.levels[0].read())
            return ops.matmul(x, ops.cast(kernel, x.dtype))
        if x.shape[0] == 0:
            return self.multiply(*one_example(x, codes))[:0]
        rows = self._rows(codes)
        sums = ops.cast(backend.leaf_sums(self.tables, rows), x.dtype)
        return backend.path_product(
            self.trees.blocks(x), sums, rows.leaf_positions
        )

    def _multiply_plainly(
        self, x: Tensor, codes: Tensor, scales: Tensor | None
    ) -> Tensor:
        """Computes the product in operations that any file can hold."""
        parts = []
        for level, depth in zip(self.levels, self.trees.levels, strict=True):
            below = 2 ** (self.trees.depth - depth)
            ids = exported.rows_of(codes, self.trees.num_trees, below, 2**depth)
            stamps = backend.gather(level.stamps.value, ids, 0)  # (B, G, 2)
            factors = decay.owed(level.clock.value, stamps)[..., None]
            if scales is not None and depth:
                scale = self._flat(scales[..., depth - 1])
                factors = factors * ops.cast(scale, factors.dtype)[..., None]
            parts.append(exported.PathRows(level.nodes.value, ids, factors))
        return exported.multiply(self.trees, x, parts)

    def _rows(self, codes: Tensor) -> BatchRows:
        """Finds the rows that the leaf codes (B, G) of a batch need."""
        return batch_rows(codes, self.trees.levels, self.row_levels)

    def _multiply_scaled(
        self, x: Tensor, codes: Tensor, scales: Tensor
    ) -> Tensor:
        if x.shape[0] == 0:
            scales = ops.reshape(scales, (0, *scales.shape[-2:]))
            return self._multiply_scaled(*one_example(x, codes, scales))[:0]
        rows, positions = self._rows_by_level(codes)
        blocks = self.trees.blocks(x)
        roots = ops.cast(self.trees.kernels(rows[0]), x.dtype)
        outputs = ops.matmul(x, roots)
        for number, depth in enumerate(self.trees.levels[1:], 1):
            scale = ops.cast(self._flat(scales[..., depth - 1]), x.dtype)
            outputs = outputs + backend.path_product(
                blocks * scale[..., None],
                ops.cast(rows[number], x.dtype),
                positions[number],
            )
        return outputs

    def _kernels_scaled(self, codes: Tensor, scales: Tensor) -> Tensor:
        if codes.shape[0] == 0:
            scales = ops.reshape(scales, (0, *scales.shape[-2:]))
            return self._kernels_scaled(*one_example(codes, scales))[:0]
        rows, positions = self._rows_by_level(codes)
        shape = (-1, self.trees.num_trees, *rows[0].shape[1:])
        total: Tensor = 0
        for depth, of_level, of_examples in zip(
            self.trees.levels, rows, positions, strict=True
        ):
            flat = ops.reshape(ops.transpose(of_examples), (-1,))
            blocks = ops.reshape(
                backend.rows_at_positions(of_level, flat), shape
            )
            if depth:
                scale = ops.cast(
                    self._flat(scales[..., depth - 1]), blocks.dtype
                )
                blocks = blocks * scale[..., None, None]
            total = total + blocks
        return self.trees.kernels(total)

    def _rows_by_level(
        self, codes: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the rows of a batch, and the positions of examples, by level.

        Rows are (G * U_l, W, Q), positions (G, B) and counted over all trees.
        """
        rows = self._rows(codes)
        read = [
            level.read(needed.ids)
            for level, needed in zip(self.levels, rows.levels, strict=True)
        ]
        return read, rows.example_positions(self.trees.levels)

    def _flat(self, tensor: Tensor) -> Tensor:
        """Returns a tensor (..., G) with its leading axes as one (B, G)."""
        return ops.reshape(tensor, (-1, self.trees.num_trees))

    def kernels(self, codes: Tensor, scales: Tensor | None = None) -> Tensor:
        """Returns the kernel (B, P, Q) that `multiply` uses, by example."""
        codes = self._flat(codes)
        if scales is not None:
            return self._kernels_scaled(codes, scales)
        if codes.shape[0] == 0:
            return self.kernels(*one_example(codes))[:0]
        rows = self._rows(codes)
        sums = backend.leaf_sums(self.tables, rows)
        positions = ops.reshape(ops.transpose(rows.leaf_positions), (-1,))
        blocks = backend.rows_at_positions(sums, positions)  # (B * G, W, Q)
        shape = (-1, self.trees.num_trees, *blocks.shape[1:])
        return self.trees.kernels(ops.reshape(blocks, shape))

    def leaf_table(self) -> Tensor:
        """Returns the sum of every path from root to leaf (G, 2^D, W, Q)."""
        trees = self.trees
        whole = [LevelRows(None, None) for _ in self.levels]
        sums = backend.leaf_sums(self.tables, BatchRows(whole, None))
        return ops.reshape(
            sums, (trees.num_trees, -1, trees.width, trees.units)
        )

    def settle(self) -> None:
        """Pays the weight decay that idle rows owe into these rows."""
        for level in self.levels:
            level.settle()

    @property
    def tables(self) -> list[TableVariables]:
        """The variables of the levels, as a backend takes them."""
        return [level.variables for level in self.levels]

    @property
    def variables(self) -> list[Variable]:
        """The nodes, clock and stamps of each level."""
        return [
            variable
            for level in self.levels
            for variable in (level.nodes, level.clock, level.stamps)
        ]


def batch_rows(
    codes: Tensor,
    depths: tuple[int, ...],
    row_levels: str = "auto",
) -> BatchRows:
    """Finds the distinct rows of each level that the leaf codes (B, G) need.

    The levels are of these depths, the last of which is that of the leaves.

    Shapes depend on the batch size alone: a compact level has `U = min(B, 2^l)`
    positions for each tree. Those that no example needs hold other rows of the
    tree, so that the ids are distinct and in bounds by construction; no example
    has them for its leaf.

    One compiled function does all that follows the sort.
    """
    num_trees = codes.shape[1]
    batch = ops.shape(codes)[0]
    static_batch = batch if isinstance(batch, int) else None
    if static_batch is None and not ops.is_tensor(batch):
        row_levels = "none"  # because no number of rows can be a symbol
    num_whole = count_whole_levels(depths, static_batch, row_levels)
    leaves = 2 ** depths[-1]
    keys = ops.transpose(codes) + first_of_trees(num_trees, leaves)  # (G, B)
    if num_whole == len(depths):
        return BatchRows([LevelRows(None, None)] * num_whole, keys)
    ordered = in_order(keys, num_trees * leaves, static_batch)
    return backend.compiled(rows_of_sorted)(ordered, depths, num_whole)


def one_example(*empty: Tensor) -> list[Tensor]:
    """Returns tensors of no example as tensors of one example of zeros.

    An empty batch is computed as a batch of one example whose output is cut off
    again, because frameworks refuse many operations on tables of no rows. The
    rows of that example get a gradient of zeros.
    """
    # Joined with the empty tensors, so that these have a gradient too.
    return [
        ops.concatenate([part, ops.zeros((1, *part.shape[1:]), part.dtype)])
        for part in empty
    ]
