"""Layers whose weights each example chooses for itself."""

from keras_treegate.layers.folded_tree_dense import (
    FoldedTreeDense as FoldedTreeDense,
)
from keras_treegate.layers.sparse_embedding import (
    SparseEmbedding as SparseEmbedding,
)
from keras_treegate.layers.token_window import TokenWindow as TokenWindow
from keras_treegate.layers.tree_gated_dense import (
    TreeGatedDense as TreeGatedDense,
)
from keras_treegate.trees.explain import MultiplyAdds as MultiplyAdds

__all__ = [
    "FoldedTreeDense",
    "MultiplyAdds",
    "SparseEmbedding",
    "TokenWindow",
    "TreeGatedDense",
]
