"""The functions that TensorFlow compiles for the updates of a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_treegate.backend.tensorflow import compiling
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD

X, Y = np.ones((4, 6), "float32"), np.ones((4, 2), "float32")


@pytest.fixture
def compilations(monkeypatch):
    """Returns the functions that are compiled by XLA, one for each."""
    made = []
    function = tf.function

    def counting(*args, **kwargs):
        if kwargs.get("jit_compile"):
            made.append(args)
        return function(*args, **kwargs)

    monkeypatch.setattr(tf, "function", counting)
    monkeypatch.setattr(compiling, "_compiled", {})
    return made


def train(optimizer, depth=3):
    keras.utils.set_random_seed(0)
    layer = TreeGatedDense(2, depth=depth, num_trees=2, seed=0)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(optimizer, "mse", jit_compile=False)
    model.fit(X, Y, batch_size=2, verbose=0)
    return [node.numpy() for node in layer.nodes]


def test_a_second_model_of_the_same_sizes_compiles_nothing(compilations):
    first = train(StepAwareAdam(1e-2))
    count = len(compilations)
    second = train(StepAwareAdam(1e-2))
    assert len(compilations) == count > 0
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "other", [StepAwareAdam(1e-2, beta_1=0.5), StepAwareSGD(1e-2)]
)
def test_another_rule_is_compiled_for_itself(compilations, other):
    first = train(StepAwareAdam(1e-2))
    count = len(compilations)
    second = train(other)
    assert len(compilations) > count
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_what_differs_from_step_to_step_is_no_part_of_what_is_shared(
    compilations,
):
    train(StepAwareSGD(1e-2, weight_decay=0.1))
    count = len(compilations)
    slow = train(StepAwareSGD(1e-2, weight_decay=0.1))
    fast = train(StepAwareSGD(1e-1, weight_decay=0.1))
    assert len(compilations) == count
    assert (slow[0] != fast[0]).any()


def test_a_rule_that_reads_a_variable_of_its_own_is_not_shared(compilations):
    class Counting(StepAwareSGD):
        def next_value(self, value, gradient, slots, step):
            number = keras.ops.cast(self.iterations.value, value.dtype)
            return value - gradient * number

    first, second = Counting(1e-2), Counting(1e-2)
    train(first)
    train(second)
    assert not compiling._compiled


@pytest.mark.parametrize("depth", [2, 4])  # of levels read whole, and by rows
def test_equal_layers_share_what_is_compiled(depth, compilations):
    def compiled_for(layers):
        compilations.clear()
        compiling._compiled.clear()
        model = keras.Sequential([keras.Input((6,))])
        for _ in range(layers):
            model.add(TreeGatedDense(6, depth=depth, num_trees=2))
        model.compile(StepAwareAdam(1e-2), "mse", jit_compile=False)
        model.fit(X, X, batch_size=4, verbose=0)
        return len(compiling._compiled)

    assert compiled_for(1) == compiled_for(3) == 1
