"""Layers whose weights each example chooses for itself."""

from keras_treegate.layers.folded_tree_dense import (
    FoldedTreeDense as FoldedTreeDense,
)
from keras_treegate.layers.multiply_adds import MultiplyAdds as MultiplyAdds
from keras_treegate.layers.tree_gated_dense import (
    TreeGatedDense as TreeGatedDense,
)

__all__ = ["FoldedTreeDense", "MultiplyAdds", "TreeGatedDense"]
