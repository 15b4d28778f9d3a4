"""The layers of a model that a user means."""

from typing import Any

import keras

from keras_treegate.transforms.places import descendants


def chosen(model: keras.Model, layers: Any) -> list[keras.layers.Layer]:
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
