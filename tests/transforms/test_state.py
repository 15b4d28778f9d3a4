"""Every transform keeps what a layer has beside its variables."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_treegate
from keras_treegate import gates, grow, prune
from keras_treegate.credit import Credit, Route
from keras_treegate.layers import TreeGatedDense
from keras_treegate.transforms.state import copy_saved_state
from tests.transforms import models
from tests.transforms.models import TRANSFORMS, normal

each_transform = pytest.mark.parametrize("transform", TRANSFORMS)


@keras.saving.register_keras_serializable("tests.transforms")
class Tables(layers.Layer):
    """Keeps a number in an asset and another beside its variables."""

    factor = 1.0
    shift = 0.0

    def call(self, x):
        return x * self.factor + self.shift

    def save_own_variables(self, store):
        store["shift"] = np.array(self.shift)

    def load_own_variables(self, store):
        self.shift = float(store["shift"][()])

    def save_assets(self, dir_path):
        text = json.dumps(self.factor)
        (Path(dir_path) / "factor.json").write_text(text)

    def load_assets(self, dir_path):
        text = (Path(dir_path) / "factor.json").read_text()
        self.factor = json.loads(text)


@keras.saving.register_keras_serializable("tests.transforms")
class Holder(layers.Layer):
    """Holds such a layer inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = [Tables()]

    def build(self, shape):
        self.inner[0].build(shape)

    def call(self, x):
        return self.inner[0](x)


def adapted():
    norm = layers.Normalization()
    norm.adapt(normal(64, 6) * 5 + 3)
    return norm


def tables():
    layer = Tables()
    layer.factor, layer.shift = 3.0, -2.0
    return layer


def held():
    layer = Holder()
    layer.inner[0].factor, layer.inner[0].shift = 3.0, -2.0
    return layer


def bins():
    # There are as many bins as inputs: Keras 3.12 tells that as the width.
    layer = layers.Discretization(num_bins=6, output_mode="multi_hot")
    layer.adapt(normal(64, 6) * 5)
    return layer


BESIDE = {
    "normalization": adapted,
    "assets": tables,
    "inside of a layer": held,
    "discretization": bins,
}


@each_transform
@pytest.mark.parametrize("beside", BESIDE)
def test_what_is_in_no_variable_is_kept(transform, beside):
    make, call = TRANSFORMS[transform]
    first = BESIDE[beside]()
    inputs = keras.Input((6,))
    model = keras.Model(inputs, make(3)(first(inputs)))
    models.randomize(keras.Sequential([model.layers[-1]]))
    x = normal(9, 6) * 4 + 3
    before = keras.Model(inputs, model.layers[1].output)
    new = call(model)
    after = keras.Model(new.input, new.layers[1].output)
    expected = models.outputs(before, x)[0]
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(models.outputs(after, x)[0], expected, rtol=1e-6)
    if transform in models.SAME_OUTPUTS:
        models.assert_same_outputs(model, new, x)


@each_transform
@pytest.mark.parametrize("kind", ["subclassed", "nested"])
def test_it_is_kept_in_models_of_other_structure(transform, kind):
    make, call = TRANSFORMS[transform]
    inputs = keras.Input((6,))
    inner = keras.Model(inputs, make(4)(adapted()(inputs)))
    if kind == "nested":
        model = keras.Sequential([keras.Input((6,)), inner, layers.ReLU()])
        old, found = inner, lambda new: new.layers[0]
    else:
        model = Around(inner)
        model(normal(2, 6))
        old, found = model.inner, lambda new: new.inner
    new = found(call(model))
    assert new is not old
    for name in ("mean", "variance"):
        values = [
            keras.ops.convert_to_numpy(getattr(each.layers[1], name))
            for each in (old, new)
        ]
        np.testing.assert_array_equal(*values)
        assert np.all(values[0] != 0)


