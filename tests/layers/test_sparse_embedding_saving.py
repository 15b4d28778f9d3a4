"""Files of sparse embeddings are those of `keras.layers.Embedding`."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_treegate.layers import SparseEmbedding
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD
from tests.layers.embeddings import (
    BATCH,
    PLACES,
    make_model,
    rows_of,
    table,
    targets,
    zipf_ids,
)
from tests.layers.read_embeddings import model_of, outputs_of_files

BACKEND = keras.backend.backend()
QUICK = {"run_eagerly": BACKEND != "jax"}


@pytest.fixture(scope="module", name="folder")
def a_folder_with_files(tmp_path_factory):
    """Returns files of an embedding whose rows owe decay, and its outputs."""
    folder = tmp_path_factory.mktemp("embeddings")
    model = model_of(SparseEmbedding)
    layer = model.layers[0].words
    layer.embeddings.assign(table())
    layer.table.clock.assign([-0.7, 1e-9])
    random = np.random.default_rng(0)
    layer.table.stamps.assign(random.uniform(-0.3, 0, layer.table.stamps.shape))
    expected = model.predict(zipf_ids(50), verbose=0)
    whole = keras.Sequential([keras.Input((PLACES,), dtype="int32"), layer])
    whole.save(folder / "model.keras")
    model.save_weights(folder / "sparse.weights.h5")
    assert np.any(layer.table.clock.numpy())  # saving pays nothing itself
    dense = model_of(keras.layers.Embedding)
    layer.settle()
    dense.layers[0].words.set_weights([layer.embeddings.numpy()])
    dense.save_weights(folder / "dense.weights.h5")
    np.save(folder / "expected.npy", expected)
    return folder


def assert_as_expected(folder, found):
    expected = np.load(folder / "expected.npy")
    assert len(found) == 5
    for name in found:
        np.testing.assert_allclose(
            found[name], expected, rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_weights_go_from_one_kind_to_the_other(folder):
    assert_as_expected(folder, outputs_of_files(folder))


def test_another_backend_reads_the_files(folder):
    # Each reads those of one other: what it computes is what is expected.
    others = ["tensorflow", "jax", "torch"] * 2
    backend = others[others.index(BACKEND) + 1]
    done = subprocess.run(
        [sys.executable, "-m", "tests.layers.read_embeddings", folder],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / f"{backend}.npz") as found:
        assert_as_expected(folder, {name: found[name] for name in found.files})


def test_training_goes_on_from_a_file_that_owed_decay(tmp_path):
    def train(model, batches):
        for step in batches:
            now = slice(step * BATCH, (step + 1) * BATCH)
            ids, y = zipf_ids(4 * BATCH)[now], targets(4 * BATCH)[now]
            model.train_on_batch(ids, y)
        return model

    optimizer = StepAwareAdam(0.05, weight_decay=0.1)
    model = train(make_model(SparseEmbedding, optimizer, **QUICK), range(2))
    assert np.any(model.layers[0].table.clock.numpy())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = QUICK["run_eagerly"]
    found = []
    for each in (model, loaded):
        train(each, range(2, 4)).layers[0].settle()
        found.append(rows_of(each))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-6)


def test_a_file_of_another_shape_is_refused(folder):
    other = model_of(SparseEmbedding, rows=7)
    before = other.layers[0].words.embeddings.numpy()
    with pytest.raises(ValueError, match=r"must have the shape \(7, 3\)"):
        other.load_weights(folder / "dense.weights.h5")
    after = other.layers[0].words.embeddings.numpy()
    np.testing.assert_array_equal(after, before)


def test_the_end_of_fit_leaves_no_debt():
    optimizer = StepAwareSGD(0.05, weight_decay=0.1)
    model = make_model(SparseEmbedding, optimizer, **QUICK)
    model.fit(zipf_ids(BATCH), targets(BATCH), verbose=0)
    assert not np.any(model.layers[0].table.clock.numpy())
    idle = np.setdiff1d(np.arange(len(table())), zipf_ids(BATCH))
    expected = table()[idle] * (1 - 0.05 * 0.1)
    np.testing.assert_allclose(rows_of(model)[idle], expected, rtol=1e-6)
