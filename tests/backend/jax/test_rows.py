"""Only JAX can show these: compiled memory, leaks, identity of gradients."""

import functools
import gc
import re
import threading
import warnings

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from keras_treegate import backend
from keras_treegate.backend.jax.row_gradients import records
from keras_treegate.core import decay
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD
from tests.optimizers import feeding
from tests.optimizers.routing import inputs_for, make_layer, make_model

# --- What the compiler makes of a step -------------------------------------

TREES, WIDTH, UNITS, BATCH = 2, 8, 4, 16
DEPTHS = 8, 13


@functools.cache
def compiled_step(depth, trees=TREES, batch=BATCH):
    """Returns a layer, and the train step of its model as XLA compiled it."""
    layer = TreeGatedDense(UNITS, depth=depth, num_trees=trees, seed=0)
    model = keras.Sequential([keras.Input((trees * WIDTH,)), layer])
    model.compile(StepAwareSGD(0.1, momentum=0.9, weight_decay=0.1), "mse")
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, trees * WIDTH)).astype("float32")
    data = x, np.ones((batch, UNITS), "float32")
    return layer, compiled_step_of(model, data)


def compiled_step_of(model, data):
    """Returns the train step of a model, as XLA compiles it."""
    model.optimizer.build(model.trainable_variables)
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    step = jax.jit(model.train_step, donate_argnums=0)
    return step.lower(state, data).compile()


def test_temporary_memory_does_not_grow_with_the_tables():
    small, large = (
        compiled_step(depth)[1].memory_analysis().temp_size_in_bytes
        for depth in DEPTHS
    )
    row = WIDTH * UNITS * 4
    touched = (DEPTHS[1] - DEPTHS[0]) * TREES * BATCH * row
    tables = TREES * (2 ** DEPTHS[1] - 2 ** DEPTHS[0]) * 2 * row
    # A few arrays for the touched rows of each level more.
    assert large - small < 5 * touched < tables / 20


def assert_no_array_of_the_size_of_a_table(layer, step, compact):
    """Asserts that a step makes none for the levels (range) read by row."""
    text = step.as_text()
    tables = 0
    for number in compact:
        rows = layer.tree_levels[number].nodes.shape[0]
        for shape in (
            f"f32[{rows},{WIDTH},{UNITS}]",  # nodes and slots
            f"f32[{rows},{WIDTH * UNITS}]",
            f"f32[{rows},2]",  # stamps
            f"s32[{rows}]",  # last steps
        ):
            made = re.findall(rf"= {re.escape(shape)}\S* ([\w-]+)\(", text)
            tables += len(made) > 0
            assert not {"copy", "broadcast", "add", "multiply"} & set(made)
    assert tables >= 3 * len(compact)  # found in the text at all


def test_no_array_of_the_size_of_a_table_is_made_or_copied():
    layer, step = compiled_step(DEPTHS[0])
    # From the first level with more rows in a tree than examples.
    assert_no_array_of_the_size_of_a_table(layer, step, range(5, 9))


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_one_row_by_itself_copies_no_table(batch, monkeypatch):
    # XLA makes slices of gathers and scatters of one row: of a batch of one,
    # of rows larger than a chunk, and where one is left over.
    monkeypatch.setattr("keras_treegate.backend.jax.updates.CHUNK", 1)
    layer, step = compiled_step(DEPTHS[0], trees=1, batch=batch)
    assert_no_array_of_the_size_of_a_table(layer, step, range(5, 9))


@pytest.mark.parametrize("levels", ["all", "ends", (0, 3, 6)])
def test_levels_read_whole_are_summed_once_and_not_copied(levels):
    # Forward and backward passes read the sums in different ways.
    inner = TreeGatedDense(128, depth=6, num_trees=4, levels=levels, seed=0)
    model = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(32), inner]
    )
    model.compile(StepAwareAdam(0.1, weight_decay=0.1), "mse")
    data = np.ones((64, 16), "float32"), np.ones((64, 128), "float32")
    step = compiled_step_of(model, data)
    shape = re.escape("f32[256,8,128]")
    assert not re.findall(rf"= {shape}\S* copy\(", step.as_text())
    # The sums, their gradient, and the gradients of the levels above.
    leaves = 256 * 8 * 128 * 4
    assert step.memory_analysis().temp_size_in_bytes < 4 * leaves


