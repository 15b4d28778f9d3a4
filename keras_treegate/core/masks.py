"""Masks of examples and time steps, as Keras hands them to layers.

A mask is false where there is padding. What it leaves out is computed all the
same, but must not leave a trace: in no moving mean, no count and no entropy.
"""

from typing import Any

from keras import ops

from keras_treegate.core import checks


def covering(name: str, mask: Any, inputs: Any) -> Any:
    """Returns a mask as booleans (...) for each row of inputs (..., P).

    It may have fewer axes than the rows, as one of examples for time steps.
    """
    missing = checks.mask_axes(name, mask.shape, inputs.shape)
    mask = ops.cast(mask, "bool")
    for _ in range(missing):
        mask = ops.expand_dims(mask, -1)
    return ops.broadcast_to(mask, ops.shape(inputs)[:-1])


def combined(inputs: Any, **masks: Any) -> Any:
    """Returns what none of several named masks leaves out; `None` for all."""
    kept = None
    for name, mask in masks.items():
        if mask is not None:
            mask = covering(name, mask, inputs)
            kept = mask if kept is None else ops.logical_and(kept, mask)
    return kept
