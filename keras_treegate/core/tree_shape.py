"""The sizes of the trees of a layer, and the tables of a folded one.

`core.rows` has the alphabet of shapes.
"""

from typing import NamedTuple

from keras import ops

from keras_treegate.types import Tensor

# The most trees that `num_trees="auto"` makes: more of them help no further.
AUTO_NUM_TREES = 64


class TreeShape(NamedTuple):
    """The sizes of a layer's trees.

    levels: the depths that store nodes, ascending, from 0 to `depth`.
    """

    num_trees: int
    inputs: int
    depth: int
    units: int
    levels: tuple[int, ...]

    @classmethod
    def of(
        cls,
        num_trees: int | str | None,
        inputs: int,
        depth: int,
        units: int,
        levels: tuple[int, ...],
    ) -> "TreeShape":
        """Returns the trees of a layer, given its `num_trees` argument."""
        if num_trees is None:
            num_trees = inputs
        elif isinstance(num_trees, str):  # "auto"
            num_trees = min(AUTO_NUM_TREES, inputs)
        if num_trees > inputs:
            raise ValueError(
                "`num_trees` must be at most the number of input units, "
                f"{inputs}. Received: num_trees={num_trees}. Lower it, or use "
                "`num_trees=None` for one tree for each input unit."
            )
        return cls(num_trees, inputs, depth, units, levels)

    @property
    def width(self) -> int:
        """The input units of a block; the last block is padded to it."""
        return -(-self.inputs // self.num_trees)

    def level_shape(self, level: int) -> tuple[int, int, int]:
        return (self.num_trees * 2**level, self.width, self.units)

    @property
    def stored(self) -> int:
        """Numbers stored in all nodes, the padding of the last block too."""
        rows = self.num_trees * sum(2**level for level in self.levels)
        return rows * self.width * self.units

    def padded(self, x: Tensor) -> Tensor:
        """Adds to inputs (B, P) what the last block lacks: (B, G * W)."""
        padding = self.num_trees * self.width - self.inputs
        # Avoids `ops.pad`, with which torch.compile starts anew in each call.
        if padding:
            x = ops.concatenate([x, ops.zeros_like(x[:, :padding])], axis=1)
        return x

    def blocks(self, x: Tensor) -> Tensor:
        """Cuts inputs (B, P) into the blocks of the trees (B, G, W)."""
        return ops.reshape(self.padded(x), (-1, self.num_trees, self.width))

    def kernels(self, blocks: Tensor) -> Tensor:
        """Puts blocks (..., G, W, Q) together to kernels (..., P, Q)."""
        leading = ops.shape(blocks)[:-3]
        rows = self.num_trees * self.width
        kernels = ops.reshape(blocks, (*leading, rows, self.units))
        return kernels[..., : self.inputs, :]


class FoldedTables(NamedTuple):
    """The variables of a folded layer, as a backend takes them.

    table: (G * U, W, Q), of any dtype, the U stored leaves of each tree.
    scale: (G * U, W), what the rows of the table are multiplied by, or `None`.
    slots: (G * L,), the row of each leaf; `None` where every leaf has its own.
    bias: (Q,), or `None`.
    trees: their sizes.
    dtype: that of the product and the outputs.
    """

    table: Tensor
    scale: Tensor | None
    slots: Tensor | None
    bias: Tensor | None
    trees: TreeShape
    dtype: str