@keras.saving.register_keras_serializable("tests.transforms")
class Around(keras.Model):
    """A subclassed model that is given a model."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


def test_vocabularies_are_copied():
    lookup = layers.IntegerLookup(max_tokens=10)
    lookup.adapt(np.array([5, 5, 7, 9, 9, 9]))
    words = layers.TextVectorization(max_tokens=10)
    words.adapt(["one two", "two three"])
    for layer in (lookup, words):
        new = type(layer).from_config(layer.get_config())
        assert new.get_vocabulary() != layer.get_vocabulary()
        copy_saved_state(layer, new)
        assert new.get_vocabulary() == layer.get_vocabulary()


def test_a_lookup_in_a_model_is_kept():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, models.tree(3)(inputs))
    holder = Vocabulary()
    holder.lookup.adapt(np.array([5, 5, 7, 9, 9, 9]))
    inputs = keras.Input((6,))
    model = keras.Model(inputs, models.tree(3)(holder(inputs)))
    new = keras_treegate.grow(model, depth=3)
    kept = new.layers[1].lookup.get_vocabulary()
    assert kept == holder.lookup.get_vocabulary()
    assert len(kept) == 4


class Vocabulary(layers.Layer):
    """Has a vocabulary, whatever it does with it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.lookup = layers.IntegerLookup(max_tokens=10)

    def call(self, x):
        return x


@each_transform
def test_lora_and_quantized_layers_around_keep_all_their_weights(transform):
    make, call = TRANSFORMS[transform]
    low, int8 = (
        layers.EinsumDense("ab,bc->ac", 6),
        layers.EinsumDense("ab,bc->ac", 6),
    )
    model = keras.Sequential([keras.Input((6,)), low, int8, make(3)])
    models.randomize(model)
    low.enable_lora(2)
    int8.quantize("int8")
    for factor in (low.lora_kernel_a, low.lora_kernel_b):
        factor.assign(normal(*factor.shape, seed=5))
    new = call(model)
    for name in ("lora_kernel_a", "lora_kernel_b", "_kernel"):
        before, after = getattr(low, name), getattr(new.layers[0], name)
        np.testing.assert_array_equal(before.numpy(), after.numpy())
    assert new.layers[1].quantization_mode == "int8"
    if transform in models.SAME_OUTPUTS:
        models.assert_same_outputs(model, new, normal(9, 6))


@each_transform
def test_the_states_of_seed_generators_are_kept(transform):
    make, call = TRANSFORMS[transform]
    dropout = layers.Dropout(0.5, seed=3)
    model = keras.Sequential([keras.Input((6,)), dropout, make(3)])
    for _ in range(3):
        model(normal(9, 6), training=True)
    new = call(model)
    np.testing.assert_array_equal(
        dropout.seed_generator.state.numpy(),
        new.layers[0].seed_generator.state.numpy(),
    )


@keras.saving.register_keras_serializable("tests.transforms")
class NamedAsTheLayers(gates.Gate):
    """Reads the first inputs, and has a variable named as one of the layer."""

    def build(self, input_shape):
        super().build(input_shape)
        self.unused = self.add_weight(name="bias", shape=(4,), trainable=False)

    def call(self, inputs, training=None, mask=None):
        bits = inputs[..., None, : self.depth] > 0
        bits = ops.repeat(bits, self.num_trees, axis=-2)
        return gates.codes_from_bits(bits)

    def with_depth(self, depth, generator):
        return type(self)()


@keras.saving.register_keras_serializable("tests.transforms")
class Scaled(keras.layers.Layer, Credit):
    """Multiplies the kernels with a variable named as one of the layer."""

    foldable = False

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.factors = self.add_weight(
            name="bias", shape=(4,), trainable=False, initializer="ones"
        )
        self.built = True

    def route(self, gate, source, training, mask=None):
        codes = gate(ops.stop_gradient(source), training=training, mask=mask)
        ones = ops.ones((*ops.shape(codes), gate.depth))
        return Route(codes, self.factors[0] * ones)


