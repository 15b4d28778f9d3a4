"""Objects of the user's own go from one layer to another as they are."""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_treegate
from keras_treegate.transforms.configs import live_config, remade
from tests.transforms import models
from tests.transforms.models import SAME_OUTPUTS, TRANSFORMS, normal

each_transform = pytest.mark.parametrize("transform", TRANSFORMS)


class Halves(keras.initializers.Initializer):
    """Is registered nowhere, and takes an argument."""

    def __init__(self, size):
        self.size = size

    def __call__(self, shape, dtype=None):
        return ops.full(shape, self.size / 2, dtype=dtype)


class Callable:
    """Has neither a name nor a config."""

    def __call__(self, shape, dtype=None):
        return ops.ones(shape, dtype=dtype)


def ones(shape, dtype=None):
    """Returns threes, under the name of an initializer of Keras."""
    return ops.full(shape, 3.0, dtype=dtype)


def lambda_without_source():
    return eval("lambda shape, dtype=None: ops.ones(shape)", {"ops": ops})


INITIALIZERS = {
    "lambda": lambda: lambda shape, dtype=None: ops.ones(shape, dtype=dtype),
    "lambda without source": lambda_without_source,
    "partial": lambda: functools.partial(ones),
    "class": lambda: Halves(3.0),
    "callable": Callable,
    "misleading name": lambda: ones,
}


@each_transform
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initializers_of_any_kind_are_handed_over(initializer, transform):
    make, call = TRANSFORMS[transform]
    given = INITIALIZERS[initializer]()
    names = ["kernel_initializer", "bias_initializer"]
    if transform != "upcycle":
        names.append("node_initializer")
    layer = make(3, **dict.fromkeys(names, given))
    beside = layers.EinsumDense("ab,bc->ac", 6, kernel_initializer=given)
    model = keras.Sequential([keras.Input((6,)), beside, layer])
    models.randomize(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        new = call(model)
    assert beside.kernel_initializer is given
    kept, new_layer = new.layers
    assert kept.kernel_initializer is given
    if transform != "fold":
        for name in names:
            assert getattr(layer, name) is given
            assert getattr(new_layer, name) is given
    if transform in SAME_OUTPUTS:
        models.assert_same_outputs(model, new, normal(9, 6))


@each_transform
def test_other_objects_of_ones_own_are_handed_over(transform):
    make, call = TRANSFORMS[transform]

    class Small(keras.regularizers.Regularizer):
        def __call__(self, x):
            return 0.5 * ops.sum(ops.abs(x))

    class Positive(keras.constraints.Constraint):
        def __call__(self, w):
            return ops.maximum(w, 0)

    def relu(x):  # named as another
        return ops.abs(x)

    small, positive = Small(), Positive()
    layer = make(
        3,
        activation=relu,
        activity_regularizer=small,
        bias_regularizer=small,
        bias_constraint=positive,
    )
    shift = layers.Lambda(lambda x: x + 1)
    model = keras.Sequential(
        [keras.Input((6,)), layer, layers.Activation(relu), shift]
    )
    models.randomize(model)
    new = call(model)
    kept = new.layers[0]
    assert kept.activation is relu
    assert kept.activity_regularizer is small
    assert new.layers[1].activation is relu
    assert new.layers[2].function is shift.function
    if transform != "fold":
        assert kept.bias_regularizer is small
        assert kept.bias_constraint is positive
    if transform in SAME_OUTPUTS:
        models.assert_same_outputs(model, new, normal(9, 6))


@each_transform
def test_an_activation_with_weights_is_copied(transform):
    make, call = TRANSFORMS[transform]
    layer = make(3, activation=layers.PReLU())
    beside = layers.EinsumDense("ab,bc->ac", 6, activation=layers.PReLU())
    model = keras.Sequential([keras.Input((6,)), beside, layer])
    model.predict(normal(9, 6), verbose=0)  # which makes their weights
    models.randomize(model)
    new = call(model)
    for old, kept in zip(model.layers, new.layers, strict=True):
        np.testing.assert_array_equal(
            old.activation.alpha.numpy(), kept.activation.alpha.numpy()
        )
    models.assert_nothing_shared(model, new)
    if transform in SAME_OUTPUTS:
        models.assert_same_outputs(model, new, normal(9, 6))


@each_transform
def test_a_dtype_policy_of_ones_own_is_handed_over(transform):
    make, call = TRANSFORMS[transform]

    class Policy(keras.DTypePolicy):
        pass

    policy = Policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((6,)), make(3, dtype=policy)])
    assert type(call(model).layers[0].dtype_policy) is Policy


def test_a_config_is_that_of_keras_but_for_objects():
    layer = layers.Dense(3, activation="relu", kernel_regularizer="l2")
    config = live_config(layer)
    assert config["units"] == 3
    assert config == layer.get_config()
    assert remade(layer, units=5).units == 5


def test_a_class_that_takes_only_serialized_forms_is_made_from_them():
    inner = layers.Dense(3)
    new = remade(layers.TimeDistributed(inner))
    assert type(new.layer) is layers.Dense
    assert new.layer is not inner


OTHERS = {
    "grow": lambda m: keras_treegate.grow(m, depth=4, layers="other"),
    "prune": lambda m: keras_treegate.prune(m, layers="other"),
    "upcycle": lambda m: keras_treegate.upcycle(m, depth=2, layers="dense"),
}


@pytest.mark.parametrize("transform", OTHERS)
def test_the_visits_of_other_layers_are_kept(transform):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            models.tree(4, name="counts"),
            models.tree(4, name="other", depth=3),
            layers.Dense(3, name="dense"),
        ]
    )
    model(normal(9, 6), training=True)
    new = OTHERS[transform](model)
    old = model.layers[0]
    assert old.leaf_visits.sum() == 18
    np.testing.assert_array_equal(new.layers[0].leaf_visits, old.leaf_visits)
