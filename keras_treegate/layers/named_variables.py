"""Variables of a layer in a file, by name.

And not as Keras does by number: which variables are trainable, and with it
their order, depends on the backend.
"""

from typing import Any


def save(store: Any, variables: list) -> None:
    """Writes variables of different names."""
    for variable in variables:
        store[variable.name] = variable


def load(store: Any, variables: list, optional: tuple, layer: str) -> None:
    """Reads what `save` wrote, into the variables of a layer of this name.

    Those whose names are `optional` are left as they are where the file has
    none, and passed over where the layer has none.
    """
    by_name = {variable.name: variable for variable in variables}
    saved = set(store.keys())
    if saved - set(optional) != set(by_name) - set(optional):
        raise ValueError(
            f"The saved variables of layer {layer!r} must be those it has, "
            f"{sorted(by_name)}. Received: {sorted(saved)}. Build the layer "
            "with the `depth`, `use_bias` and inputs that it was saved with."
        )
    for name in by_name.keys() & saved:
        by_name[name].assign(store[name])
