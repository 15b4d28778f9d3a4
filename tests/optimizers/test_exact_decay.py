"""Decay that waits until a row is needed is decay in every step.

A layer is trained for 2,000 steps, in which rows sleep for hundreds, by a
step-aware optimizer and by Keras's own dense one.
"""

import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD
from tests.optimizers import feeding
from tests.optimizers.routing import (
    inputs_for,
    make_layer,
    make_model,
    zipf_codes,
)
from tests.optimizers.rules import RULES

BATCH, TREES, DEPTH = 2, 1, 2
EPOCHS, STEPS_PER_EPOCH, SAVED_AFTER = 8, 250, 6
STEPS = EPOCHS * STEPS_PER_EPOCH
RATE, DECAY = 0.05, 0.1


@keras.saving.register_keras_serializable("tests")
class ConstantThenCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Constant for half of the steps."""

    def __call__(self, step):
        done = ops.cast(step, "float32") / STEPS
        angle = np.pi * ops.maximum(2 * done - 1, 0.0)
        return RATE * (1 + ops.cos(angle)) / 2

    def get_config(self):
        return {}


SCHEDULES = {
    "constant": RATE,
    "cosine": keras.optimizers.schedules.CosineDecay(RATE, STEPS, alpha=0.01),
    "constant, then cosine": ConstantThenCosine(),
}
each_case = pytest.mark.parametrize(
    ("rule", "schedule"),
    [
        ("SGD", "constant"),
        ("SGD", "cosine"),
        ("Adagrad", "constant, then cosine"),
    ],
)


@functools.cache
def data():
    """Returns codes, inputs and targets of all steps, in order."""
    random = np.random.default_rng(0)
    codes = zipf_codes(random, STEPS * BATCH, TREES, DEPTH, power=4.0)
    x = inputs_for(random, codes, DEPTH)
    y = random.normal(size=(len(x), 1)).astype("float32")
    return codes, x, y


@functools.cache
def probe():
    """Returns inputs and targets for each of the leaves."""
    codes = np.arange(2**DEPTH)[:, None]
    random = np.random.default_rng(1)
    x = inputs_for(random, codes, DEPTH)
    return x, random.normal(size=(len(x), 1)).astype("float32")


class Watch(keras.callbacks.Callback):
    """Predicts after each epoch of the same `fit`, and saves after one."""

    def __init__(self, path):
        super().__init__()
        self.path, self.outputs, self.clocks = path, [], []

    def on_epoch_end(self, epoch, logs=None):
        self.outputs.append(self.model.predict(probe()[0], verbose=0))
        level = self.model.layers[-1].tree_levels[-1]
        self.clocks.append(level.clock.numpy())
        if self.path and epoch + 1 == SAVED_AFTER:
            self.model.save(self.path)


def fit(model, first_epoch=0, path=None):
    """Trains from an epoch on; the history, and what `Watch` saw."""
    _, x, y = data()
    first = first_epoch * STEPS_PER_EPOCH * BATCH
    watch = Watch(path)
    history = model.fit(
        x[first:],
        y[first:],
        batch_size=BATCH,
        shuffle=False,
        initial_epoch=first_epoch,
        epochs=EPOCHS,
        steps_per_epoch=STEPS_PER_EPOCH,
        validation_data=probe(),
        callbacks=[watch],
        verbose=0,
    )
    return history.history, watch


class Trained:
    """A model after `fit`, what was seen of it, and its file from before."""

    def __init__(self, optimizer, row_levels, path=None):
        self.layer = make_layer(1, TREES, DEPTH, row_levels=row_levels)
        self.model = make_model(self.layer, optimizer)
        self.history, self.watch = fit(self.model, path=path)


@functools.cache
def step_aware(rule, schedule):
    folder = tempfile.TemporaryDirectory()
    trained = Trained(
        RULES[rule].make(learning_rate=SCHEDULES[schedule], weight_decay=DECAY),
        row_levels="all",
        path=Path(folder.name) / "model.keras",
    )
    trained.folder = folder  # is removed with it
    return trained


@functools.cache
def dense(rule, schedule):
    optimizer = RULES[rule].make_stock(
        learning_rate=SCHEDULES[schedule], weight_decay=DECAY
    )
    return Trained(optimizer, row_levels="none")


def assert_close(actual, expected, tolerance=1e-5):
    """Asserts that arrays differ by at most a part of the largest number."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def test_rows_sleep_for_hundreds_of_steps():
    leaves = data()[0].reshape(STEPS, BATCH)
    gaps = [
        np.diff(np.flatnonzero(np.any(leaves == leaf, axis=1))).max(initial=0)
        for leaf in range(2**DEPTH)
    ]
    assert sorted(gaps)[-2] > 200


