"""A layer inside of Keras's loops is the layer on every step."""

import threading

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests.random_layers import Expected, assert_close, normal, randomize

STEPS, WIDTH = 3, 4


def mapped(layer, x):
    return ops.moveaxis(ops.map(layer, ops.moveaxis(x, 1, 0)), 0, 1)


def scanned(layer, x):
    def step(carry, now):
        return carry, layer(now)

    # Keras's scan under TensorFlow wants a carry of the outputs' shape.
    _, outputs = ops.scan(step, ops.zeros_like(x[:, 0]), ops.moveaxis(x, 1, 0))
    return ops.moveaxis(outputs, 0, 1)


def looped(layer, x):
    def body(step, outputs):
        now = ops.take(x, step, axis=1)
        here = ops.cast(ops.arange(STEPS) == step, x.dtype)
        outputs += layer(now)[:, None] * here[None, :, None]
        return step + 1, outputs

    _, outputs = ops.while_loop(
        lambda step, outputs: step < STEPS,
        body,
        (ops.convert_to_tensor(0), ops.zeros_like(x)),
    )
    return outputs


LOOPS = {"map": mapped, "scan": scanned, "while": looped}


@keras.saving.register_keras_serializable("tests")
class Looping(keras.layers.Layer):
    """Applies a layer (B, P) to the steps of a sequence (B, T, P)."""

    def __init__(self, loop, layer):
        super().__init__()
        self.loop, self.layer = loop, layer

    def build(self, input_shape):
        self.layer.build((input_shape[0], input_shape[2]))

    def call(self, x):
        return self.loop(self.layer, x)


def looping_model(name):
    layer = TreeGatedDense(
        WIDTH, depth=3, num_trees=2, count_visits=False, seed=0
    )
    inputs = keras.Input((STEPS, WIDTH))
    return layer, keras.Model(inputs, Looping(LOOPS[name], layer)(inputs))


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_the_layer_on_every_step(name):
    layer, model = looping_model(name)
    randomize(layer)
    x = normal(2, STEPS, WIDTH)
    assert_close(model.predict(x, verbose=0), Expected(layer, x).output)


@pytest.mark.filterwarnings("ignore:The gradient of")  # dense under JAX
@pytest.mark.parametrize("name", ["map", "scan"])
def test_a_loop_trains_as_the_layer_does(name):
    layer, model = looping_model(name)
    randomize(layer)
    alone = TreeGatedDense.from_config(layer.get_config())
    plain = keras.Sequential([keras.Input((STEPS, WIDTH)), alone])
    alone.set_weights(layer.get_weights())
    x, y = normal(4, STEPS, WIDTH), normal(4, STEPS, WIDTH)
    for one in (model, plain):
        one.compile(StepAwareAdam(0.01, weight_decay=0.1), "mse")
        one.fit(x, y, batch_size=2, epochs=3, shuffle=False, verbose=0)
    assert_close(model.predict(x, verbose=0), plain.predict(x, verbose=0))


@keras.saving.register_keras_serializable("tests")
class Summing(keras.layers.Layer):
    """A cell whose state is the sum of what a tree gave."""

    def __init__(self, seed, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.state_size = self.output_size = WIDTH
        self.tree = TreeGatedDense(
            WIDTH, depth=2, count_visits=False, seed=seed
        )

    def build(self, input_shape):
        self.tree.build(input_shape)

    def call(self, x, states):
        state = self.tree(x) + states[0]
        return state, [state]

    def get_config(self):
        return super().get_config() | {"seed": self.seed}


def test_both_directions_of_a_sequence():
    forward, backward = (
        keras.layers.RNN(
            Summing(seed), return_sequences=True, go_backwards=seed == 1
        )
        for seed in (0, 1)
    )
    both = keras.layers.Bidirectional(forward, backward_layer=backward)
    x = normal(2, STEPS, WIDTH)
    found = ops.convert_to_numpy(both(x))
    forward, backward = (
        Expected(one.cell.tree, x).output
        for one in (both.forward_layer, both.backward_layer)
    )
    assert_close(found[..., :WIDTH], np.cumsum(forward, axis=1))
    expected = np.cumsum(backward[:, ::-1], axis=1)[:, ::-1]
    assert_close(found[..., WIDTH:], expected)


def test_threads_share_a_layer():
    layer = TreeGatedDense(WIDTH, depth=3, num_trees=2)
    model = keras.Sequential([keras.Input((WIDTH,)), layer])
    randomize(layer)
    inputs = [normal(5, WIDTH) for _ in range(4)]
    found = [None] * len(inputs)

    def call(number):
        found[number] = ops.convert_to_numpy(model(inputs[number]))

    threads = [
        threading.Thread(target=call, args=(n,)) for n in range(len(inputs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, outputs in zip(inputs, found, strict=True):
        assert_close(outputs, Expected(layer, x).output)
