"""Every structure in which a layer is used trains it as dense gradients do.

Where the gradient stays in rows there is no warning; where rows are lost there
is one for each layer and cause, which it names.
"""

import functools
import re
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from tests.optimizers.loops import LOOPS, stateless, two_jits
from tests.optimizers.routing import inputs_for, make_layer, zipf_codes
from tests.optimizers.rules import DECAY, RULES

BACKEND = keras.backend.backend()
TREES, DEPTH, UNITS, BATCH, STEPS = 2, 3, 2, 3, 4
WIDTH = TREES * DEPTH
# A few steps run fastest without compiling, but under JAX.
QUICK = {"run_eagerly": BACKEND != "jax"}


@functools.cache
def batches(time=None):
    """Returns inputs (B, P) or (B, time, P) and targets, for each step."""
    random = np.random.default_rng(0)
    shape = (STEPS, BATCH) if time is None else (STEPS, BATCH, time)
    codes = zipf_codes(random, int(np.prod(shape)), TREES, DEPTH)
    x = inputs_for(random, codes, DEPTH)
    y = random.normal(size=(len(x), UNITS)).astype("float32")
    return list(zip(x.reshape(*shape, -1), y.reshape(*shape, -1), strict=True))


def optimizer():
    return RULES["SGD with momentum"].make(weight_decay=DECAY)


def tree_layer(row_levels, seed=0):
    return make_layer(UNITS, TREES, DEPTH, row_levels, seed)


# --- Structures: a model and its tree layers -------------------------------


def one_layer(row_levels):
    layer = tree_layer(row_levels)
    return keras.Sequential([keras.Input((WIDTH,)), layer]), [layer]


def two_uses(row_levels):
    layer = tree_layer(row_levels)
    inputs = keras.Input((WIDTH,))
    outputs = layer(inputs) + 0.5 * layer(-inputs)
    return keras.Model(inputs, outputs), [layer]


def two_layers(row_levels):
    layers = [tree_layer(row_levels, seed) for seed in range(2)]
    inputs = keras.Input((WIDTH,))
    outputs = layers[0](inputs) + layers[1](-inputs)
    return keras.Model(inputs, outputs), layers


def nested_models(row_levels):
    inner, layers = one_layer(row_levels)
    middle = keras.Sequential([keras.Input((WIDTH,)), inner])
    inputs = keras.Input((WIDTH,))
    return keras.Model(inputs, middle(inputs)), layers


def remat(row_levels):
    with keras.RematScope(mode="full"):
        layer = tree_layer(row_levels)
    return keras.Sequential([keras.Input((WIDTH,)), layer]), [layer]


def time_distributed(row_levels):
    layer = tree_layer(row_levels)
    model = keras.Sequential(
        [keras.Input((2, WIDTH)), keras.layers.TimeDistributed(layer)]
    )
    return model, [layer]


def any_time(row_levels):
    """Uses a layer once, with more axes and an unknown number of examples."""
    layer = tree_layer(row_levels)
    inputs = keras.Input((None, WIDTH))
    return keras.Model(inputs, layer(inputs)), [layer]


def frozen_then_not(row_levels):
    """Trains once while the tree layer is frozen."""
    layer = tree_layer(row_levels)
    head = keras.layers.Dense(
        UNITS, kernel_initializer="ones", bias_initializer="ones"
    )
    model = keras.Sequential([keras.Input((WIDTH,)), layer, head])
    before = layer.get_weights()
    layer.trainable = False
    model.compile(optimizer(), "mse", **QUICK)
    model.train_on_batch(*batches()[0])
    for one, two in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)
    layer.trainable = True
    return model, [layer]


# --- Training: a compiled model, and batches -------------------------------


def fit(model, data):
    x, y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)


def train_on_batch(model, data):
    for x, y in data:
        model.train_on_batch(x, y)


class Trained:
    """The weights and slots after training a structure in a way.

    warnings: the warnings of our optimizer, as texts.
    """

    def __init__(self, structure, row_levels, train, time=None, **compiled):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.model, self.layers = structure(row_levels)
            self.model.compile(optimizer(), "mse", **compiled)
            train(self.model, batches(time))
        texts = [str(warning.message) for warning in caught]
        self.warnings = [text for text in texts if "is dense" in text]

    def numbers(self):
        """Returns levels as they are read, all other weights, and the slots."""
        values = [
            ops.convert_to_numpy(level.read())
            for layer in self.layers
            for level in layer.tree_levels
        ]
        levels = [v for layer in self.layers for v in layer.nodes]
        state = {
            id(v)
            for layer in self.layers
            for level in layer.tree_levels
            for v in (level.nodes, level.clock, level.stamps)
        }
        others = [v for v in self.model.variables if id(v) not in state]
        slots = self.model.optimizer.variables
        assert levels
        return values + [v.numpy() for v in [*others, *slots]]


@functools.cache
def with_dense_gradients(structure, time=None):
    done = Trained(structure, "none", train_on_batch, time=time, **QUICK)
    assert done.warnings == []
    return done.numbers()