# --- A loop of a million steps ---------------------------------------------


def test_a_million_idle_steps_in_one_loop_decay_by_their_product():
    clock = jax.jit(
        lambda clock, rate: jax.lax.fori_loop(
            0, 10**6, lambda _, clock: decay.advance(clock, rate), clock
        )
    )(jnp.zeros(2), 1e-7)
    row = decay.decayed(
        jnp.ones((1, 1, 1)), decay.owed(clock, jnp.zeros((1, 2)))
    )
    assert float(row[0, 0, 0]) == pytest.approx(np.exp(-0.1), rel=1e-5)


# --- Where the rows of a gradient are found again --------------------------

IDS = jnp.array([1, 4, 6, 7])
TARGET = np.random.default_rng(1).normal(size=(4, 2, 3)).astype("float32")


def make_level():
    values = np.random.default_rng(0).normal(size=(9, 2, 3))
    return feeding.make_level(values, "level")


def loss_of(level):
    """Returns a function of the trainable values of a level."""

    def loss(values):
        variables = (level.nodes, level.clock, level.stamps)
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return jnp.sum(jnp.square(level.read(IDS) - TARGET))

    return loss


FOUND = {
    "grad": jax.grad,
    "value_and_grad": lambda loss: lambda x: jax.value_and_grad(loss)(x)[1],
    "vjp": lambda loss: lambda x: jax.vjp(loss, x)[1](1.0)[0],
    "of a sum with another loss": lambda loss: jax.grad(
        lambda x: loss(x) + jnp.sum(jnp.square(x[1])) * 0
    ),
}
LOST = {
    "of a jit": lambda loss: jax.grad(jax.jit(loss)),
    "in a jit of its own": lambda loss: jax.jit(jax.grad(loss)),
    "remat": lambda loss: jax.grad(jax.checkpoint(loss)),
    "vmap": lambda loss: (
        lambda x: jax.tree.map(
            lambda g: g[0],
            jax.vmap(jax.grad(loss), axis_size=1, in_axes=None)(x),
        )
    ),
    "scan": lambda loss: jax.grad(
        lambda x: jax.lax.scan(
            lambda total, _: (total + loss(x), None), 0.0, None, length=1
        )[0]
    ),
    "arithmetic": lambda loss: (
        lambda x: jax.tree.map(lambda g: g * 1.0, jax.grad(loss)(x))
    ),
    "two uses": lambda loss: jax.grad(lambda x: (loss(x) + loss(x)) / 2),
}


def updated(gradient_of, in_one_jit):
    """Returns the nodes after a step of descent, and what was warned of."""
    level = make_level()
    optimizer = StepAwareSGD(0.1)
    variables = [level.nodes, level.clock, level.stamps]
    optimizer.build(variables)

    def step(values, state):
        gradients = gradient_of(loss_of(level))(values)
        return optimizer.stateless_apply(state, gradients, values)[0][0]

    step = jax.jit(step) if in_one_jit else step
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nodes = step(
            [variable.value for variable in variables],
            [variable.value for variable in optimizer.variables],
        )
    return np.asarray(nodes), [str(warning.message) for warning in caught]


def expected_nodes():
    nodes = make_level().nodes.numpy()
    nodes[IDS] -= 0.1 * 2 * (nodes[IDS] - TARGET)
    return nodes


@pytest.mark.parametrize("in_one_jit", [True, False])
@pytest.mark.parametrize("route", FOUND)
def test_a_gradient_that_nothing_happened_to_is_found(
    route, in_one_jit, lifted
):
    nodes, warned = updated(FOUND[route], in_one_jit)
    assert warned == []
    assert list(lifted.values()) == [{"rows"}]
    np.testing.assert_allclose(nodes, expected_nodes(), rtol=1e-6)


@pytest.mark.parametrize("in_one_jit", [True, False])
@pytest.mark.parametrize("route", LOST)
def test_a_gradient_that_something_happened_to_is_used_dense(route, in_one_jit):
    nodes, warned = updated(LOST[route], in_one_jit)
    assert len(warned) == 1
    assert re.search("is used 2 times|something came between", warned[0])
    np.testing.assert_allclose(nodes, expected_nodes(), rtol=1e-6)


