"""Sampled gates and what they learn from."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.credit import Reinforce
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from tests import oracle
from tests.credit.patterns import (
    Patterns,
    assert_gradients_close,
    fix_bits,
)
from tests.random_layers import normal


def tree(units=2, depth=1, num_trees=2, **kwargs):
    """Returns a layer with random nodes, so that the path matters."""
    kwargs.setdefault("credit", Reinforce(seed=0))
    return TreeGatedDense(
        units,
        depth,
        num_trees=num_trees,
        node_initializer=keras.initializers.RandomNormal(seed=5),
        gate=SignGate(seed=3),
        **kwargs,
    )


def two_layers():
    """Makes a model: Dense, whose outputs gate, and two tree layers; 4 bits."""
    dense = keras.layers.Dense(
        3, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )
    model = keras.Sequential([keras.Input((3,)), dense, tree(3), tree(2)])
    for seed, variable in enumerate(learned(model)):
        variable.assign(normal(*variable.shape, seed=seed))
    return model


def learned(model):
    """Returns the trainable variables without the state of the decay."""
    return [
        v
        for v in model.trainable_variables
        if v.name.rpartition("_")[0] not in ("clock", "stamps")
    ]


def squared(y_true, y_pred):
    return ops.mean(ops.square(ops.subtract(y_true, y_pred)), axis=-1)


def expected_loss(values, units, x, y, temperature):
    """Computes the sum over bits of P(bits) * loss(bits) by formulas alone."""
    kernel, bias, *layers = values
    total = 0.0
    for example, target in zip(x, y, strict=True):
        hidden = (example @ kernel + bias)[None]
        total += _expected(hidden, target, layers, units, temperature)
    return total


def _expected(hidden, target, layers, units, temperature):
    if not layers:
        return np.mean((target - hidden[0]) ** 2)
    *nodes, bias = layers[:3]
    a = hidden[0, units[0]] / temperature  # (G, 1)
    p = 1 / (1 + np.exp(-a[:, 0]))
    total = 0.0
    for first in (0, 1):
        for second in (0, 1):
            bits = np.array([first, second])
            chance = np.prod(np.where(bits, p, 1 - p))
            out = oracle.forward(hidden, nodes, bits[None], bias)
            rest = _expected(out, target, layers[3:], units[1:], temperature)
            total += chance * rest
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_fit_follows_the_exact_gradient_of_the_expected_loss(temperature):
    model = two_layers()
    x, y = normal(2, 3, seed=1), normal(2, 2, seed=2)
    trees = model.layers[1:]
    for layer in trees:
        layer.credit.temperature = temperature
        # Whatever the baseline is, the mean over the bits is exact.
        layer.credit.moving_means.assign(np.full(8, 0.7))
    variables = learned(model)
    old = [v.numpy().astype("float64") for v in variables]
    units = [layer.gate.units for layer in trees]
    assert [v.name for v in variables[2:5]] == ["nodes_0", "nodes_1", "bias"]
    exact = [
        oracle.finite_differences(
            lambda: expected_loss(old, units, x, y, temperature), array
        )
        for array in old
    ]
    patterns = Patterns(model, x)
    model.compile(
        keras.optimizers.SGD(1.0), ReinforceLoss(squared, reduction="sum")
    )
    model.fit(
        patterns.x,
        patterns.repeated(y),
        sample_weight=patterns.probabilities,
        batch_size=len(patterns.x),
        shuffle=False,
        verbose=0,
    )
    steps = [
        before - v.numpy() for before, v in zip(old, variables, strict=True)
    ]
    assert max(np.abs(step).max() for step in exact) > 0.1
    assert_gradients_close(steps, exact)


def sequence_model(mixing):
    """Makes a model of two positions and 4 bits; mixing lets them see both."""
    inputs = keras.Input((2, 3))
    y = keras.layers.Dense(2)(inputs)
    y = tree(2)(y)
    if mixing:
        y = keras.layers.Permute((2, 1))(y)
        y = keras.layers.Dense(2)(y)
        y = keras.layers.Permute((2, 1))(y)
    model = keras.Model(inputs, y)
    for seed, variable in enumerate(learned(model)):
        variable.assign(normal(*variable.shape, seed=seed))
    return model


@pytest.mark.parametrize(
    ("positions", "mixing"),
    [("all", True), ("all", False), ("own", False), ("own", True)],
)
def test_losses_at_positions(positions, mixing):
    patterns = Patterns(sequence_model(mixing), normal(1, 2, 3), (2,))
    y = patterns.repeated(normal(1, 2, 2, seed=2))
    weights = np.array([0.5, 2.0], "float32")
    loss = ReinforceLoss(squared, positions, reduction="sum")
    exact = patterns.exact_gradients(
        lambda y_pred: ops.sum(
            ops.multiply(squared(y, y_pred), weights), axis=-1
        )
    )
    found = patterns.estimated_gradients(
        lambda y_pred, chance: loss(y, y_pred, chance[:, None] * weights)
    )
    if positions == "own" and mixing:
        # The bits of a position are not told what they did to the other.
        with pytest.raises(AssertionError):
            assert_gradients_close(found, exact, 1e-2)
    else:
        assert_gradients_close(found, exact)


def test_several_outputs_are_credited_with_their_weighted_sum():
    inputs = keras.Input((3,))
    hidden = tree(3)(inputs)
    model = keras.Model(
        inputs, [tree(2)(hidden), keras.layers.Dense(1)(hidden)]
    )
    for seed, variable in enumerate(learned(model)):
        variable.assign(normal(*variable.shape, seed=seed))
    patterns = Patterns(model, normal(1, 3))
    first = patterns.repeated(normal(1, 2, seed=2))
    second = patterns.repeated(normal(1, 1, seed=3))
    loss = ReinforceLoss(squared, reduction="sum")
    exact = patterns.exact_gradients(
        lambda y: squared(first, y[0]) + 3 * squared(second, y[1])
    )
    found = patterns.estimated_gradients(
        lambda y, chance: (
            loss(first, y[0], chance) + 3 * loss(second, y[1], chance)
        )
    )
    assert_gradients_close(found, exact)


def test_a_layer_used_twice_is_credited_for_both_uses():
    inputs = keras.Input((3,))
    shared = tree(3, credit=Reinforce(seed=0))
    model = keras.Model(inputs, shared(shared(inputs)))
    for seed, variable in enumerate(learned(model)):
        variable.assign(normal(*variable.shape, seed=seed))
    patterns = Patterns(model, normal(1, 3))  # the same bits in both uses
    y = patterns.repeated(normal(1, 3, seed=2))
    loss = ReinforceLoss(squared, reduction="sum")

    # Not the truth for independent bits, but the same sum in both.
    exact = patterns.exact_gradients(lambda y_pred: squared(y, y_pred))
    found = patterns.estimated_gradients(
        lambda y_pred, chance: loss(y, y_pred, chance)
    )
    assert_gradients_close(found, exact)


def test_the_entropy_bonus_is_a_gradient_of_the_entropy():
    inputs, source = keras.Input((3,)), keras.Input((4,))
    layer = TreeGatedDense(
        2,
        depth=2,
        num_trees=2,
        gate=SignGate(units=[[0, 1], [2, 3]]),
        credit=Reinforce(entropy_bonus=0.5),
    )  # nodes of zero: the bits do not matter for the loss
    gates = keras.layers.Dense(4, kernel_initializer="zeros")
    model = keras.Model(
        [inputs, source], layer(inputs, gate_inputs=gates(source))
    )
    a = np.array([0.5, -2.0, 1.0, 3.0])
    gates.bias.assign(a)
    model.compile(keras.optimizers.SGD(1.0), ReinforceLoss("mse"))
    x = normal(16, 3)
    weights = np.full(16, 2.0)
    # Without a loss: the bits are worth nothing.
    y = model.predict([x, normal(16, 4)], verbose=0)
    model.fit([x, normal(16, 4)], y, sample_weight=weights, verbose=0)
    p = 1 / (1 + np.exp(-a))
    # dH/da = -a p (1 - p), of the mean over 4 bits, at a weight of 2.
    expected = a + 2.0 * 0.5 * (-a * p * (1 - p)) / 4
    np.testing.assert_allclose(gates.bias.numpy(), expected, rtol=1e-5)


def test_the_baseline_is_a_moving_mean_of_the_weighted_losses():
    layer = tree(1, credit=Reinforce(momentum=0.5, seed=0))
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.SGD(0.0), ReinforceLoss(squared))
    losses, weights = [], np.array([1.0, 3.0, 0.0, 2.0], "float32")
    for step in range(3):
        x, y = normal(4, 2, seed=step), normal(4, 1, seed=9)
        fix_bits(layer, np.ones((4, 2, 1), bool))
        model.train_on_batch(x, y, sample_weight=weights)
        values = np.square(_output(layer, x) - y)[:, 0]
        losses.append(np.average(values, weights=weights))
    expected = losses[0]
    for loss in losses[1:]:
        expected = (expected + loss) / 2
    means = layer.credit.moving_means.numpy()
    np.testing.assert_allclose(means[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(means[1:], 0.0)
    np.testing.assert_array_equal(layer.credit.updates.numpy()[:2], [3, 0])


def _output(layer, x):
    nodes = [level.numpy() for level in layer.nodes]
    codes = np.ones((len(x), 2), int)
    return oracle.forward(x, nodes, codes, layer.bias.numpy())


def test_each_output_has_a_baseline_of_its_own():
    inputs = keras.Input((3,))
    layer = tree(2)
    hidden = layer(inputs)
    model = keras.Model(inputs, [hidden, keras.layers.Dense(1)(hidden)])
    model.compile(
        keras.optimizers.SGD(0.0),
        [ReinforceLoss(squared), ReinforceLoss(squared)],
    )
    model.train_on_batch(normal(4, 3), [normal(4, 2), 10 + normal(4, 1)])
    first, second = layer.credit.moving_means.numpy()[:2]
    assert 0 < first < 10 < second


def test_evaluation_leaves_the_baseline_and_the_samples():
    model = two_layers()
    model.compile("sgd", ReinforceLoss(squared))
    x, y = normal(4, 3), normal(4, 2)
    model.train_on_batch(x, y)
    credit = model.layers[1].credit
    before = [v.numpy() for v in credit.variables]
    value = model.evaluate(x, y, verbose=0)
    for variable, old in zip(credit.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    expected = np.mean(np.square(y - model.predict(x, verbose=0)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def estimates(baseline, count=2000):
    """Estimates of the gradient of one gate by sampling, and the truth.

    A gate of activation 0 whose two leaves lose 4 and 5.
    """
    layer = TreeGatedDense(
        1,
        depth=1,
        num_trees=1,
        gate=SignGate(units=[[0]]),
        credit=Reinforce(baseline=baseline, seed=1),
        use_bias=False,
    )
    # Each example has a gate of its own: a one-hot source picks a weight.
    one_hot = np.eye(count, dtype="float32")
    inputs, source = keras.Input((1,)), keras.Input((count,))
    gates = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Model(
        [inputs, source], layer(inputs, gate_inputs=gates(source))
    )
    layer.nodes[0].assign([[[0.0]]])
    layer.nodes[1].assign([[[2.0]], [[5**0.5]]])
    if baseline:
        layer.credit.moving_means.assign(np.full(8, 4.5))
    model.compile(
        keras.optimizers.SGD(1.0), ReinforceLoss(squared, reduction="sum")
    )
    model.fit(
        [np.ones((count, 1), "float32"), one_hot],
        np.zeros((count, 1), "float32"),
        batch_size=count,
        verbose=0,
    )
    return -gates.kernel.numpy()[:, 0], (5.0 - 4.0) / 4


def test_sampled_gradients_are_right_within_their_standard_error():
    found, exact = estimates(baseline=None)
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - exact) < 4 * error
    assert error < exact / 2


def test_the_baseline_lowers_the_variance():
    # Without: +-(4 or 5) / 2; with 4.5: always 1 / 4.
    without, _ = estimates(baseline=None)
    found, exact = estimates(baseline="moving_mean")
    assert without.var() > 4.0
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_bits_are_sampled_in_training_and_signs_at_inference():
    layer = tree(1, depth=1, num_trees=1, credit=Reinforce(seed=2))
    x = np.full((4000, 2), 0.5, "float32")
    layer.build(x.shape)
    seen = []
    sample = layer.credit.sample
    layer.credit.sample = lambda p: seen.append(sample(p)) or seen[-1]
    layer(x, training=False)
    assert seen == []
    codes = ops.convert_to_numpy(layer.leaf_codes(x))
    np.testing.assert_array_equal(codes, 1)
    layer(x, training=True)
    bits = ops.convert_to_numpy(seen[0])
    assert abs(bits.mean() - 1 / (1 + np.exp(-0.5))) < 0.03


def test_samples_are_reproducible_and_go_on_after_loading(tmp_path):
    x, y = normal(8, 3), normal(8, 2)

    def trained(epochs):
        keras.utils.set_random_seed(0)
        model = two_layers()
        model.compile("sgd", ReinforceLoss("mse"))
        model.fit(x, y, epochs=epochs, batch_size=4, shuffle=False, verbose=0)
        return model

    whole, half = trained(2), trained(1)
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    loaded.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    for layer, other in zip(whole.layers, loaded.layers, strict=True):
        for one, two in zip(layer.variables, other.variables, strict=True):
            assert one.name == two.name
            np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-6)


def test_bits_do_not_depend_on_what_else_is_in_the_config():
    credit = Reinforce(None, 0.5, 0.1, 0.9, seed=4)
    copy = Reinforce.from_config(credit.get_config())
    assert copy.get_config() == credit.get_config()
    layer = TreeGatedDense(3, credit=credit)
    again = TreeGatedDense.from_config(layer.get_config())
    assert again.credit.get_config() == credit.get_config()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"baseline": "mean"}, "`baseline` must be 'moving_mean' or `None`"),
        ({"temperature": 0}, "`temperature` must be a finite number above 0"),
        ({"temperature": "hot"}, "Received: temperature='hot'"),
        ({"entropy_bonus": -1}, "`entropy_bonus` .* of at least 0"),
        ({"momentum": 1.0}, "`momentum` .* at least 0 and below 1"),
        ({"momentum": float("nan")}, "Received: momentum=nan"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
    ],
)
def test_refused_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        Reinforce(**arguments)