def assert_same_training(done, expected, tolerance=2e-6):
    for one, two in zip(done.numbers(), expected, strict=True):
        scale = max(1.0, np.abs(two).max(initial=0))
        np.testing.assert_allclose(one, two, rtol=0, atol=tolerance * scale)


def assert_stayed_in_rows(done, lifted):
    assert done.warnings == []
    for layer in done.layers:
        assert lifted.of(layer) == [{"rows"}] * (DEPTH + 1)


def assert_became_dense(done, lifted, cause):
    """Asserts it of all levels, and one warning that names layer and cause."""
    (layer,) = done.layers
    (warning,) = done.warnings
    assert re.search(cause, warning)
    assert f"nodes_{DEPTH} of the layer {layer.name!r} is dense" in warning
    for kinds in lifted.of(layer):
        assert len(kinds) == 1
        assert re.search(cause, kinds.pop())


# --- The gradient stays in rows --------------------------------------------

WAYS = {
    "fit": (fit, {}),
    "fit, eagerly": (fit, {"run_eagerly": True}),
    "fit, with jit": (fit, {"jit_compile": True}),
    "several steps per execution": (fit, {"steps_per_execution": 2}),
}
if BACKEND == "torch":
    # Refused by Keras, and a compiler of another kind.
    del WAYS["several steps per execution"], WAYS["fit, with jit"]
if BACKEND == "jax":
    del WAYS["fit, with jit"]  # is the default
WAYS |= {f"loop: {name}": (loop, {}) for name, loop in LOOPS.items()}


@pytest.mark.parametrize("way", WAYS)
def test_one_layer_trained_in_any_way_keeps_its_rows(way, lifted):
    train, compiled = WAYS[way]
    done = Trained(one_layer, "all", train, **compiled)
    assert_stayed_in_rows(done, lifted)
    assert_same_training(done, with_dense_gradients(one_layer))


@pytest.mark.parametrize(
    ("structure", "alike"),
    [
        (two_layers, two_layers),
        (nested_models, one_layer),
        (remat, one_layer),
        (frozen_then_not, frozen_then_not),
    ],
)
def test_one_use_in_any_model_keeps_its_rows(structure, alike, lifted):
    done = Trained(structure, "all", train_on_batch)
    assert_stayed_in_rows(done, lifted)
    assert_same_training(done, with_dense_gradients(alike))


def test_inputs_of_unknown_time_keep_their_rows(lifted):
    done = Trained(any_time, "all", train_on_batch, time=2)
    assert_stayed_in_rows(done, lifted)
    assert_same_training(done, with_dense_gradients(any_time, time=2))


def test_levels_read_whole_have_dense_gradients_and_no_warning(lifted):
    done = Trained(one_layer, "auto", train_on_batch)
    (layer,) = done.layers
    assert lifted.of(layer) == [{"dense"}] * 2 + [{"rows"}] * 2
    assert done.warnings == []
    assert_same_training(done, with_dense_gradients(one_layer))


# --- The gradient of a layer that is used more than once -------------------


@pytest.mark.parametrize(
    ("structure", "time", "way"),
    [
        (two_uses, None, "fit"),
        (two_uses, None, "fit, eagerly"),
        (time_distributed, 2, "fit"),
    ],
)
def test_two_uses_lose_no_gradient(structure, time, way, lifted):
    train, compiled = WAYS[way]
    done = Trained(structure, "all", train, time=time, **compiled)
    assert_same_training(done, with_dense_gradients(structure, time))
    if BACKEND == "jax":
        cause = "used 2 times, and JAX adds the gradients"
        assert_became_dense(done, lifted, cause)
    elif BACKEND == "torch":
        assert_stayed_in_rows(done, lifted)
    elif "eagerly" in way:
        cause = "used 2 times, which is summed eagerly"
        assert_became_dense(done, lifted, cause)
    else:
        # Dense where both uses together have as many rows as the level.
        assert lifted.of(done.layers[0]) == [
            {"rows" if 2 * min(BATCH, 2**level) < 2**level else "dense"}
            for level in range(DEPTH + 1)
        ]
        assert done.warnings == []


def test_two_uses_with_batches_of_several_sizes_lose_no_gradient():
    # A step that is compiled anew does not say the cause again.
    def train_unevenly(model, data):
        for x, y in data:
            model.train_on_batch(x, y)
            model.train_on_batch(x[:2], y[:2])

    ours, dense = (
        Trained(two_uses, row_levels, train_unevenly, **compiled)
        for row_levels, compiled in (("all", {}), ("none", QUICK))
    )
    assert len(ours.warnings) == len(set(ours.warnings))
    assert_same_training(ours, dense.numbers())


# --- The gradient becomes dense on its way ---------------------------------


if BACKEND == "jax":

    def test_gradients_that_leave_a_jit_are_used_dense(lifted):
        done = Trained(one_layer, "all", stateless(two_jits))
        assert_same_training(done, with_dense_gradients(one_layer))
        cause = "something came between the backward pass and the optimizer"
        assert_became_dense(done, lifted, cause)
