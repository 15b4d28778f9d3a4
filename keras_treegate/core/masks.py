"""Masks of examples and time steps, as Keras hands them to layers.

A mask is false where there is padding. The rows that it leaves out are computed
all the same, but must not show in any moving mean, count or entropy.
"""

from keras import ops

from keras_treegate.core import tensor_checks
from keras_treegate.types import Tensor


def covering(name: str, mask: Tensor, inputs: Tensor) -> Tensor:
    """Returns a mask as booleans (...) for each row of inputs (..., P).

    The mask may have fewer axes than the rows, e.g. one of examples where the
    rows are time steps.
    """
    missing = tensor_checks.mask_axes(name, mask.shape, inputs.shape)
    mask = ops.cast(mask, "bool")
    for _ in range(missing):
        mask = ops.expand_dims(mask, -1)
    return ops.broadcast_to(mask, ops.shape(inputs)[:-1])


def combined(inputs: Tensor, **masks: Tensor | None) -> Tensor | None:
    """Returns the mask of all that no named mask leaves out; `None` for all."""
    kept = None
    for name, mask in masks.items():
        if mask is not None:
            mask = covering(name, mask, inputs)
            kept = mask if kept is None else ops.logical_and(kept, mask)
    return kept
