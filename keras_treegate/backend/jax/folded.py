"""The outputs of a folded layer."""

from keras_treegate.backend.common import folded
from keras_treegate.backend.jax.products import path_product
from keras_treegate.core.tree_shape import FoldedTables
from keras_treegate.types import Tensor


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    return folded.outputs(inputs, tables, codes, path_product)