@each_case
def test_losses_during_training_are_those_of_dense_decay(rule, schedule):
    ours, theirs = step_aware(rule, schedule), dense(rule, schedule)
    losses = theirs.history["loss"]
    assert len(losses) == EPOCHS
    np.testing.assert_allclose(ours.history["loss"], losses, rtol=1e-5)


@each_case
def test_evaluating_in_the_middle_is_that_of_dense_decay(rule, schedule):
    ours, theirs = step_aware(rule, schedule), dense(rule, schedule)
    losses = theirs.history["val_loss"]
    np.testing.assert_allclose(ours.history["val_loss"], losses, rtol=1e-5)


@each_case
def test_predicting_in_the_middle_is_that_of_dense_decay(rule, schedule):
    ours, theirs = step_aware(rule, schedule), dense(rule, schedule)
    # All the time there was decay that was not paid.
    assert all(clock[0] < 0 for clock in ours.watch.clocks)
    for one, two in zip(ours.watch.outputs, theirs.watch.outputs, strict=True):
        assert_close(one, two)


@each_case
def test_after_fit_nothing_is_owed_and_the_nodes_are_equal(rule, schedule):
    ours, theirs = step_aware(rule, schedule), dense(rule, schedule)
    assert_owes_nothing(ours.layer)
    for one, two in zip(ours.layer.nodes, theirs.layer.nodes, strict=True):
        assert_close(one.numpy(), two.numpy())


def assert_owes_nothing(layer):
    for level in layer.tree_levels:
        assert not np.any(level.clock.numpy())
        assert not np.any(level.stamps.numpy())


@functools.cache
def loaded(rule, schedule):
    """Returns a loaded model, its clock, and its outputs and loss."""
    model = keras.models.load_model(step_aware(rule, schedule).watch.path)
    model.layers[-1].row_levels = "all"
    clock = model.layers[-1].tree_levels[-1].clock.numpy()
    x, y = probe()
    return (
        model,
        clock,
        model.predict(x, verbose=0),
        model.evaluate(x, y, verbose=0),
    )


@each_case
def test_a_model_saved_in_the_middle_says_the_same(rule, schedule):
    ours, theirs = step_aware(rule, schedule), dense(rule, schedule)
    _, clock, outputs, loss = loaded(rule, schedule)
    np.testing.assert_array_equal(clock, ours.watch.clocks[SAVED_AFTER - 1])
    assert_close(outputs, theirs.watch.outputs[SAVED_AFTER - 1])
    expected = theirs.history["val_loss"][SAVED_AFTER - 1]
    assert loss == pytest.approx(expected, rel=1e-5)


