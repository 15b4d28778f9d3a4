"""The tree layers of a model, wherever they are in it."""

import weakref
from typing import Protocol

import keras
import numpy as np

from keras_treegate.trees.level import TreeLevel
from keras_treegate.trees.visits import LeafVisits


class TreeLayer(Protocol):
    """A built `TreeGatedDense`, as far as this floor and those above see it."""

    name: str
    path: str
    depth: int
    num_trees: int
    count_visits: bool
    gate: keras.layers.Layer
    tree_levels: list[TreeLevel]
    visits: LeafVisits

    @property
    def leaf_visits(self) -> np.ndarray:
        """The visits of the leaves (G, L)."""


def mark(layer: keras.layers.Layer) -> None:
    """Lets `find_tree_layers` find a built layer, by its first variable."""
    layer.nodes[0].tree_layer = weakref.ref(layer)


def find_tree_layers(model: keras.Model) -> dict[str, TreeLayer]:
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
    found: dict[str, TreeLayer] = {}
    for layer in layers:
        name = layer.name if names.count(layer.name) == 1 else layer.path
        numbered, number = name, 0
        while numbered in found:
            number += 1
            numbered = f"{name}_{number}"
        found[numbered] = layer
    return found
