"""Models of every structure, made of one kind of layer.

Each function takes `make(units, **kwargs)`, which makes that layer, and returns
a built model and inputs for it.
"""

import keras
import numpy as np
from keras import ops

import keras_treegate
from keras_treegate.transforms.sublayers import descendants
from tests.jit_on_jax import jit_on_jax


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sequential(make):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            make(5, activation="relu", name="first"),
            keras.layers.BatchNormalization(name="norm"),
            make(3, name="second"),
        ]
    )
    return model, normal(7, 6)


def sequential_built_by_data(make):
    model = keras.Sequential([make(5), keras.layers.ReLU(), make(3)])
    model(normal(7, 6))
    return model, normal(7, 6)


def shared_with_two_inputs_and_outputs(make):
    a, b = keras.Input((6,), name="a"), keras.Input((4, 6), name="b")
    shared = make(5, name="shared")
    hidden = keras.ops.max(shared(b), axis=1) + shared(a)
    outputs = {"y": make(2, name="head")(hidden), "hidden": hidden}
    model = keras.Model({"a": a, "b": b}, outputs)
    return model, {"a": normal(7, 6), "b": normal(7, 4, 6, seed=1)}


def nested(make):
    inner = keras.Sequential(
        [keras.Input((6,)), make(6, name="same"), keras.layers.ReLU()],
        name="inner",
    )
    inputs = keras.Input((6,))
    hidden = inner(keras.layers.LayerNormalization()(inputs))
    outputs = make(3, name="same")(inner(hidden))
    return keras.Model(inputs, outputs), normal(7, 6)


def time_distributed(make):
    inputs = keras.Input((4, 6))
    outputs = keras.layers.TimeDistributed(make(3))(inputs)
    return keras.Model(inputs, outputs), normal(7, 4, 6)


def bias_free_in_half_precision(make):
    model = keras.Sequential(
        [keras.Input((6,)), make(5, use_bias=False, dtype="mixed_bfloat16")]
    )
    return model, normal(7, 6)


@keras.saving.register_keras_serializable("tests.transforms")
class Block(keras.layers.Layer):
    """Holds layers in an attribute, made late, and in a list, made early."""

    make = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pair = [Block.make(6), keras.layers.Dropout(0.5)]

    def build(self, shape):
        self.scale = self.add_weight(shape=(6,), initializer="uniform")
        self.norm = keras.layers.LayerNormalization()
        self.norm.build(shape)
        self.project = Block.make(6, name="project")
        self.project.build(shape)
        self.pair[0].build(shape)

    def call(self, x):
        return x + self.pair[1](self.pair[0](self.project(self.norm(x))))


@keras.saving.register_keras_serializable("tests.transforms")
class Subclassed(keras.Model):
    """A head, a block with a layer inside, and a functional model."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.block = Block()
        inputs = keras.Input((6,))
        self.inner = keras.Model(inputs, Block.make(6)(inputs))
        self.head = Block.make(units, name="head")

    def call(self, x):
        return self.head(ops.tanh(self.inner(self.block(x))))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def layer_inside_of_a_layer(make):
    Block.make = staticmethod(make)
    model = keras.Sequential([keras.Input((6,)), Block(), Block()])
    return model, normal(7, 6)


def subclassed(make):
    Block.make = staticmethod(make)
    model = Subclassed(units=2)
    model(normal(7, 6))
    return model, normal(7, 6)


SAVED_WHOLE = {
    function.__name__: function
    for function in (
        sequential,
        sequential_built_by_data,
        shared_with_two_inputs_and_outputs,
        nested,
        time_distributed,
        bias_free_in_half_precision,
    )
}
SAVED_BY_WEIGHTS = {
    function.__name__: function
    for function in (layer_inside_of_a_layer, subclassed)
}
STRUCTURES = SAVED_WHOLE | SAVED_BY_WEIGHTS


def outputs(model, x):
    """Returns the outputs of a model at inference, as float32 arrays."""

    def call(x):
        found = keras.tree.flatten(model(x, training=False))
        return [ops.cast(y, "float32") for y in found]

    return [ops.convert_to_numpy(y) for y in jit_on_jax(call)(x)]


def assert_same_outputs(one, two, x, tolerance=1e-5):
    for first, second in zip(outputs(one, x), outputs(two, x), strict=True):
        np.testing.assert_allclose(
            first, second, rtol=tolerance, atol=tolerance
        )


def randomize(model, seed=0):
    """Draws all float weights anew, those of layers like `TreeGatedDense` too.

    Clocks, stamps and moving means are left alone.
    """
    random = np.random.default_rng(seed)
    for variable in model.variables:
        spared = ("clock", "stamps", "moving", "updates")
        if "float" in variable.dtype and not variable.name.startswith(spared):
            variable.assign(random.normal(size=variable.shape))


def values(model):
    """Returns all that a model holds, to tell later whether it is the same."""
    return [variable.numpy().copy() for variable in model.variables]


def assert_unchanged(model, before):
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def assert_nothing_shared(one, two):
    ids = {id(variable) for variable in one.variables}
    assert not ids & {id(variable) for variable in two.variables}


def tree(units, **kwargs):
    """Returns a small tree layer, which prunes with counts of its own."""
    arguments = {"depth": 2, "num_trees": 2, "seed": 0, **kwargs}
    return keras_treegate.layers.TreeGatedDense(units, **arguments)


def pruned(model):
    """Prunes the last leaf of each tree, which no example visited."""
    layers = [
        layer
        for layer in descendants(model)
        if isinstance(layer, keras_treegate.layers.TreeGatedDense)
    ]
    visits = {
        layer.name: np.eye(2**layer.depth, dtype=int)[:3].sum(axis=0)
        + np.zeros((layer.num_trees, 1), int)
        for layer in layers
    }
    return keras_treegate.prune(model, visits=visits)


# For each transform the layers it is for, and what it does to a model.
TRANSFORMS = {
    "fold": (tree, keras_treegate.fold),
    "grow": (tree, lambda model: keras_treegate.grow(model, depth=3)),
    "prune": (tree, pruned),
    "upcycle": (
        keras.layers.Dense,
        lambda model: keras_treegate.upcycle(model, depth=2, seed=0),
    ),
}
# Those that keep all outputs, and not only those of visited leaves.
SAME_OUTPUTS = [name for name in TRANSFORMS if name != "prune"]
