"""The tree layers of a model, wherever they are in it."""

import weakref

import keras


def mark(layer: keras.layers.Layer) -> None:
    """Makes a built layer known to `tree_layers`, by its first variable."""
    layer.nodes[0].tree_layer = weakref.ref(layer)


def tree_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Finds the built `TreeGatedDense` layers of a model, by name, in order.

    Those of nested models and wrappers are among them. A layer whose name
    another layer has is named by its path, and by a number behind that where
    paths are equal.
    """
    # Goes by variables, because Keras has no public way through all kinds of
    # layers.
    marks = [
        getattr(variable, "tree_layer", None) for variable in model.weights
    ]
    layers = [mark() for mark in marks if mark is not None]
    names = [layer.name for layer in layers]
    found: dict[str, keras.layers.Layer] = {}
    for layer in layers:
        name = layer.name if names.count(layer.name) == 1 else layer.path
        numbered, number = name, 0
        while numbered in found:
            number += 1
            numbered = f"{name}_{number}"
        found[numbered] = layer
    return found
