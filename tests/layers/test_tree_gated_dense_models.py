"""The layer inside models: every way Keras builds and calls one."""

import keras
import numpy as np

from keras_treegate.layers import TreeGatedDense
from tests.random_layers import Expected, assert_close, normal, randomize


def test_predict_equals_the_oracle():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    model = keras.Sequential([keras.Input((5,)), layer])
    randomize(layer)
    x = normal(16, 5)
    y = model.predict(x, batch_size=6, verbose=0)  # a last batch of 4
    assert_close(y, Expected(layer, x).output)


def test_sequential_without_an_input_builds_at_the_first_call():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    model = keras.Sequential([layer, keras.layers.ReLU()])
    x = normal(6, 5)
    model(x)
    randomize(layer)
    assert_close(model(x), np.maximum(Expected(layer, x).output, 0))


def test_functional_with_unknown_batch_and_time():
    layer = TreeGatedDense(3, depth=4, num_trees=2)
    inputs = keras.Input((None, 6))
    outputs = layer(inputs)
    assert outputs.shape == (None, None, 3)
    model = keras.Model(inputs, outputs)
    randomize(layer)
    for batch, time in [(1, 1), (4, 9)]:
        x = normal(batch, time, 6, seed=time)
        y = model.predict(x, verbose=0)
        assert_close(y, Expected(layer, x).output)


def test_functional_with_gate_inputs():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    inputs, source = keras.Input((4,)), keras.Input((7,))
    model = keras.Model([inputs, source], layer(inputs, gate_inputs=source))
    randomize(layer)
    x, z = normal(5, 4), normal(5, 7, seed=1)
    y = model.predict([x, z], verbose=0)
    assert_close(y, Expected(layer, x, z).output)


def test_gate_inputs_may_be_the_hidden_layer_before_the_product():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(6)(inputs)
    outputs = layer(keras.layers.ReLU()(hidden), gate_inputs=hidden)
    model = keras.Model(inputs, [hidden, outputs])
    randomize(layer)
    z, y = model.predict(normal(5, 4), verbose=0)
    assert_close(y, Expected(layer, np.maximum(z, 0), z).output)


def test_subclassed_model():
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.tree = TreeGatedDense(3, depth=3, num_trees=2)

        def call(self, inputs):
            return self.tree(inputs)

    model = Network()
    x = normal(6, 5)
    model(x)
    randomize(model.tree)
    expected = Expected(model.tree, x).output
    model.compile(keras.optimizers.SGD(0.01), "mse")
    before = model.evaluate(x, 0 * expected, verbose=0)
    model.fit(x, 0 * expected, epochs=2, verbose=0)
    assert model.evaluate(x, 0 * expected, verbose=0) < before


def test_time_distributed_is_the_layer_on_every_step():
    layer = TreeGatedDense(3, depth=3, num_trees=2)
    model = keras.Sequential(
        [keras.Input((3, 5)), keras.layers.TimeDistributed(layer)]
    )
    randomize(layer)
    x = normal(2, 3, 5)
    assert_close(model.predict(x, verbose=0), Expected(layer, x).output)


def test_a_second_call_shares_the_weights():
    layer = TreeGatedDense(5, depth=3, num_trees=2)
    inputs = keras.Input((5,))
    once = layer(inputs)
    model = keras.Model(inputs, [once, layer(once)])
    assert len(model.variables) == len(layer.variables)
    randomize(layer)
    x = normal(6, 5)
    once, twice = model.predict(x, verbose=0)
    assert_close(once, Expected(layer, x).output)
    assert_close(twice, Expected(layer, once).output)


def test_masks_pass_through():
    layer = TreeGatedDense(3, depth=2)
    inputs = keras.Input((None, 4))
    hidden = layer(keras.layers.Masking()(inputs))
    outputs = keras.layers.GlobalAveragePooling1D()(hidden)
    model = keras.Model(inputs, outputs)
    randomize(layer)
    x = normal(2, 5, 4)
    x[0, 3:] = 0
    x[1, 1:] = 0
    y = Expected(layer, x).output
    expected = [y[0, :3].mean(axis=0), y[1, :1].mean(axis=0)]
    assert_close(model.predict(x, verbose=0), expected)
