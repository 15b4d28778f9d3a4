"""Saving and loading: the registered name, and the variables of a layer.

The variables of a layer are loaded all together, or none of them. With
`load_weights(skip_mismatch=True)` Keras goes on where they do not fit, and a
layer that took half of them computes nonsense. So each layer looks at all that
the file has for it before it assigns anything. Where a layer is refused, its
parts, a gate and a credit, are left alone along with it.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

import keras
import numpy as np

from keras_treegate.types import Config, Store, Variable

# The name under which everything of this package is saved.
register = keras.saving.register_keras_serializable(package="keras_treegate")

# The name under which a layer stores the variables of its parts, as text. So a
# file that fits the layer and not its gate is refused before anything is
# assigned.
PARTS = "parts"


def deserialized(config: Config) -> object:
    """Returns the object of a config, or `None` if it describes none."""
    if "class_name" not in config or "config" not in config:
        return None
    return keras.saving.deserialize_keras_object(config)


def check(
    store: Store,
    variables: Mapping[str, Variable],
    optional: tuple[str, ...],
    owner: str,
) -> None:
    """Refuses stored variables that differ from those of their owner.

    Args:
        store: the store that Keras hands to `load_own_variables`.
        variables: the variables, by their names in the store.
        optional: names that either side may lack.
        owner: whose the variables are, for the message.
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


def assign(store: Store, variables: Mapping[str, Variable]) -> None:
    """Assigns stored variables that `check` has accepted, in their order.

    Processes that train together must assign in the same order.
    """
    stored = set(store.keys())
    for name, variable in variables.items():
        if name in stored:
            variable.assign(store[name])


def numbered(variables: list[Variable]) -> dict[str, Variable]:
    """Names variables by their numbers, as Keras does in files."""
    return {str(number): variable for number, variable in enumerate(variables)}


def check_optimizer(
    store: Store, optimizer: keras.optimizers.Optimizer
) -> None:
    """Refuses the stored variables of an optimizer if one does not fit.

    Where the store has more or fewer, Keras leaves all of them out, and warns.
    """
    variables = numbered(optimizer.variables)
    if set(store.keys()) == set(variables):
        check(store, variables, (), f"the optimizer {optimizer.name!r}")


class Refusal:
    """A notice to the parts of a layer that a file did not fit the whole.

    Keras makes one store for a file and hands it to one layer after the other,
    to the whole before its parts.
    """

    def __init__(self) -> None:
        self._store: weakref.ref[Store] | None = None
        self._reason = ""

    def of(self, store: Store, reason: str) -> None:
        """Notes why the whole refuses a store; an empty reason for none."""
        self._reason, self._store = reason, None
        # A dictionary cannot be told from another by a weak reference.
        if reason and not isinstance(store, dict):
            self._store = weakref.ref(store)

    def check(self, store: Store) -> None:
        """Raises where the whole has refused this store."""
        if self._store is not None and self._store() is store:
            raise ValueError(self._reason)


class Part(Protocol):
    """A gate or a credit assignment, as a layer that has it prepares it."""

    refusal: Refusal | None

    @property
    def name(self) -> str:
        """The name of the part."""


def load_part(
    part: Part,
    store: Store,
    variables: Mapping[str, Variable],
    assign: Callable[..., None] = assign,
) -> None:
    """Reads the variables of a part of a layer, if the whole took its own."""
    if part.refusal is not None:
        part.refusal.check(store)
    check(store, variables, (), f"the part {part.name!r} of a layer")
    assign(store, variables)


def save(
    store: Store,
    variables: Mapping[str, Variable],
    parts: Mapping[str, Mapping[str, Variable]],
) -> None:
    """Writes variables by their names, and a list of those of the parts."""
    for name, variable in variables.items():
        store[name] = variable
    store[PARTS] = np.frombuffer(_text(parts).encode(), dtype="uint8")


def load(
    store: Store,
    variables: Mapping[str, Variable],
    optional: tuple[str, ...],
    layer: keras.layers.Layer,
    parts: Mapping[str, Mapping[str, Variable]],
) -> None:
    """Reads into the variables of a layer, by their names in the store.

    Those whose names are `optional` are left as they are where the file has
    none, and passed over where the layer has none. Where anything does not fit,
    nothing is assigned, neither to the layer nor to its parts.
    """
    try:
        owner = f"layer {layer.name!r}"
        check(store, variables, (*optional, PARTS), owner)
        if PARTS in set(store.keys()):
            _check_parts(bytes(store[PARTS]).decode(), parts, owner)
    except ValueError as error:
        layer.refusal.of(store, str(error))
        raise
    layer.refusal.of(store, "")
    assign(store, variables)


def _text(parts: Mapping[str, Mapping[str, Variable]]) -> str:
    """Returns one line for each variable of each part: its name and shape."""
    return "\n".join(
        " ".join([f"{part}/{name}", *map(str, variable.shape)])
        for part, variables in parts.items()
        for name, variable in variables.items()
    )


def _check_parts(
    saved: str, parts: Mapping[str, Mapping[str, Variable]], owner: str
) -> None:
    # A file may have more lines, because it may hold the variables of a credit
    # that another credit has no use for.
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
