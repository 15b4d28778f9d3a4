"""Models of layers whose class is the user's own keep it, and its methods."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_treegate
from keras_treegate.transforms.sublayers import descendants
from tests.transforms import models
from tests.transforms.models import SAME_OUTPUTS, TRANSFORMS, normal

each_transform = pytest.mark.parametrize("transform", TRANSFORMS)
make = None  # the layers that `Backbone` and the others are made of


class Mixer(layers.Layer):
    """Makes the layers inside of it when it is built."""

    def build(self, shape):
        self.up = make(8, activation="relu", name="up")
        self.up.build(shape)
        self.down = make(shape[-1], name="down")
        self.down.build((*shape[:-1], 8))
        super().build(shape)

    def call(self, x):
        return x + self.down(self.up(x))


class Embedding(layers.Embedding):
    """Also turns hidden states into logits, as those of language models do."""

    def call(self, inputs, reverse=False):
        if reverse:
            return ops.matmul(inputs, ops.transpose(self.embeddings))
        return super().call(inputs)

    def compute_output_spec(self, inputs, reverse=False):
        size = self.input_dim if reverse else self.output_dim
        shape = inputs.shape[:-1] if reverse else inputs.shape
        return keras.KerasTensor((*shape, size), dtype=self.compute_dtype)


class Backbone(keras.Model):
    """Makes its layers itself, keeps them in attributes and connects them."""

    def __init__(self, num_layers, hidden_dim, pooled=False, **kwargs):
        token_embedding = Embedding(11, hidden_dim, name="token_embedding")
        mixers = [Mixer(name=f"mixer_{n}") for n in range(num_layers)]
        ids = keras.Input((None,), dtype="int32", name="ids")
        x = token_embedding(ids)
        for mixer in mixers:
            x = mixer(x)
        pool = make(hidden_dim, name="pool") if pooled else None
        if pooled:
            x = pool(x)
        super().__init__(inputs=ids, outputs=x, **kwargs)
        self.token_embedding = token_embedding
        self.mixers = mixers
        self.pool = pool
        self.num_layers, self.hidden_dim = num_layers, hidden_dim
        self.cached = None

    def get_config(self):
        return {
            "name": self.name,
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "pooled": self.pool is not None,
        }


class Preprocessor(layers.Layer):
    """Has a vocabulary that is saved as an asset."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = []

    def call(self, x):
        return x

    def save_assets(self, dir_path):
        with open(f"{dir_path}/words.txt", "w") as file:
            file.write("\n".join(self.words))

    def load_assets(self, dir_path):
        with open(f"{dir_path}/words.txt") as file:
            self.words = file.read().split("\n")


