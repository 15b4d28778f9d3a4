"""`GateEntropy` alone has bits and churn."""

import keras
import numpy as np
import pytest

import keras_treegate
from keras_treegate.callbacks import GateEntropy
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from tests.callbacks.models import BATCH, WIDTH, data, model_of, tree, visits_of


def test_bit_balance_is_measured_bit_by_bit():
    layer = tree("tree", depth=2)
    x, y = data()
    history = model_of(layer).fit(
        x, y, verbose=0, callbacks=[GateEntropy(details=True)]
    )
    visits = visits_of(layer, x) / len(x)
    ones = [[c[2] + c[3], c[1] + c[3]] for c in visits]
    expected = np.mean(1 - np.abs(2 * np.array(ones) - 1))
    assert history.history["bit_balance"] == pytest.approx([expected])


class Move(keras.callbacks.Callback):
    """Routes some of the probe anew after each epoch, by its bias."""

    def __init__(self, shifts):
        super().__init__()
        self.shifts = list(shifts)

    def on_epoch_begin(self, epoch, logs=None):
        bias = self.model.layers[0].bias
        bias.assign(np.full(bias.shape, self.shifts[epoch], "float32"))


def test_churn_is_the_share_of_the_probe_that_took_another_path():
    dense = keras.layers.Dense(2, kernel_initializer="identity")
    dense.trainable = False
    layer = TreeGatedDense(
        3, depth=1, num_trees=2, gate=SignGate(units=[[0], [1]])
    )
    model = model_of(dense, layer, width=2)
    probe = np.array([[-3, -3], [-1, -3], [-1, -1], [1, 1]], "float32")
    history = model.fit(
        np.ones((BATCH, 2)),
        np.zeros((BATCH, 3)),
        epochs=3,
        verbose=0,
        # Added to all inputs. With 2, 5 of the 8 bits are 1, and with -2 none:
        # they do not change in the first two epochs, and 5 do in the third.
        callbacks=[Move([2, 2, -2]), GateEntropy(probe=probe)],
    )
    churn = history.history["routing_churn"]
    # The first probe is routed after `Move` has moved the first time.
    assert churn == [0.0, 0.0, 5 / 8]


def test_a_probe_that_cannot_be_used_twice_is_refused():
    with pytest.raises(ValueError, match="`probe` must be an array"):
        GateEntropy(probe=(batch for batch in [1]))


def test_a_callback_that_is_used_again_starts_anew():
    probe = data()[0]
    callback = GateEntropy(probe=probe)
    model = model_of(tree("tree"))
    grown = keras_treegate.grow(model, 4)
    other = model_of(tree("tree", depth=4))
    shifted = (other.layers[0].gate.units + 1) % WIDTH
    other.layers[0].gate._units.assign(shifted)
    for each in (model, model, grown, other):
        each.compile(keras.optimizers.SGD(0.0), "mse")
        x, y = data()
        history = each.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
        assert history.history["routing_churn"] == [0.0, 0.0]