@pytest.mark.parametrize("credit", [Scaled, lambda: "straight"])
@pytest.mark.parametrize(
    "transform", [lambda model: grow(model, 3), prune], ids=["grow", "prune"]
)
def test_equal_names_of_parts_are_kept_apart(transform, credit):
    layer = TreeGatedDense(
        4,
        depth=2,
        num_trees=2,
        gate=NamedAsTheLayers(),
        credit=credit(),
        node_initializer="normal",
        activation=keras.layers.Dense(4),
    )
    model = keras.Sequential([keras.Input((8,)), layer])
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    model.compile("sgd", "mse")
    model.fit(x, x[:, :4], verbose=0)
    alike = [one for one in layer.variables if one.name == "bias"]
    for value, variable in enumerate(alike, start=2):
        variable.assign(np.full(variable.shape, float(value)))
    expected = model.predict(x, verbose=0)
    found = transform(model).predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


@keras.saving.register_keras_serializable("tests.transforms")
class MadeLate(Scaled):
    """Has its variables only when somebody has made them."""

    late = None

    @property
    def variables(self):
        return [] if self.late is None else [self.late]


def test_variables_that_cannot_be_copied_are_an_error():
    layer = TreeGatedDense(4, depth=1, num_trees=2, credit=MadeLate())
    model = keras.Sequential([keras.Input((8,)), layer])
    layer.credit.late = keras.Variable(np.ones(4))
    with pytest.raises(ValueError, match="whose copy has none"):
        grow(model, 2)


@pytest.mark.parametrize("transform", [lambda model: grow(model, 3), prune])
def test_the_means_of_reinforce_are_kept(transform):
    layer = TreeGatedDense(4, depth=2, num_trees=2, credit="reinforce")
    model = keras.Sequential([keras.Input((8,)), layer])
    layer.visits.assign(np.ones((2, 4), "int32"))
    layer.credit.moving_means.assign(layer.credit.moving_means + 3.0)
    expected = ops.convert_to_numpy(layer.credit.moving_means)
    found = transform(model).layers[-1].credit.moving_means
    np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)


@keras.saving.register_keras_serializable("tests.transforms")
class Residual(layers.Layer):
    """Makes layers whose names are those in other blocks."""

    def __init__(self, inner="Dense", **kwargs):
        super().__init__(**kwargs)
        self.inner = inner
        options = {}
        if inner == "TreeGatedDense":
            options = {
                "depth": 1,
                "num_trees": 2,
                "gate": gates.SignGate(seed=0),
            }
        self.layer = getattr(
            keras_treegate.layers if options else layers, inner
        )(8, name="inner", **options)

    def build(self, input_shape):
        self.layer.build(input_shape)
        super().build(input_shape)

    def call(self, x):
        return x + self.layer(x)

    def get_config(self):
        return super().get_config() | {"inner": self.inner}


def blocks(inner):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,))
    for name in ("first", "second"):
        x = Residual(inner, name=name)(x)
    return keras.Model(inputs, layers.Dense(1)(x))


def trained(model):
    """Returns the losses of a few epochs."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(32, 8)), draw.normal(size=(32, 1))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    fit = {"batch_size": 8, "epochs": 3, "shuffle": False, "verbose": 0}
    return model.fit(x, y, **fit).history["loss"]


@pytest.mark.parametrize(
    ("inner", "transform"),
    [
        ("Dense", lambda model: keras_treegate.upcycle(model, 0)),
        ("TreeGatedDense", lambda model: grow(model, 1)),
    ],
)
def test_layers_of_one_name_in_two_blocks_train_apart(inner, transform):
    expected = trained(blocks(inner))
    changed = transform(blocks(inner))
    np.testing.assert_allclose(trained(changed), expected, rtol=1e-4)
    paths = [one.path for one in changed.trainable_variables]
    assert len(set(paths)) == len(paths)


def test_a_layer_that_no_transform_changed_is_no_reason_to_refuse(tmp_path):
    inputs = keras.Input((8,))
    tree = TreeGatedDense(4, depth=1, num_trees=2, name="tree")
    model = keras.Model(inputs, tree(Residual("TreeGatedDense")(inputs)))
    grown = grow(model, 2, layers=["tree"])
    grown.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.ones((3, 8), "float32")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), grown.predict(x, verbose=0), rtol=1e-6
    )
    all_grown = grow(model, 2)
    with pytest.raises(ValueError, match="put by a transform"):
        grow(all_grown, 3, layers=["tree"]).save(tmp_path / "model.keras")
