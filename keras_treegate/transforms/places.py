"""The places of layers in a layer: attributes, lists and dictionaries."""

import functools
from collections.abc import Iterator
from typing import Any

import keras


def is_graph(layer: keras.Operation) -> bool:
    """Returns whether a layer is a model of layers that call one another."""
    return isinstance(layer, keras.Sequential | keras.Function)


def is_plain_graph(layer: keras.Operation) -> bool:
    """Returns whether a layer is such a model, and its class is of Keras."""
    return type(layer) in _plain_models()


def plain_class(model: keras.Model) -> type[keras.Model]:
    """Returns the class of Keras that the class of a model of layers is of."""
    return next(kind for kind in type(model).__mro__ if kind in _plain_models())


def places(
    layer: keras.layers.Layer,
) -> list[tuple[tuple[Any, ...], keras.layers.Layer]]:
    """Finds the layers in the attributes of a layer, each with its place.

    A place is the name of the attribute, followed by keys of the lists and
    dictionaries in it.
    """
    return [
        found
        for name in own_attributes(layer)
        for found in _layers_in(getattr(layer, name, None), (name,))
    ]


def own_attributes(layer: keras.layers.Layer) -> list[str]:
    """Returns the attributes that neither Keras nor its class gave a layer."""
    kind = type(layer)
    # `vars` misses the layers under PyTorch.
    return [
        name
        for name in dir(layer)
        if name not in _attributes_of_keras() and not hasattr(kind, name)
    ]


@functools.cache
def _plain_models() -> dict[type, keras.Model]:
    """Makes a small model of each kind of Keras, by its class."""
    # Avoids names given by Keras, which would count these models.
    name = "keras_treegate_plain"
    inputs = keras.Input((1,), name=name)
    layer = keras.layers.Identity(name=f"{name}_layer")
    functional = keras.Model(inputs, layer(inputs), name=name)
    sequential = keras.Sequential([inputs, layer], name=name)
    return {type(functional): functional, type(sequential): sequential}


@functools.cache
def _attributes_of_keras() -> frozenset[str]:
    """Returns the attributes that Keras itself gives layers and models."""
    models = list(_plain_models().values())
    return frozenset(
        name for each in (*models, models[0].layers[-1]) for name in dir(each)
    )


def _layers_in(
    value: Any, place: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], keras.layers.Layer]]:
    if isinstance(value, keras.Layer):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _layers_in(item, (*place, key))
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            if isinstance(item, keras.Layer | dict | list | tuple):
                yield from _layers_in(item, (*place, key))


def children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers directly inside of a model or layer."""
    found = list(layer.layers) if is_graph(layer) else []
    if not is_plain_graph(layer):
        found += [child for _, child in places(layer)]
    return found


def descendants(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer and all layers inside of it, each once, outer first."""
    found: dict[int, keras.layers.Layer] = {}

    def visit(layer: keras.layers.Layer) -> None:
        if id(layer) not in found:
            found[id(layer)] = layer
            for child in children(layer):
                visit(child)

    visit(layer)
    return list(found.values())


def at(layer: keras.layers.Layer, place: tuple[Any, ...]) -> Any:
    """Returns the content of a place of a layer, or `None`."""
    value: Any = getattr(layer, place[0], None)
    for key in place[1:]:
        try:
            value = value[key]
        except (IndexError, KeyError, TypeError):
            return None
    return value


def put(
    layer: keras.layers.Layer,
    place: tuple[Any, ...],
    new: Any,
) -> None:
    """Replaces the layer in a place of a layer."""
    old = at(layer, place)
    tracker = layer._tracker
    was_locked = tracker.locked  # because it is once a layer is built
    tracker.unlock()
    try:
        tracker.untrack(old)
        tracker.track(new)
        name, *keys = place
        while keys:
            key = keys.pop()
            holder = at(layer, (name, *keys))
            if not isinstance(holder, tuple):
                holder[key] = new
                return
            new = (*holder[:key], new, *holder[key + 1 :])
        if hasattr(layer, name):
            delattr(layer, name)
        setattr(layer, name, new)
    finally:
        if was_locked:
            tracker.lock()
