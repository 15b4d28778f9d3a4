"""Leaf codes and the outputs of a folded layer."""

from keras_treegate.backend.common import folded
from keras_treegate.backend.jax.exporting import gather
from keras_treegate.backend.jax.paths import path_product
from keras_treegate.core import codes as formulas
from keras_treegate.core.codes import hash_codes as hash_codes
from keras_treegate.core.rows import FoldedTables
from keras_treegate.types import Tensor


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    return formulas.sign_codes(inputs, units, thresholds, shape, gather)


def folded_outputs(
    inputs: Tensor, tables: FoldedTables, codes: Tensor
) -> Tensor:
    return folded.outputs(inputs, tables, codes, path_product)
