"""The trees of one layer: nodes, level by level, and the paths in them."""

from typing import Any

from keras import ops

from keras_treegate import backend
from keras_treegate.tree import BatchRows, LevelRows, TreeShape, batch_rows
from keras_treegate.tree_level import TreeLevel


class Forest:
    """The trees of a layer.

    trees: their sizes.
    levels: one `TreeLevel` for each depth, 0..D.
    row_levels: which levels are read row by row, see `tree.batch_rows`.
    """

    def __init__(self, trees: TreeShape, levels: list[TreeLevel]) -> None:
        self.trees = trees
        self.levels = levels
        self.row_levels = "auto"

    @classmethod
    def of_layer(
        cls, layer: Any, trees: TreeShape, kernel: Any, nodes: Any
    ) -> "Forest":
        """Trees of new weights of a layer's own.

        Args:
            layer: the layer.
            trees: their sizes.
            kernel: initializer of the roots, drawn as a Dense kernel (P, Q).
            nodes: initializer of each deeper level.
        """

        def roots(shape: tuple, dtype: Any = None) -> Any:
            drawn = kernel((trees.inputs, trees.units), dtype=dtype)
            padding = shape[0] * shape[1] - trees.inputs
            return ops.reshape(ops.pad(drawn, ((0, padding), (0, 0))), shape)

        levels = [
            TreeLevel.of_layer(
                layer,
                level,
                trees.level_shape(level),
                nodes if level else roots,
            )
            for level in range(trees.depth + 1)
        ]
        return cls(trees, levels)

    def multiply(self, x: Any, codes: Any) -> Any:
        """Inputs (B, P), each times the kernel of its own paths: (B, Q).

        `codes` are the leaf codes (B, G). The result has the dtype of `x`.
        """
        if self.trees.depth == 0:
            kernel = self.trees.kernels(self.levels[0].read())
            return ops.matmul(x, ops.cast(kernel, x.dtype))
        rows = self._rows(codes)
        sums = ops.cast(backend.leaf_sums(self.levels, rows), x.dtype)
        return backend.path_product(self.trees.blocks(x), sums, rows.leaf_slots)

    def _rows(self, codes: Any) -> BatchRows:
        """The rows that the leaf codes (B, G) of a batch need."""
        return batch_rows(codes, self.trees.depth, self.row_levels)

    def kernels(self, codes: Any) -> Any:
        """The kernel (B, P, Q) of each example, of leaf codes (B, G)."""
        rows = self._rows(codes)
        sums = backend.leaf_sums(self.levels, rows)
        slots = ops.reshape(ops.transpose(rows.leaf_slots), (-1,))
        blocks = backend.take_slots(sums, slots)  # (B * G, W, Q)
        shape = (-1, self.trees.num_trees, *blocks.shape[1:])
        return self.trees.kernels(ops.reshape(blocks, shape))

    def leaf_table(self) -> Any:
        """The sum of every path from root to leaf (G, 2^D, W, Q)."""
        trees = self.trees
        whole = [LevelRows(None, None) for _ in self.levels]
        sums = backend.leaf_sums(self.levels, BatchRows(whole, None))
        return ops.reshape(
            sums, (trees.num_trees, -1, trees.width, trees.units)
        )

    def settle(self) -> None:
        """Pays the weight decay that idle rows owe into these rows."""
        for level in self.levels:
            level.settle()

    @property
    def variables(self) -> list:
        """The nodes, clock and stamps of each level."""
        return [
            variable
            for level in self.levels
            for variable in (level.nodes, level.clock, level.stamps)
        ]
