"""Files of a sparse embedding for other runtimes: the same numbers."""

import keras
import numpy as np
import pytest

from keras_treegate.layers import SparseEmbedding
from tests.export import runtimes

ROWS, UNITS, PLACES = 50, 4, 3


def owing_model():
    """Makes a model of an embedding that owes decay, and its tied output."""
    ids = keras.Input((PLACES,), dtype="int32")
    layer = SparseEmbedding(ROWS, UNITS, "normal")
    hidden = keras.layers.Flatten()(layer(ids))
    hidden = keras.layers.Dense(UNITS)(hidden)
    model = keras.Model(ids, layer(hidden, reverse=True))
    layer.table.clock.assign([-1.0, 1e-9])
    stamps = np.random.default_rng(0).uniform(-1, 0, (ROWS, 2))
    layer.table.stamps.assign(stamps)
    return model


@pytest.mark.parametrize("file_format", runtimes.FORMATS)
def test_a_file_computes_what_keras_does(file_format, tmp_path):
    model = owing_model()
    ids = np.random.default_rng(0).integers(-ROWS, ROWS, (7, PLACES))
    ids = ids.astype("int32")
    expected = keras.ops.convert_to_numpy(model(ids))
    path = runtimes.export(model, file_format, tmp_path)
    found = runtimes.run(path, file_format, [ids])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file_format", runtimes.FORMATS)
def test_a_file_takes_ids_of_any_length(file_format, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, SparseEmbedding(ROWS, UNITS, "normal")(ids))
    model(np.zeros((2, 2), "int32"))
    path = runtimes.export(model, file_format, tmp_path)
    # A file of one batch size is of one length, too.
    for length in (1,) if runtimes.is_static(model, file_format) else (1, 5):
        ids = np.random.default_rng(length).integers(0, ROWS, (7, length))
        ids = ids.astype("int32")
        expected = keras.ops.convert_to_numpy(model(ids))
        found = runtimes.run(path, file_format, [ids])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
