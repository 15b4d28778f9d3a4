"""Credit assignment, by which gate units learn from what they decide."""

from keras_treegate.core import saving
from keras_treegate.credit.base import Credit as Credit
from keras_treegate.credit.base import Route as Route
from keras_treegate.credit.noisy_rectifier import (
    NoisyRectifier as NoisyRectifier,
)
from keras_treegate.credit.reinforce import Reinforce as Reinforce
from keras_treegate.credit.straight import Straight as Straight
from keras_treegate.types import Config

__all__ = [
    "Credit",
    "NoisyRectifier",
    "Reinforce",
    "Route",
    "Straight",
    "get",
]


def get(identifier: str | Credit | Config, seed: int | None = None) -> Credit:
    """Returns a credit assignment from its name, its config or itself.

    Args:
        identifier: A name (`"straight"`, `"reinforce"` or
            `"noisy_rectifier"`), a `Credit`, or the dictionary that
            `keras.saving.serialize_keras_object` makes of one.
        seed: Integer or `None`, the seed of one that is made from its name.
            Defaults to `None`.

    Returns:
        A `Credit`.

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
    found: object = identifier
    if isinstance(identifier, dict):
        found = saving.deserialized(identifier)
    if not isinstance(found, Credit):
        raise ValueError(
            "`credit` must be a `keras_treegate.credit.Credit` or one of "
            "'straight', 'reinforce', 'noisy_rectifier'. Received: "
            f"credit={identifier!r}. Leave it out for 'straight'."
        )
    return found
