"""Leaf codes, compiled by XLA."""

from keras_treegate.backend.tensorflow.compiling import compiled
from keras_treegate.backend.tensorflow.exporting import gather
from keras_treegate.core import codes as formulas
from keras_treegate.types import Tensor


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    return compiled(_sign_codes)(inputs, units, thresholds, shape)


def _sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    return formulas.sign_codes(inputs, units, thresholds, shape, gather)


def hash_codes(
    tokens: Tensor,
    token_multipliers: Tensor,
    hash_multipliers: Tensor,
    hashes: tuple[tuple[int, int], ...],
) -> Tensor:
    return compiled(formulas.hash_codes)(
        tokens, token_multipliers, hash_multipliers, hashes
    )
