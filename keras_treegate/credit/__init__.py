"""Credit assignment: how the units that gate learn from what they decide.

A layer holds one of these objects and calls, in this order,

    route(gate, source, training, mask)  where each example goes, a `Route`;
                                         what a mask leaves out is not learned
    multiply(forest, x, route)           the product with the routes' kernels

and, for study, `kernels(forest, route)`. `foldable` says whether one kernel for
each leaf gives the same outputs; `check_foldable()` raises where it does not.
`trains_gates` says whether a gradient reaches what the gates are read from.
"""

from typing import Any

from keras_treegate.core import saving
from keras_treegate.credit.noisy_rectifier import (
    NoisyRectifier as NoisyRectifier,
)
from keras_treegate.credit.reinforce import Reinforce as Reinforce
from keras_treegate.credit.straight import Straight as Straight

__all__ = ["NoisyRectifier", "Reinforce", "Straight", "get"]


def get(
    identifier: Any, seed: int | None = None
) -> Straight | Reinforce | NoisyRectifier:
    """Returns a credit assignment from its name, its config or itself.

    Args:
        identifier: A name (`"straight"`, `"reinforce"` or
            `"noisy_rectifier"`), a credit assignment object, or the dictionary
            that `keras.saving.serialize_keras_object` makes of one.
        seed: Integer or `None`, the seed of one that is made from its name.
            Defaults to `None`.

    Returns:
        A credit assignment object.

    Raises:
        ValueError: For an unknown name or any other object.

    Example:

    >>> import keras_treegate
    >>> type(keras_treegate.credit.get("straight")).__name__
    'Straight'
    """
    if isinstance(identifier, str):
        if identifier == "straight":
            return Straight()
        if identifier == "reinforce":
            return Reinforce(seed=seed)
        if identifier == "noisy_rectifier":
            return NoisyRectifier(seed=seed)
    found = identifier
    if isinstance(identifier, dict):
        found = saving.deserialized(identifier)
    if not isinstance(found, Straight | Reinforce | NoisyRectifier):
        raise ValueError(
            "`credit` must be a credit assignment object or one of "
            "'straight', 'reinforce', 'noisy_rectifier'. Received: "
            f"credit={identifier!r}. Leave it out for 'straight'."
        )
    return found
