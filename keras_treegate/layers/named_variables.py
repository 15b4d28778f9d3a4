"""Variables of a layer in a file, by name.

And not as Keras does by number: which variables are trainable depends on the
backend.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_treegate.core import loading

# What the parts of the layer store, as text: a file that fits the layer and not
# its gate is refused before anything is assigned.
PARTS = "parts"


def save(store: Any, variables: list, parts: Mapping) -> None:
    """Writes variables of different names, and which ones the parts have."""
    for variable in variables:
        store[variable.name] = variable
    store[PARTS] = np.frombuffer(_text(parts).encode(), dtype="uint8")


def load(
    store: Any, variables: Mapping, optional: tuple, layer: Any, parts: Mapping
) -> None:
    """Reads into the variables of a layer, by their names in the store.

    Those whose names are `optional` are left as they are where the file has
    none, and passed over where the layer has none. Where anything does not fit,
    nothing is assigned, to the parts of the layer neither.
    """
    try:
        owner = f"layer {layer.name!r}"
        loading.check(store, variables, (*optional, PARTS), owner)
        if PARTS in set(store.keys()):
            _check_parts(bytes(store[PARTS]).decode(), parts, owner)
    except ValueError as error:
        layer.refusal.of(store, str(error))
        raise
    layer.refusal.of(store, "")
    loading.assign(store, variables)


def _text(parts: Mapping) -> str:
    """One line for each variable of each part: its name and shape."""
    return "\n".join(
        " ".join([f"{part}/{name}", *map(str, variable.shape)])
        for part, variables in parts.items()
        for name, variable in variables.items()
    )


def _check_parts(saved: str, parts: Mapping, owner: str) -> None:
    # A file may have more: the credit is of no use to another credit.
    missing = set(_text(parts).splitlines()) - set(saved.splitlines())
    gate = [line for line in saved.splitlines() if line.startswith("gate/")]
    more = set(gate) - set(_text(parts).splitlines())
    if missing or more:
        raise ValueError(
            f"The gate and credit of {owner} must be those it was saved with. "
            f"Received: a file with {saved.splitlines()}, and a layer with "
            f"{_text(parts).splitlines()}. Make the layer with the `gate` and "
            "`credit` that it was saved with. Nothing of it was loaded."
        )