class LanguageModel(keras.Model):
    """Is made around a backbone, one layer of which it calls once more."""

    def __init__(self, backbone, preprocessor=None, **kwargs):
        ids = backbone.input
        logits = backbone.token_embedding(backbone(ids), reverse=True)
        super().__init__(inputs=ids, outputs=logits, **kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.compile()

    def generate(self, ids):
        """Appends the best next token, layer by layer."""
        x = self.backbone.token_embedding(ids)
        for mixer in self.backbone.mixers:
            x = mixer(x)
        if self.backbone.pool is not None:
            x = self.backbone.pool(x)
        logits = self.backbone.token_embedding(x, reverse=True)
        return ops.convert_to_numpy(logits)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "backbone": serialize(self.backbone),
            "preprocessor": serialize(self.preprocessor),
        }

    @classmethod
    def from_config(cls, config):
        for name in ("backbone", "preprocessor"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


for each in (Mixer, Embedding, Backbone, Preprocessor, LanguageModel):
    keras.saving.register_keras_serializable("tests.graphs")(each)


IDS = np.random.default_rng(0).integers(0, 11, size=(3, 5)).astype("int32")


@pytest.fixture
def transformed(request, monkeypatch):
    layer, call = TRANSFORMS[request.param]
    monkeypatch.setitem(globals(), "make", layer)
    return request.param, call


each_call = pytest.mark.parametrize("transformed", TRANSFORMS, indirect=True)


@each_call
@pytest.mark.parametrize("pooled", [False, True])
def test_a_model_that_makes_its_layers_keeps_its_class(transformed, pooled):
    transform, call = transformed
    model = Backbone(2, 6, pooled=pooled)
    models.randomize(model)
    before = models.values(model)
    new = call(model)
    assert type(new) is Backbone
    assert new.mixers == [new.get_layer("mixer_0"), new.get_layer("mixer_1")]
    assert new.token_embedding is new.get_layer("token_embedding")
    if pooled:
        assert new.pool is new.get_layer("pool")
    kinds = {type(layer).__name__ for layer in descendants(new)}
    old_kind = type(model.mixers[0].up).__name__
    assert kinds & {"TreeGatedDense", "FoldedTreeDense"}
    assert (old_kind in kinds) == (transform in ("grow", "prune"))
    if transform in SAME_OUTPUTS:
        models.assert_same_outputs(model, new, IDS)
    models.assert_unchanged(model, before)
    models.assert_nothing_shared(model, new)


@each_call
@pytest.mark.parametrize("pooled", [False, True])
def test_a_model_around_such_a_model_keeps_its_methods(transformed, pooled):
    transform, call = transformed
    preprocessor = Preprocessor()
    preprocessor.words = ["a", "b"]
    model = LanguageModel(Backbone(1, 6, pooled=pooled), preprocessor)
    models.randomize(model)
    new = call(model)
    assert type(new) is LanguageModel
    assert type(new.backbone) is Backbone
    assert new.preprocessor is not preprocessor
    assert new.preprocessor.words == ["a", "b"]
    models.assert_nothing_shared(model, new)
    expected = ops.convert_to_numpy(new(IDS))  # eagerly, too
    np.testing.assert_allclose(
        new.generate(IDS), expected, rtol=1e-5, atol=1e-5
    )
    if transform in SAME_OUTPUTS:
        models.assert_same_outputs(model, new, IDS)


@each_call
def test_such_a_model_refuses_to_be_saved_whole(transformed, tmp_path):
    _, call = transformed
    model = LanguageModel(Backbone(1, 6))
    models.randomize(model)
    new = call(model)
    with pytest.raises(ValueError, match=r"Received: 'language_model"):
        new.save(tmp_path / "new.keras")
    new.save_weights(tmp_path / "new.weights.h5")
    again = call(model)
    models.randomize(again, seed=3)
    again.load_weights(tmp_path / "new.weights.h5")
    models.assert_same_outputs(new, again, IDS)


@each_call
def test_such_a_model_trains_and_is_transformed_further(transformed):
    _, call = transformed
    model = LanguageModel(Backbone(1, 6, pooled=True))
    models.randomize(model)
    new = call(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    new.compile(keras_treegate.optimizers.StepAwareAdam(0.01), loss)
    before = models.values(new)
    new.fit(IDS, IDS, verbose=0)
    changes = [
        np.any(variable.numpy() != value)
        for variable, value in zip(new.variables, before, strict=True)
    ]
    assert any(changes)
    if call is TRANSFORMS["fold"][1]:
        return
    folded = keras_treegate.fold(new)
    assert type(folded) is LanguageModel
    models.assert_same_outputs(new, folded, IDS)


@keras.saving.register_keras_serializable("tests.graphs")
class Weighted(keras.Model):
    """Is given its graph, and one thing more."""

    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor

    def weighted(self, x):
        return self.factor * ops.convert_to_numpy(self(x))

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("tests.graphs")
class Stack(keras.Sequential):
    def twice(self, x):
        return 2 * ops.convert_to_numpy(self(x))


@each_transform
def test_a_class_that_is_given_its_graph_is_kept(transform, tmp_path):
    layer, call = TRANSFORMS[transform]
    inputs = keras.Input((6,))
    model = Weighted(inputs, layer(3)(inputs), factor=2.5)
    models.randomize(model)
    new = call(model)
    assert type(new) is Weighted
    x = normal(9, 6)
    expected = 2.5 * ops.convert_to_numpy(new(x))  # eagerly, too
    np.testing.assert_allclose(new.weighted(x), expected, rtol=1e-5)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_allclose(loaded.weighted(x), expected, rtol=1e-5)


@each_transform
def test_a_stack_of_ones_own_is_kept(transform):
    layer, call = TRANSFORMS[transform]
    model = Stack([keras.Input((6,)), layer(3), layers.ReLU()])
    model.first = model.layers[0]
    models.randomize(model)
    new = call(model)
    assert type(new) is Stack
    assert new.name == model.name
    x = normal(9, 6)
    np.testing.assert_allclose(
        new.twice(x), 2 * ops.convert_to_numpy(new(x)), rtol=1e-6
    )
    if transform in SAME_OUTPUTS:
        models.assert_same_outputs(model, new, x)


@each_transform
def test_an_attribute_that_names_a_layer_names_the_new_one(transform):
    layer, call = TRANSFORMS[transform]
    model = keras.Sequential([keras.Input((6,)), layer(3), layers.ReLU()])
    model.head = model.layers[0]
    new = call(model)
    assert new.head is new.layers[0]
    assert type(new) is keras.Sequential


class WithoutConfig(keras.Model):
    """Makes its graph from an argument that its config does not tell."""

    def __init__(self, units):
        inputs = keras.Input((6,))
        self_made = make(units)
        super().__init__(inputs=inputs, outputs=self_made(inputs))


class StackWithoutConfig(keras.Sequential):
    def __init__(self, units):
        super().__init__([keras.Input((6,)), make(units)])


@each_call
@pytest.mark.parametrize("kind", [WithoutConfig, StackWithoutConfig])
def test_a_class_that_cannot_be_made_again_is_refused(transformed, kind):
    _, call = transformed
    model = kind(3)
    before = models.values(model)
    match = rf"(?s)`model` must be.*{kind.__name__}.*model.backbone = .*get_con"
    with pytest.raises(ValueError, match=match):
        call(model)
    models.assert_unchanged(model, before)
