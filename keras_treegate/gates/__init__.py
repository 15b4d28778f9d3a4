"""Gates, which decide the path of an example through each tree."""

from keras_treegate.core import saving
from keras_treegate.core.rows import codes_from_bits as codes_from_bits
from keras_treegate.gates.base import Gate as Gate
from keras_treegate.gates.hash_gate import HashGate as HashGate
from keras_treegate.gates.sign_gate import SignGate as SignGate
from keras_treegate.types import Config

__all__ = ["Gate", "HashGate", "SignGate", "codes_from_bits", "get"]


def get(identifier: Gate | Config | None, seed: int | None = None) -> Gate:
    """Returns a gate: one as it is, one from its config, or a default one.

    Args:
        identifier: `None` for `SignGate(seed=seed)`, a `Gate`, or the
            dictionary that `keras.saving.serialize_keras_object` makes of one.
        seed: Integer or `None`, the seed of the default gate. Defaults to
            `None`.

    Returns:
        A `Gate`.

    Raises:
        ValueError: For anything else.

    Example:

    >>> import keras_treegate
    >>> keras_treegate.gates.get(None, seed=1).threshold
    'zero'
    """
    if identifier is None:
        return SignGate(seed=seed)
    found: object = identifier
    if isinstance(identifier, dict):
        found = saving.deserialized(identifier)
    if not isinstance(found, Gate):
        raise ValueError(
            "`gate` must be `None`, a `keras_treegate.gates.Gate`, such as a "
            "`SignGate` or a `HashGate`, or its config. Received: "
            f"gate={identifier!r}. Gates have no names as strings: write e.g. "
            "`gate=keras_treegate.gates.HashGate(orders=2)`."
        )
    return found
