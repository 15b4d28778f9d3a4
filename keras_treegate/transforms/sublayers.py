"""The layers inside of a layer or model, by path or as a user means them."""

import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

import keras

# The name of an attribute, and keys of the lists and dictionaries in it.
SublayerPath: TypeAlias = tuple[Any, ...]

# None for all layers, names of layers, or a function that accepts layers.
LayerSelection: TypeAlias = (
    str | Collection[str] | Callable[[keras.layers.Layer], bool] | None
)


def is_graph(layer: keras.Operation) -> bool:
    """Returns whether a layer is a model of layers that call one another."""
    return isinstance(layer, keras.Sequential | keras.Function)


def is_plain_graph(layer: keras.Operation) -> bool:
    """Returns whether a layer is such a model, and its class is of Keras."""
    return type(layer) in _plain_models()


def plain_class(model: keras.Model) -> type[keras.Model]:
    """Returns the class of Keras that the class of a model of layers is of."""
    return next(kind for kind in type(model).__mro__ if kind in _plain_models())


def sublayer_paths(
    layer: keras.layers.Layer,
) -> list[tuple[SublayerPath, keras.layers.Layer]]:
    """Finds the layers in the attributes of a layer, each with its path.

    A path is the name of the attribute, followed by keys of the lists and
    dictionaries in it.
    """
    return [
        pair
        for name in own_attributes(layer)
        for pair in _layers_in(getattr(layer, name, None), (name,))
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
    value: object, path: SublayerPath
) -> Iterator[tuple[SublayerPath, keras.layers.Layer]]:
    if isinstance(value, keras.Layer):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _layers_in(item, (*path, key))
    elif isinstance(value, list | tuple):
        for key, item in enumerate(value):
            if isinstance(item, keras.Layer | dict | list | tuple):
                yield from _layers_in(item, (*path, key))


def children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers directly inside of a model or layer."""
    inside = list(layer.layers) if is_graph(layer) else []
    if not is_plain_graph(layer):
        inside += [child for _, child in sublayer_paths(layer)]
    return inside


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


def get_at(layer: keras.layers.Layer, path: SublayerPath) -> Any:
    """Returns the layer or collection at a path in a layer, or `None`."""
    value: Any = getattr(layer, path[0], None)
    for key in path[1:]:
        try:
            value = value[key]
        except (IndexError, KeyError, TypeError):
            return None
    return value


def set_at(
    layer: keras.layers.Layer,
    path: SublayerPath,
    new: keras.layers.Layer,
) -> None:
    """Replaces the layer at a path in a layer."""
    old = get_at(layer, path)
    tracker = layer._tracker
    was_locked = tracker.locked  # because it is once a layer is built
    tracker.unlock()
    try:
        tracker.untrack(old)
        tracker.track(new)
        value: keras.layers.Layer | tuple[Any, ...] = new
        name, *keys = path
        while keys:
            key = keys.pop()
            holder = get_at(layer, (name, *keys))
            if not isinstance(holder, tuple):
                holder[key] = value
                return
            value = (*holder[:key], value, *holder[key + 1 :])
        if hasattr(layer, name):
            delattr(layer, name)
        setattr(layer, name, value)
    finally:
        if was_locked:
            tracker.lock()


def select_layers(
    model: keras.Model, layers: LayerSelection
) -> list[keras.layers.Layer]:
    """Returns all layers of a model, or those that `layers` names or accepts.

    Args:
        model: the model.
        layers: `None`, a name, a list of names, or a function that is given a
            layer and returns whether it is meant.
    """
    inner = descendants(model)[1:]
    if layers is None:
        return inner
    if callable(layers):
        return [layer for layer in inner if layers(layer)]
    names = [layers] if isinstance(layers, str) else layers
    known = {layer.name for layer in inner}
    if not (
        isinstance(names, list | tuple | set | frozenset)
        and all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            "`layers` must be `None`, names of layers or a function of a "
            f"layer. Received: layers={layers!r}. Write e.g. "
            '`layers=["dense_1"]`.'
        )
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(
            f"`layers` must name layers of the model, {sorted(known)}. "
            f"Received: {unknown}. See `model.summary(expand_nested=True)`."
        )
    return [layer for layer in inner if layer.name in names]
