"""A model whose file would not load refuses to be saved, and says why."""

import copy

import keras
import pytest
from keras import layers

import keras_treegate
from tests.transforms import models
from tests.transforms.models import TRANSFORMS

REFUSED = r"(?s)configs tell of all.*Received: '.*put by a transform.*save_weig"


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("structure", models.SAVED_BY_WEIGHTS)
def test_what_could_not_be_loaded_is_not_saved(structure, transform, tmp_path):
    make, call = TRANSFORMS[transform]
    model, x = models.STRUCTURES[structure](make)
    models.randomize(model)
    new = call(model)
    for name in ("new.keras", "new.h5"):
        with pytest.raises(ValueError, match=REFUSED):
            new.save(tmp_path / name)
    for through_config in (new.to_json, lambda: copy.deepcopy(new)):
        with pytest.raises(ValueError, match=REFUSED):
            through_config()
    new.save_weights(tmp_path / "new.weights.h5")
    again = call(model)
    models.randomize(again, seed=4)
    again.load_weights(tmp_path / "new.weights.h5")
    models.assert_same_outputs(new, again, x)


def test_the_old_model_can_be_saved_as_before(tmp_path):
    model, x = models.layer_inside_of_a_layer(layers.Dense)
    keras_treegate.upcycle(model, depth=2)
    model.save(tmp_path / "old.keras")
    loaded = keras.models.load_model(tmp_path / "old.keras")
    models.assert_same_outputs(model, loaded, x)


def test_a_model_that_refuses_is_transformed_further(tmp_path):
    model, x = models.subclassed(layers.Dense)
    models.randomize(model)
    new = keras_treegate.upcycle(model, depth=2, num_trees=2, seed=0)
    deeper = keras_treegate.grow(new, depth=3)
    some = keras_treegate.grow(deeper, depth=4, layers="head")
    folded = keras_treegate.fold(some)
    for each in (deeper, some, folded):
        models.assert_same_outputs(model, each, x)
    for each in (new, deeper, some, folded):
        with pytest.raises(ValueError, match=REFUSED):
            each.save(tmp_path / "new.keras")
    assert (some.head.depth, some.block.project.depth) == (4, 3)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("structure", models.SAVED_WHOLE)
def test_what_can_be_loaded_is_saved(structure, transform, tmp_path):
    make, call = TRANSFORMS[transform]
    model, x = models.STRUCTURES[structure](make)
    new = call(model)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(new, loaded, x)


@keras.saving.register_keras_serializable("tests.transforms")
class Given(layers.Layer):
    """Is given the layer inside, and tells of it in its config."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_layer_whose_config_tells_of_the_new_one_is_saved(
    transform, tmp_path
):
    make, call = TRANSFORMS[transform]
    model = keras.Sequential([keras.Input((6,)), Given(make(4))])
    models.randomize(model)
    new = call(model)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(new, loaded, models.normal(9, 6))
