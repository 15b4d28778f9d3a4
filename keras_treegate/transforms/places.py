"""Where a layer keeps other layers: in attributes, lists and dictionaries."""

from collections.abc import Iterator
from typing import Any

import keras

# Keras's own lists of what the other attributes hold.
BOOKS = {"_layers", "_metrics", "_modules", "_tracker", "_torch_params"}


def is_graph(layer: Any) -> bool:
    """Whether `keras.models.clone_model` clones it layer by layer."""
    return isinstance(layer, keras.Sequential | keras.Function)


def places(layer: Any) -> list[tuple[tuple, Any]]:
    """The layers that are attributes of a layer, each with its place.

    A place is the name of the attribute, followed by keys of the lists and
    dictionaries in it.
    """
    found = []
    kind = type(layer)
    # Not `vars`, which misses the layers under PyTorch.
    for name in dir(layer):
        if name not in BOOKS and not hasattr(kind, name):
            value = getattr(layer, name, None)
            found += list(_layers_in(value, (name,)))
    return found


def _layers_in(value: Any, place: tuple) -> Iterator[tuple[tuple, Any]]:
    if isinstance(value, keras.Layer):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _layers_in(item, (*place, key))
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            if isinstance(item, keras.Layer | dict | list | tuple):
                yield from _layers_in(item, (*place, key))


def children(layer: Any) -> list:
    """The layers right inside of a model or layer."""
    if is_graph(layer):
        return list(layer.layers)
    return [child for _, child in places(layer)]


def descendants(layer: Any) -> list:
    """A layer and all layers inside of it, each once, the outer ones first."""
    found: dict[int, Any] = {}

    def visit(layer: Any) -> None:
        if id(layer) not in found:
            found[id(layer)] = layer
            for child in children(layer):
                visit(child)

    visit(layer)
    return list(found.values())


def at(layer: Any, place: tuple) -> Any:
    """What a layer has in a place, or `None`."""
    value: Any = getattr(layer, place[0], None)
    for key in place[1:]:
        try:
            value = value[key]
        except (IndexError, KeyError, TypeError):
            return None
    return value


def put(layer: Any, place: tuple, new: Any) -> None:
    """Puts a layer into a place of a layer, in the stead of the one there."""
    old = at(layer, place)
    tracker = layer._tracker
    was_locked = tracker.locked  # as a built layer is
    tracker.unlock()
    try:
        tracker.untrack(old)
        if len(place) == 1:
            delattr(layer, place[0])
            setattr(layer, place[0], new)
        else:
            tracker.track(new)
            at(layer, place[:-1])[place[-1]] = new
    finally:
        if was_locked:
            tracker.lock()
