"""Leaf codes."""

from keras_treegate.backend.jax.exporting import gather
from keras_treegate.core import codes as formulas
from keras_treegate.core.codes import hash_codes as hash_codes
from keras_treegate.types import Tensor


def sign_codes(
    inputs: Tensor,
    units: Tensor,
    thresholds: Tensor | None,
    shape: tuple[int, int],
) -> Tensor:
    return formulas.sign_codes(inputs, units, thresholds, shape, gather)