@each_case
def test_a_model_saved_in_the_middle_goes_on_bit_for_bit(rule, schedule):
    ours, model = step_aware(rule, schedule), loaded(rule, schedule)[0]
    history, watch = fit(model, first_epoch=SAVED_AFTER)
    for name in ("loss", "val_loss"):
        assert history[name] == ours.history[name][SAVED_AFTER:]
    for one, two in zip(
        watch.outputs, ours.watch.outputs[SAVED_AFTER:], strict=True
    ):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(
        [*model.variables, *model.optimizer.variables],
        [*ours.model.variables, *ours.model.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def owing_layer(optimizer, units=1, uses=1):
    """Trains a layer by hand for some steps, with decay that is not paid."""
    layer = make_layer(units, TREES, DEPTH, row_levels="all")
    inputs = [keras.Input((DEPTH,)) for _ in range(uses)]
    model = keras.Model(inputs, [layer(x) for x in inputs])
    model.compile(optimizer, ["mse"] * uses, run_eagerly=True)
    _, x, y = data()
    for step in range(3):
        batch = slice(2 * step, 2 * step + 2)
        train_on_batch(model, x[batch], y[batch])
    assert all(np.any(level.clock.numpy() != 0) for level in layer.tree_levels)
    return model, layer


def train_on_batch(model, x, y):
    """Trains with the same data for each input and output of a model."""
    uses = len(model.inputs)
    data = (x, y) if uses == 1 else ([x] * uses, [y] * uses)
    model.train_on_batch(*data)


def test_settling_by_hand_leaves_no_debt_and_the_same_outputs():
    model, layer = owing_layer(StepAwareSGD(RATE, weight_decay=DECAY))
    before = model.predict(probe()[0], verbose=0)
    layer.settle()
    assert_owes_nothing(layer)
    after = model.predict(probe()[0], verbose=0)
    # Compiled, a product and a sum may be rounded once instead of twice.
    np.testing.assert_array_max_ulp(after, before, maxulp=4)


def test_settling_in_the_middle_does_not_change_training():
    models = [
        owing_layer(StepAwareAdam(RATE, weight_decay=DECAY)) for _ in range(2)
    ]
    models[0][1].settle()
    _, x, y = data()
    for model, layer in models:
        for step in range(3, 6):
            batch = slice(2 * step, 2 * step + 2)
            model.train_on_batch(x[batch], y[batch])
        layer.settle()
    for one, two in zip(models[0][1].nodes, models[1][1].nodes, strict=True):
        assert_close(one.numpy(), two.numpy(), 1e-6)


@pytest.mark.parametrize("rule", ["SGD", "Adagrad"])
def test_a_dense_update_settles_the_rows_that_it_writes(rule):
    random = np.random.default_rng(0)
    values = random.normal(size=(6, 2, 3)).astype("float32")
    level = feeding.make_level(values, "level")
    plain = keras.Variable(values)
    ours = RULES[rule].make(weight_decay=DECAY)
    stock = RULES[rule].make_stock(weight_decay=DECAY)
    touched = [[0], [0, 1], [1], [0, 2], [0, 1, 2, 3, 4]]
    for rows in touched:
        gradient = np.zeros((6, 2, 3), "float32")
        gradient[rows] = random.normal(size=(len(rows), 2, 3))
        is_dense = len(rows) == 5
        given = gradient if is_dense else feeding.as_rows(gradient, 3)
        feeding.apply(ours, [(level.nodes, given)])
        feeding.apply(stock, [(plain, gradient)])
    clock, stamps = level.clock.numpy(), level.stamps.numpy()
    np.testing.assert_array_equal(stamps[:5], np.tile(clock, (5, 1)))
    np.testing.assert_array_equal(stamps[5], np.zeros(2))  # still sleeps
    assert_close(level.nodes.numpy()[:5], plain.numpy()[:5], 1e-6)
    np.testing.assert_array_equal(level.nodes.numpy()[5], values[5])
    assert_close(ops.convert_to_numpy(level.read()), plain.numpy(), 1e-6)


STOCK = {
    "SGD": lambda: keras.optimizers.SGD(RATE, momentum=0.9),
    "AdamW": lambda: keras.optimizers.AdamW(RATE, weight_decay=DECAY),
}


@pytest.mark.parametrize("stock", STOCK)
def test_after_fit_a_stock_optimizer_goes_on_as_if_nothing_had_been(stock):
    ours = step_aware("SGD", "constant")
    fresh = make_layer(1, TREES, DEPTH, row_levels="none")
    for one, two in zip(fresh.nodes, ours.layer.nodes, strict=True):
        one.assign(two.numpy())
    fresh.bias.assign(ours.layer.bias.numpy())
    again = make_layer(1, TREES, DEPTH)
    again.set_weights(ours.layer.get_weights())
    _, x, y = data()
    for layer in (fresh, again):
        model = make_model(layer, STOCK[stock](), run_eagerly=True)
        model.fit(x[:20], y[:20], batch_size=4, shuffle=False, verbose=0)
    assert_owes_nothing(again)
    for one, two in zip(again.nodes, fresh.nodes, strict=True):
        assert_close(one.numpy(), two.numpy(), 1e-6)
