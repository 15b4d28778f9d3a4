"""State of a layer inside of what a backend traces apart, as an RNN cell."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense

X = np.random.default_rng(0).normal(size=(8, 5, 3)).astype("float32")


class Cell(keras.layers.Layer):
    """A cell whose only layer is a tree."""

    state_size = 4

    def __init__(self, **options):
        super().__init__()
        self.tree = TreeGatedDense(4, depth=2, seed=0, **options)

    def build(self, shape):
        self.tree.build((None, shape[-1] + 4))

    def call(self, x, states, training=None):
        x = ops.concatenate([x, states[0]], -1)
        h = ops.tanh(self.tree(x, training=training))
        return h, [h]


def trained(unroll=False, **options):
    cell = Cell(**options)
    layer = keras.layers.RNN(cell, unroll=unroll)
    model = keras.Sequential([keras.Input((5, 3)), layer])
    model.compile("sgd", "mse")
    model.fit(X, X[:, 0, [0, 1, 2, 0]], batch_size=4, epochs=2, verbose=0)
    return cell.tree


JAX = keras.backend.backend() == "jax"


def test_a_cell_without_counts_trains():
    assert trained(count_visits=False).nodes[1].numpy().any()


@pytest.mark.parametrize(
    ("remedy", "make"),
    [
        ("`count_visits` must be `False`.*unroll=True", dict),
        (
            "`threshold` must be 'zero'.*unroll=True",
            lambda: {
                "count_visits": False,
                "gate": SignGate(threshold="running_mean"),
            },
        ),
    ],
)
def test_state_in_a_cell_works_or_says_what_to_do(remedy, make):
    if JAX:
        with pytest.raises(ValueError, match=remedy):
            trained(**make())
    else:
        assert trained(**make()).nodes[1].numpy().any()


def test_an_unrolled_cell_counts_each_step():
    tree = trained(unroll=True)
    # Keras calls the cell once more where it is traced, not at each step.
    assert (tree.leaf_visits.sum(axis=1) == 2 * X.shape[0] * X.shape[1]).all()


def test_time_steps_of_one_call_are_counted():
    tree = TreeGatedDense(4, depth=2, seed=0)
    model = keras.Sequential([keras.Input((5, 3)), tree])
    model.compile("sgd", "mse")
    model.fit(X, X[..., [0, 1, 2, 0]], batch_size=4, verbose=0)
    assert (tree.leaf_visits.sum(axis=1) == X.shape[0] * X.shape[1]).all()
