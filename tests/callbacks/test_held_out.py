"""The forms that held-out data may have."""

import keras
import numpy as np
import pytest

from keras_treegate.callbacks import held_out

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
    held_out.check("data", given)
    for _ in range(2):
        batches = list(held_out.batches(given, 2))
        first = [keras.tree.flatten(batch)[0] for batch in batches]
        assert [len(batch) for batch in first] == [2, 2, 1]
        np.testing.assert_array_equal(np.concatenate(first), X)


@pytest.mark.parametrize("given", [iter([X]), (x for x in X), 3.0])
def test_what_can_be_used_once_is_refused(given):
    with pytest.raises(ValueError, match="`data` must be an array, a list or"):
        held_out.check("data", given)
