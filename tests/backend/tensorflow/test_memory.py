"""The graphs of models that are built, trained and deleted."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD

X, Y = np.ones((4, 6), "float32"), np.ones((4, 2), "float32")


def graphs():
    """Returns the graphs with operations that live, by `id`."""
    keras.backend.clear_session()
    gc.collect()
    found = [x for x in gc.get_objects() if isinstance(x, tf.Graph)]
    return {id(graph): graph for graph in found if graph.get_operations()}


def graphs_left(layer, optimizer):
    """Counts the graphs that a second model of a kind leaves behind."""
    for _ in range(2):
        before = graphs()
        model = keras.Sequential([keras.Input((6,)), layer()])
        model.compile(optimizer(), "mse")
        model.fit(X, Y, verbose=0)
        del model
    return len(graphs().keys() - before.keys())


def tree(row_levels):
    def layer():
        layer = TreeGatedDense(2, depth=4, num_trees=2, seed=0)
        layer.row_levels = row_levels
        return layer

    return layer


@pytest.mark.parametrize("row_levels", ["none", "all"])
@pytest.mark.parametrize("optimizer", [StepAwareSGD, StepAwareAdam])
def test_a_tree_leaves_no_graph(row_levels, optimizer):
    assert graphs_left(tree(row_levels), optimizer) == 0


def test_dense_layers_leave_some():
    # A gradient of one's own keeps the graph that it is in: those of Keras do.
    left = graphs_left(lambda: keras.layers.Dense(2), keras.optimizers.SGD)
    assert left > 0
