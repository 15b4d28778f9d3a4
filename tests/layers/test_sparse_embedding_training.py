"""A sparse embedding trains as dense embeddings do, and touches fewer rows."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate import backend
from keras_treegate.layers import SparseEmbedding
from keras_treegate.optimizers import LossScaleOptimizer
from tests.layers.embeddings import (
    BATCH,
    PLACES,
    ROWS,
    UNITS,
    OneHotEmbedding,
    make_model,
    rows_of,
    table,
    targets,
    zipf_ids,
)
from tests.optimizers.rules import DECAY, RATE, RULES

BACKEND = keras.backend.backend()
STEPS = 2000
# A few steps run fastest without compiling, but under JAX.
QUICK = {"run_eagerly": BACKEND != "jax"}


def cosine():
    return keras.optimizers.schedules.CosineDecay(RATE, STEPS, alpha=0.01)


def fit(model, steps):
    ids, y = zipf_ids(steps * BATCH), targets(steps * BATCH)
    model.fit(ids, y, batch_size=BATCH, shuffle=False, verbose=0)
    return rows_of(model)


@pytest.mark.parametrize("rule", ["SGD", "Adagrad"])
def test_thousands_of_steps_equal_dense_training_by_keras(rule):
    rule = RULES[rule]
    options = {"weight_decay": DECAY}
    ours = rule.make(learning_rate=cosine(), **options)
    stock = rule.make_stock(learning_rate=cosine(), **options)
    found = fit(make_model(SparseEmbedding, ours), STEPS)
    expected = fit(make_model(OneHotEmbedding, stock), STEPS)
    # Each row was idle for some steps, and some for nearly all.
    assert np.abs(expected - table()).max(axis=1).min() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "rule",
    ["SGD with momentum", "SGD with Nesterov", "Adam", "Adagrad, rowwise"],
)
def test_every_rule_is_the_documented_one(rule):
    steps, rule = 12, RULES[rule]
    model = make_model(SparseEmbedding, rule.make(weight_decay=DECAY), **QUICK)
    found = fit(model, steps)
    oracle = rule.make_oracle([table()], weight_decay=DECAY)
    (rows,) = oracle.weights
    ids, y = zipf_ids(steps * BATCH), targets(steps * BATCH)
    for step in range(steps):
        now = slice(step * BATCH, (step + 1) * BATCH)
        change = 2 * (rows[ids[now]] - y[now]) / y[now].size
        gradient = np.zeros_like(rows)
        np.add.at(gradient, ids[now], change)
        oracle.apply([gradient], RATE)
    np.testing.assert_allclose(found, rows, rtol=0, atol=1e-5)


def test_other_optimizers_train_it_as_dense_embeddings():
    stock = functools.partial(keras.optimizers.AdamW, weight_decay=DECAY)
    found = fit(make_model(SparseEmbedding, stock(RATE), **QUICK), 5)
    expected = fit(make_model(OneHotEmbedding, stock(RATE), **QUICK), 5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_stock_optimizer_after_a_step_aware_one_finds_no_debt():
    def both(kind, first):
        model = make_model(kind, first, **QUICK)
        ids, y = zipf_ids(2 * BATCH), targets(2 * BATCH)
        model.train_on_batch(ids[:BATCH], y[:BATCH])
        model.compile(keras.optimizers.SGD(RATE), "mse", **QUICK)
        model.train_on_batch(ids[BATCH:], y[BATCH:])
        return rows_of(model)

    rule = RULES["SGD"]
    found = both(SparseEmbedding, rule.make(weight_decay=DECAY))
    expected = both(OneHotEmbedding, rule.make_stock(weight_decay=DECAY))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# --- What a step touches ---------------------------------------------------


def test_the_gradient_is_the_rows_looked_up_and_no_other_row_changes(lifted):
    optimizer = RULES["Adam"].make(weight_decay=DECAY)
    model = make_model(SparseEmbedding, optimizer, **QUICK)
    layer = model.layers[0]
    ids = np.array([[5, 9], [9, 9], [59, 0], [5, 5]])
    before = rows_of(model)
    model.train_on_batch(ids, targets(BATCH))
    used = np.isin(np.arange(ROWS), ids)
    assert lifted[layer.embeddings.path] == {"rows"}
    np.testing.assert_array_equal(rows_of(model)[~used], before[~used])
    assert np.all(np.any(rows_of(model)[used] != before[used], axis=1))
    # The others owe the decay, and are read so.
    read = ops.convert_to_numpy(layer(np.arange(ROWS)))
    owed = before[~used] * (1 - RATE * DECAY)
    np.testing.assert_allclose(read[~used], owed, rtol=1e-6)


def test_a_gradient_has_no_more_rows_than_ids(monkeypatch):
    found = []
    as_row_gradient = backend.as_row_gradient

    def listening(gradient, variable):
        result = as_row_gradient(gradient, variable)
        found.append(result[0])
        return result

    monkeypatch.setattr(backend, "as_row_gradient", listening)
    model = make_model(SparseEmbedding, RULES["SGD"].make(), **QUICK)
    ids = zipf_ids(BATCH)
    model.train_on_batch(ids, targets(BATCH))
    (gradient,) = found
    rows, units = gradient.rows.shape
    assert len(np.unique(ids)) <= rows <= BATCH * PLACES
    assert units == UNITS
    assert gradient.num_rows == ROWS


def test_a_table_of_few_rows_is_trained_whole(lifted):
    layer = SparseEmbedding(BATCH, UNITS)
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    model.compile(RULES["SGD"].make(), "mse", **QUICK)
    model.train_on_batch(np.zeros((BATCH, 1), "int32"), targets(BATCH)[:, :1])
    assert lifted[layer.embeddings.path] == {"dense"}


def test_the_order_of_equal_ids_does_not_matter():
    random = np.random.default_rng(0)
    ids, y, trained = zipf_ids(BATCH), targets(BATCH), []
    for order in np.arange(BATCH), random.permutation(BATCH):
        model = make_model(SparseEmbedding, RULES["Adagrad"].make(), **QUICK)
        model.train_on_batch(ids[order], y[order])
        trained.append(rows_of(model))
    assert len(np.unique(ids)) < ids.size
    np.testing.assert_allclose(*trained, rtol=0, atol=1e-6)


# --- Structures ------------------------------------------------------------


def two_uses(kind):
    layer = kind(ROWS, UNITS, name="embedding")
    ids = keras.Input((PLACES,), dtype="int32")
    return keras.Model(ids, layer(ids) + 0.5 * layer((ids + 1) % ROWS))


def tied(kind):
    layer = kind(ROWS, UNITS, name="embedding")
    ids = keras.Input((PLACES,), dtype="int32")
    return keras.Model(ids, layer(layer(ids), reverse=True))


def of_any_length(kind):
    layer = kind(ROWS, UNITS, name="embedding")
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, layer(ids))


def remat(kind):
    with keras.RematScope(mode="full"):
        layer = kind(ROWS, UNITS, name="embedding")
    ids = keras.Input((PLACES,), dtype="int32")
    return keras.Model(ids, layer(ids))


STRUCTURES = {f.__name__: f for f in (two_uses, tied, of_any_length, remat)}
LOST = {
    "jax": {"two_uses": "is used 2 times", "tied": "a use of the whole table"},
    "tensorflow": {"tied": "a use of the whole table"},
    "torch": {},
}[BACKEND]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_use_of_a_layer_is_trained(structure, recwarn):
    rule, trained = RULES["Adagrad"], []
    for kind, make in (
        (SparseEmbedding, rule.make),
        (OneHotEmbedding, rule.make_stock),
    ):
        model = STRUCTURES[structure](kind)
        model.get_layer("embedding").embeddings.assign(table())
        model.compile(make(weight_decay=DECAY), "mse", jit_compile=False)
        y = targets(3 * BATCH)
        if structure == "tied":
            y = np.repeat(y, ROWS // UNITS, axis=-1)
        ids = zipf_ids(3 * BATCH)
        model.fit(ids, y, batch_size=BATCH, shuffle=False, verbose=0)
        trained.append(rows_of(model))
    np.testing.assert_allclose(*trained, rtol=0, atol=1e-5)
    causes = [str(w.message) for w in recwarn if "is dense" in str(w.message)]
    assert len(causes) == (structure in LOST)
    assert all(LOST[structure] in cause for cause in causes)


# --- Mixed precision -------------------------------------------------------


def test_mixed_precision_trains_a_table_of_float32(lifted):
    trained = []
    for kind in (SparseEmbedding, OneHotEmbedding):
        with_policy = functools.partial(kind, dtype="mixed_float16")
        optimizer = LossScaleOptimizer(RULES["SGD"].make(weight_decay=DECAY))
        model = make_model(with_policy, optimizer, **QUICK)
        trained.append(fit(model, 3))
    assert model.layers[0].embeddings.dtype == "float32"
    found, expected = trained
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    assert np.abs(found - table()).max() > 0.01
    assert {"rows"} in lifted.values()
