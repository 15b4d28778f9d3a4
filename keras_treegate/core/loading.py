"""Loading the variables of a layer all together, or none of them.

With `load_weights(skip_mismatch=True)` Keras goes on where the variables of a
layer do not fit, and a layer that took half of them computes nonsense. So each
layer looks at all that the file has for it before it assigns anything, and what
it is made of, a gate and a credit, is left alone along with it.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def check(store: Any, variables: Mapping, optional: Any, owner: str) -> None:
    """Refuses stored variables that are not those there are.

    Args:
        store: what Keras hands to `load_own_variables`.
        variables: the variables, by their names in the store.
        optional: names that either side may lack.
        owner: what the variables are of, for the message.
    """
    saved, known = set(store.keys()), set(variables)
    if saved - set(optional) != known - set(optional):
        raise ValueError(
            f"The saved variables of {owner} must be those it has, "
            f"{sorted(known)}. Received: {sorted(saved)}. Build it with the "
            "arguments and inputs that it was saved with, or save it with "
            "`save_weights` and this version. Nothing of it was loaded."
        )
    for name in sorted(known & saved):
        shape, expected = np.shape(store[name]), tuple(variables[name].shape)
        if shape != expected:
            raise ValueError(
                f"The saved variable {variables[name].name!r} of {owner} must "
                f"have the shape {expected}. Received: shape={shape}. Build it "
                "with the arguments and inputs that it was saved with. Nothing "
                "of it was loaded."
            )


def assign(store: Any, variables: Mapping) -> None:
    """Assigns what `check` found to fit."""
    for name in variables.keys() & set(store.keys()):
        variables[name].assign(store[name])


def numbered(variables: list) -> dict[str, Any]:
    """Variables by the names that Keras gives them in files, their numbers."""
    return {str(number): variable for number, variable in enumerate(variables)}


class Refusal:
    """Tells the parts of a layer that a file did not fit the whole.

    Keras makes one store for a file and hands it to one layer after the other,
    to the whole before its parts.
    """

    def __init__(self) -> None:
        self._store: Callable = lambda: None
        self._reason = ""

    def of(self, store: Any, reason: str) -> None:
        """Notes why the whole refuses a store; an empty reason for none."""
        self._reason = reason
        self._store = lambda: None
        # A dictionary cannot be told from another by a weak reference.
        if reason and not isinstance(store, dict):
            self._store = weakref.ref(store)

    def check(self, store: Any) -> None:
        """Raises where the whole has refused this store."""
        if self._reason and self._store() is store:
            raise ValueError(self._reason)


def load_part(
    part: Any, store: Any, variables: Mapping, assign: Callable = assign
) -> None:
    """Reads the variables of a part of a layer, if the whole took its own."""
    if part.refusal is not None:
        part.refusal.check(store)
    check(store, variables, (), f"the part {part.name!r} of a layer")
    assign(store, variables)