def test_two_gradients_of_one_variable_are_not_confused():
    level = make_level()
    values = [v.value for v in (level.nodes, level.clock, level.stamps)]
    loss = loss_of(level)
    one = jax.grad(loss)(values)[0]
    two = jax.grad(lambda x: 3 * loss(x))(values)[0]
    for gradient, factor in ((two, 3), (one, 1)):
        found, cause = backend.as_row_gradient(gradient, level.nodes)
        assert cause is None
        expected = factor * 2 * (level.nodes.numpy()[IDS] - TARGET)
        np.testing.assert_allclose(found.rows, expected, rtol=1e-5)


def test_a_dense_gradient_of_one_level_is_not_mistaken_for_rows():
    level = make_level()
    gradient = jnp.ones((9, 2, 3))
    assert backend.as_row_gradient(gradient, level.nodes) == (gradient, None)


# --- What is left behind ---------------------------------------------------


def small_model(seed=0, **compiled):
    layer = make_layer(2, 2, 1, row_levels="all", seed=seed)
    optimizer = StepAwareSGD(0.01, weight_decay=0.1)
    return make_model(layer, optimizer, **compiled)


def small_data(seed=0):
    random = np.random.default_rng(seed)
    x = inputs_for(random, random.integers(0, 2, size=(8, 2)), 1)
    return x, random.normal(size=(8, 2)).astype("float32")


@pytest.mark.parametrize("eagerly", [False, True])
def test_no_record_of_a_gradient_is_left_after_fit(eagerly):
    gc.collect()
    before = len(records)
    model = small_model(run_eagerly=eagerly)
    model.fit(*small_data(), batch_size=4, verbose=0)
    model.evaluate(*small_data(), verbose=0)
    gc.collect()
    assert len(records) == before == 0


def test_no_record_is_left_of_gradients_that_no_optimizer_saw():
    level = make_level()
    values = [v.value for v in (level.nodes, level.clock, level.stamps)]
    gradients = [jax.grad(loss_of(level))(values) for _ in range(3)]
    assert len(records) == 3
    del gradients
    gc.collect()
    assert len(records) == 0


def test_training_leaks_no_tracers():
    with jax.checking_leaks():
        model = small_model()
        for _ in range(2):
            model.train_on_batch(*small_data())
        model.predict(small_data()[0], verbose=0)


def test_two_models_trained_in_two_threads_do_not_mix():
    def train(seed):
        model = small_model(seed, run_eagerly=seed == 1)
        x, y = small_data(seed)
        for _ in range(3):
            model.train_on_batch(x, y)
        return [nodes.numpy() for nodes in model.layers[-1].nodes]

    expected = [train(seed) for seed in range(2)]
    found = [None, None]

    def work(seed):
        found[seed] = train(seed)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(2):
        for one, two in zip(found[seed], expected[seed], strict=True):
            np.testing.assert_array_equal(one, two)
    gc.collect()
    assert len(records) == 0


# --- Levels that owe decay, and optimizers that do not know of it ----------


def a_level_that_owes():
    level = make_level()
    level.clock.assign([-0.5, 0.0])
    return level


def test_nodes_without_the_state_of_their_decay_are_refused():
    level = a_level_that_owes()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build([keras.Variable(np.zeros(3))])

    def step(nodes):
        mapping = [(level.nodes, nodes)]
        with keras.StatelessScope(state_mapping=mapping):
            level.settle_in_step()
        return nodes

    match = "given the clock and stamps.*Received: '.*nodes.*layer.settle"
    with pytest.raises(ValueError, match=match):
        jax.jit(step)(level.nodes.value)
    level.settle()
    jax.jit(step)(level.nodes.value)


def test_nodes_that_are_frozen_by_themselves_are_refused():
    level = a_level_that_owes()
    level.nodes.trainable = False
    match = "must be trained along with.*Received: '.*nodes.*Freeze the layer"
    with pytest.raises(ValueError, match=match):
        keras.optimizers.SGD(0.1, momentum=0.9).build(
            [level.clock, level.stamps]
        )


def test_clock_and_stamps_have_gradients_of_zero():
    # A stock optimizer that settled overwrites them with these.
    level = a_level_that_owes()
    values = [v.value for v in (level.nodes, level.clock, level.stamps)]
    for gradient in jax.grad(loss_of(level))(values)[1:]:
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))
