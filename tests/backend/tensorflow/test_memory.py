"""The graphs of models that are built, trained and deleted."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_treegate
from keras_treegate.gates import HashGate, SignGate
from keras_treegate.layers import SparseEmbedding, TreeGatedDense
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


def running_mean():
    return TreeGatedDense(
        2, depth=4, num_trees=2, gate=SignGate(threshold="running_mean")
    )


class Hashed(keras.layers.Layer):
    """Trees whose gates read two tokens, made of the inputs."""

    def __init__(self):
        super().__init__()
        gate = HashGate(2, seed=0)
        self.tree = TreeGatedDense(2, depth=4, num_trees=2, gate=gate)

    def call(self, inputs):
        tokens = keras.ops.cast(inputs[:, :2], "int32")
        return self.tree(inputs, gate_inputs=tokens)


class Embedded(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.rows = SparseEmbedding(500, 2)

    def call(self, inputs):
        ids = keras.ops.cast(inputs, "int32")
        return keras.ops.mean(self.rows(ids), axis=1)


@pytest.mark.parametrize("layer", [running_mean, Hashed, Embedded])
def test_nor_do_other_gates_and_embeddings(layer):
    assert graphs_left(layer, StepAwareAdam) == 0


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_a_folded_tree_leaves_no_graph(dtype):
    for _ in range(2):
        before = graphs()
        layer = TreeGatedDense(2, depth=4, num_trees=2, seed=0)
        model = keras.Sequential([keras.Input((6,)), layer])
        keras_treegate.fold(model, dtype=dtype).predict(X, verbose=0)
        del model, layer
    assert not graphs().keys() - before.keys()


def test_dense_layers_leave_some():
    # A gradient of one's own keeps the graph that it is in: those of Keras do.
    left = graphs_left(lambda: keras.layers.Dense(2), keras.optimizers.SGD)
    assert left > 0
