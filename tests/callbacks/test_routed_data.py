"""The forms that held-out data may have."""

import keras
import numpy as np
import pytest

from keras_treegate.callbacks import GateEntropy
from keras_treegate.callbacks.routed_data import (
    HeldOutVisits,
    RoutingChurn,
    check_data,
    input_batches,
)
from tests.callbacks.models import WIDTH, data, tree, visits_of

X = np.arange(10.0).reshape(5, 2)
Y = np.ones((5, 1))


class DataSet(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return 3

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


FORMS = {
    "an array": X,
    "inputs and targets": (X, Y),
    "a dictionary": {"x": X},
    "several inputs": [X, X],
    "a PyDataset": DataSet(),
    "batches": [(X[:2], Y[:2]), (X[2:4], Y[2:4]), (X[4:], Y[4:])].__iter__,
}


class Again:
    """Batches that can be gone through more than once."""

    def __init__(self, start):
        self.start = start

    def __iter__(self):
        return self.start()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_inputs_of_batches(form):
    given = FORMS[form]
    given = Again(given) if form == "batches" else given
    check_data("data", given)
    for _ in range(2):
        batches = list(input_batches(given, 2))
        first = [keras.tree.flatten(batch)[0] for batch in batches]
        assert [len(batch) for batch in first] == [2, 2, 1]
        np.testing.assert_array_equal(np.concatenate(first), X)


@pytest.mark.parametrize("given", [iter([X]), (x for x in X), 3.0])
def test_what_can_be_used_once_is_refused(given):
    with pytest.raises(ValueError, match="`data` must be an array, a list or"):
        check_data("data", given)


class Endless(DataSet):
    @property
    def num_batches(self):
        return None


class Repeated(Again):
    """Batches without an end, as `tf.data.Dataset.repeat` makes them."""

    def cardinality(self):
        return np.int64(-1)


ENDLESS = {"a PyDataset": Endless(), "batches": Repeated(lambda: iter(()))}
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    ENDLESS["tf.data"] = tf.data.Dataset.from_tensor_slices(X).batch(2).repeat()


@pytest.mark.parametrize("form", ENDLESS)
@pytest.mark.parametrize("argument", ["data", "probe"])
def test_what_has_no_end_is_refused_at_construction(form, argument):
    match = f"`{argument}` must come to an end.*Received: {argument}="
    with pytest.raises(ValueError, match=match):
        GateEntropy(**{argument: ENDLESS[form]})


def test_data_whose_number_is_not_known_are_taken():
    counted = Again(FORMS["batches"])
    counted.cardinality = lambda: np.int64(-2)
    check_data("data", counted)


class Trains(keras.Model):
    """A model that trains by default, with dropout before its tree."""

    def __init__(self, layer):
        super().__init__()
        self.drop, self.tree = keras.layers.Dropout(0.9, seed=0), layer

    def call(self, inputs, training=True):
        return self.tree(self.drop(inputs, training=training))


def test_data_are_routed_as_at_inference_whatever_the_default():
    layer = tree("tree", depth=3, threshold="running_mean")
    model = Trains(layer)
    x, _ = data()
    model(x)  # trains: the running mean moves
    before = [variable.numpy() for variable in model.variables]
    visits = HeldOutVisits(x, 16).of(model, {"tree": layer})["tree"]
    np.testing.assert_array_equal(visits, visits_of(layer, x))
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)


def test_masked_steps_of_data_are_no_visits_and_have_no_churn():
    layer = tree("tree", depth=2)
    inputs = keras.Input((5, WIDTH))
    model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    x = data(examples=20)[0].reshape(4, 5, WIDTH)
    real = np.arange(5) < np.array([5, 1, 0, 3])[:, None]
    x[~real] = 0
    layers = {"tree": layer}
    visits = HeldOutVisits(x, 3).of(model, layers)["tree"]
    np.testing.assert_array_equal(visits, visits_of(layer, x[real]))
    churn = RoutingChurn(x, 3)
    churn.start(model)
    assert churn.changed(model, layers) == {"tree": 0.0}
    churn.probe = -x  # another path for each real step, none for the padding
    assert churn.changed(model, layers) == {"tree": 1.0}
