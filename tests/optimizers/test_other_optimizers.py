"""However training ended, no other optimizer meets rows that owe decay.

What it makes of them is what it makes of rows that were settled before.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD
from keras_treegate.optimizers.row_state import idle_steps
from tests.optimizers.loops import LOOPS
from tests.optimizers.routing import inputs_for, make_layer, zipf_codes

TREES, DEPTH, UNITS, BATCH = 2, 1, 2, 4
WIDTH = TREES * DEPTH
# A few steps run fastest without compiling, but under JAX.
QUICK = {"run_eagerly": keras.backend.backend() != "jax"}
DECAY = 5.0  # a row that sleeps for a step has lost half of itself

STOCK = {
    "SGD": lambda: keras.optimizers.SGD(0.1),
    "AdamW": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    "SGD that accumulates": lambda: keras.optimizers.SGD(
        0.1, gradient_accumulation_steps=2
    ),
    "SGD that is scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), 8.0
    ),
}
each_stock = pytest.mark.parametrize("stock", STOCK)


def batches(steps, seed=0):
    random = np.random.default_rng(seed)
    codes = zipf_codes(random, steps * BATCH, TREES, DEPTH)
    x = inputs_for(random, codes, DEPTH)
    y = random.normal(size=(len(x), UNITS)).astype("float32")
    return list(zip(np.split(x, steps), np.split(y, steps), strict=True))


def fit(model, data, **options):
    x, y = (np.concatenate(arrays) for arrays in zip(*data, strict=True))
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, **options)


def train_on_batch(model, data):
    for x, y in data:
        model.train_on_batch(x, y)


def new_model():
    layer = make_layer(UNITS, TREES, DEPTH, row_levels="all")
    model = keras.Sequential([keras.Input((WIDTH,)), layer])
    model.compile(StepAwareSGD(0.1, weight_decay=DECAY), "mse", **QUICK)
    return model, layer


def owes(layer):
    return any(np.any(level.clock.numpy()) for level in layer.tree_levels)


# --- How training ends: each leaves a model that owes ----------------------


def after_single_batches(model):
    train_on_batch(model, batches(3))


def after_an_error_of_a_callback(model):
    def fail(batch, logs):
        if batch == 2:
            raise KeyboardInterrupt

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=fail)
    with pytest.raises(KeyboardInterrupt):
        fit(model, batches(4), callbacks=[callback])


def after_weights_were_put_back(model):
    train_on_batch(model, batches(3))
    weights = model.get_weights()
    fit(model, batches(2, seed=1))
    model.set_weights(weights)


def after_a_callback_put_weights_back(model):
    callback = keras.callbacks.EarlyStopping(
        "loss", patience=9, restore_best_weights=True
    )
    fit(model, batches(3), epochs=2, callbacks=[callback])


def after_loading(model):
    train_on_batch(model, batches(3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        model.layers[-1].settle()
        model.load_weights(path)


ENDS = {
    name.removeprefix("after_").replace("_", " "): end
    for name, end in list(globals().items())
    if name.startswith("after_")
}

# Under JAX the end of an interrupted `fit` settles.
SETTLES = {"an error of a callback"} if keras.backend.backend() == "jax" else {}


def values(layer):
    return [ops.convert_to_numpy(level.read()) for level in layer.tree_levels]


def assert_goes_on_as_if_settled(end, compile_stock, train):
    """Trains two models, one of which is settled by hand in between."""
    trained = []
    for settles in (False, True):
        model, layer = new_model()
        ENDS[end](model)
        assert owes(layer) or end in SETTLES
        if settles:
            layer.settle()
        compile_stock(model)
        train(model, batches(4, seed=2))
        assert not owes(layer)
        trained.append([*values(layer), layer.bias.numpy()])
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("end", ENDS)
def test_a_stock_optimizer_goes_on_after_any_end(end):
    def compile_stock(model):
        model.compile(STOCK["SGD"](), "mse")

    assert_goes_on_as_if_settled(end, compile_stock, fit)


@pytest.mark.parametrize("eagerly", [False, True])
@each_stock
def test_each_stock_optimizer_goes_on(stock, eagerly):
    if keras.backend.backend() == "jax" and eagerly and "scaled" in stock:
        eagerly = False  # Keras cannot

    def compile_stock(model):
        model.compile(STOCK[stock](), "mse", run_eagerly=eagerly)

    assert_goes_on_as_if_settled(
        "single batches", compile_stock, train_on_batch
    )


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stock_optimizer_goes_on_in_a_loop_of_ones_own(loop):
    def compile_stock(model):
        model.compile(keras.optimizers.Adam(0.1), "mse")

    assert_goes_on_as_if_settled("single batches", compile_stock, LOOPS[loop])


def test_models_without_a_loss_go_on():
    # Keras does not call such a model before its first step.
    class OwnLoss(keras.Sequential):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return ops.mean(ops.square(ops.subtract(y, y_pred)))

    trained = []
    for settles in (False, True):
        model, layer = new_model()
        after_single_batches(model)
        if settles:
            layer.settle()
        own = OwnLoss([keras.Input((WIDTH,)), layer])
        own.compile(STOCK["SGD"]())
        train_on_batch(own, batches(2, seed=2))
        trained.append(values(layer))
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_two_models_that_share_a_layer_train_it_in_turn():
    # One trains by a step-aware optimizer with decay, one by a stock one.
    trained = []
    for make in (StepAwareSGD, keras.optimizers.SGD):
        model, layer = new_model()
        model.compile(make(0.1, weight_decay=DECAY), "mse", **QUICK)
        other = keras.Sequential([keras.Input((WIDTH,)), layer])
        other.compile(keras.optimizers.SGD(0.1), "mse", **QUICK)
        for one, two in zip(batches(3), batches(3, seed=1), strict=True):
            model.train_on_batch(*one)
            other.train_on_batch(*two)
        trained.append(values(layer))
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_another_decay_goes_on_from_what_is_owed():
    trained = []
    for make in (StepAwareSGD, keras.optimizers.SGD):
        model, layer = new_model()
        for decay in (DECAY, 1.0, None):
            model.compile(make(0.1, weight_decay=decay), "mse", **QUICK)
            train_on_batch(model, batches(3))
        trained.append(values(layer))
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_a_step_aware_optimizer_settles_nothing_that_it_did_not_touch():
    # Other optimizers settle all rows; a step-aware one must not.
    model, layer = new_model()
    train_on_batch(model, batches(3))
    level = layer.tree_levels[-1]
    before = level.nodes.numpy()
    x, y = batches(1, seed=3)[0]
    model.train_on_batch(x[:1], y[:1])
    same = np.all(level.nodes.numpy() == before, axis=(1, 2))
    assert np.any(same)
    assert owes(layer)


# --- Counts and rates that a user sets -------------------------------------


@pytest.mark.parametrize("iterations", [0, 10_000])
@pytest.mark.parametrize("make", [StepAwareAdam, StepAwareSGD])
def test_iterations_can_be_set(make, iterations):
    # In Keras's own optimizer, too, slots are what the steps left of them.
    # Every row is touched in each step, where both are the same.
    stock, options = {
        StepAwareAdam: (keras.optimizers.Adam, {}),
        StepAwareSGD: (keras.optimizers.SGD, {"momentum": 0.9}),
    }[make]
    codes = np.tile(np.arange(2**DEPTH)[:, None], (1, TREES))
    x = inputs_for(np.random.default_rng(0), codes, DEPTH)
    y = np.ones((len(x), UNITS), "float32")
    trained = []
    for optimizer in (make(0.01, **options), stock(0.01, **options)):
        model, layer = new_model()
        model.compile(optimizer, "mse", **QUICK)
        for _ in range(3):
            model.train_on_batch(x, y)
        optimizer.iterations.assign(iterations)
        for _ in range(3):
            model.train_on_batch(x, y)
        assert int(optimizer.iterations) == iterations + 3
        trained.append(values(layer))
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("iterations", [0, 10_000])
def test_idle_steps_are_those_that_were_taken(iterations):
    model, layer = new_model()
    model.compile(StepAwareAdam(0.01), "mse", **QUICK)
    train_on_batch(model, batches(3))
    model.optimizer.iterations.assign(iterations)
    train_on_batch(model, batches(2, seed=1))
    for level in layer.tree_levels:
        ages = idle_steps(level)
        assert ages.min() == 0
        assert ages.max() <= 5


RATES = {
    "to 0": (0.5, 2.0),
    "past 0": (0.1, 15.0),
    "to its negative": (0.5, 4.0),
    "beyond itself": (0.1, 25.0),
}


@pytest.mark.parametrize("row_levels", ["all", "none"])
@pytest.mark.parametrize("case", RATES)
def test_any_rate_times_decay_does_what_dense_decay_does(case, row_levels):
    rate, decay = RATES[case]
    trained = []
    for make in (StepAwareSGD, keras.optimizers.SGD):
        model, layer = new_model()
        layer.row_levels = row_levels
        model.compile(make(rate, weight_decay=decay), "mse")
        train_on_batch(model, batches(4))
        trained.append(
            [*values(layer), model.predict(batches(1)[0][0], verbose=0)]
        )
    for one, two in zip(*trained, strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_schedule_may_pass_through_such_rates():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.5, 0.05]
    )
    trained = []
    for make in (StepAwareSGD, keras.optimizers.SGD):
        model, layer = new_model()
        model.compile(make(schedule, weight_decay=5.0), "mse")
        fit(model, batches(6))
        assert not owes(layer)
        trained.append(values(layer))
    for one, two in zip(*trained, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
