"""Properties that all credit assignments share: names, configs, gate inputs."""

import keras
import numpy as np
import pytest

from keras_treegate import credit
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from tests.random_layers import normal

NAMES = {
    "straight": credit.Straight,
    "reinforce": credit.Reinforce,
    "noisy_rectifier": credit.NoisyRectifier,
}
each_name = pytest.mark.parametrize("name", NAMES)


@each_name
def test_a_name_an_object_and_a_config(name):
    found = credit.get(name, seed=3)
    assert type(found) is NAMES[name]
    assert credit.get(found) is found
    config = keras.saving.serialize_keras_object(found)
    copy = credit.get(config)
    assert type(copy) is NAMES[name]
    assert copy.get_config() == found.get_config()


def test_the_seed_of_a_layer_is_that_of_its_credit():
    assert TreeGatedDense(3, credit="reinforce", seed=4).credit.seed == 4
    given = credit.Reinforce(seed=5)
    assert TreeGatedDense(3, credit=given, seed=4).credit.seed == 5


@pytest.mark.parametrize("given", ["reinforced", None, 3, SystemError])
def test_what_is_no_credit(given):
    with pytest.raises(
        ValueError, match="`credit` must be .*Received: credit="
    ):
        credit.get(given)


def trained_gates(name, steps=100):
    """Trains a projection that only gates, where the right path is by a sign.

    The target is the sign of a feature that the gates must find, which no
    kernel alone can tell: the inputs are ones.
    """
    keras.utils.set_random_seed(1)
    x, source = keras.Input((2,)), keras.Input((3,))
    gates = keras.layers.Dense(2, use_bias=False, name="gates")
    layer = TreeGatedDense(
        1,
        depth=1,
        num_trees=2,
        credit=name,
        node_initializer=keras.initializers.RandomNormal(stddev=0.3, seed=1),
        seed=1,
    )
    model = keras.Model([x, source], layer(x, gate_inputs=gates(source)))
    gates.kernel.assign([[0.1, -0.1], [1.0, 0.5], [-0.5, 1.0]])
    model.compile(keras.optimizers.Adam(0.05), ReinforceLoss("mse"))
    ones, features = np.ones((64 * steps, 2), "float32"), normal(64 * steps, 3)
    y = np.sign(features[:, :1])
    before = gates.kernel.numpy()
    first = model.evaluate([ones, features], y, batch_size=640, verbose=0)
    model.fit([ones, features], y, batch_size=64, verbose=0)
    last = model.evaluate([ones, features], y, batch_size=640, verbose=0)
    return before, gates.kernel.numpy(), first, last


def test_straight_teaches_nothing_to_units_that_only_gate():
    before, after, _, _ = trained_gates("straight", steps=2)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["reinforce", "noisy_rectifier"])
def test_units_that_only_gate_learn_through_their_credit(name):
    before, after, first, last = trained_gates(name)
    assert np.abs(after - before).max() > 0.2
    # The feature that tells, against the others.
    share = np.abs(after[0]) / np.abs(after).sum(axis=0)
    old_share = np.abs(before[0]) / np.abs(before).sum(axis=0)
    assert (share > old_share + 0.1).any()
    assert last < 0.8 * first
