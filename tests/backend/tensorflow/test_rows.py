"""The gradients that TensorFlow carries: rows that are found in dense ones.

Eagerly, and for an optimizer that listens, `tf.IndexedSlices` of distinct ids.
"""

import functools
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_treegate import backend
from keras_treegate.backend.tensorflow import updates as tensorflow_updates
from keras_treegate.backend.tensorflow.row_gradients import records
from keras_treegate.core import decay
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD
from keras_treegate.transforms import fold
from tests.backend.updating import DOUBLING, plain_tables
from tests.optimizers import feeding
from tests.optimizers.routing import inputs_for, make_layer

IDS = [1, 4, 6, 7]
TARGET = np.random.default_rng(1).normal(size=(4, 2, 3)).astype("float32")
MODES = {
    "eager": lambda function: function,
    "tf.function": tf.function,
    "tf.function with XLA": lambda f: tf.function(f, jit_compile=True),
}
each_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(name="level")
def a_level_with_a_listener():
    level = make_level()
    level.optimizer = StepAwareSGD(0.1)
    level.optimizer.build([level.nodes])
    return level


def make_level():
    values = np.random.default_rng(0).normal(size=(9, 2, 3))
    return feeding.make_level(values, "level")


def loss_of(level, ids=IDS):
    rows = level.read(tf.constant(ids, tf.int32))
    return tf.reduce_sum(tf.square(rows - TARGET[: len(ids)]))


def dense_gradient(level, *ids_of_uses):
    gradient = np.zeros((9, 2, 3), "float32")
    for ids in ids_of_uses:
        gradient[ids] += 2 * (level.nodes.numpy()[ids] - TARGET[: len(ids)])
    return gradient


def gradient_of(level, *ids_of_uses, **options):
    with tf.GradientTape(**options) as tape:
        loss = tf.add_n([loss_of(level, ids) for ids in ids_of_uses])
    return tape.gradient(loss, level.nodes.value)


# --- The gradient ----------------------------------------------------------


def test_a_gradient_holds_the_ids_that_were_read(level):
    gradient = gradient_of(level, IDS)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.indices.numpy().tolist() == IDS
    lifted, cause = backend.as_row_gradient(gradient, level.nodes)
    assert cause is None
    assert lifted.num_rows == 9
    np.testing.assert_array_equal(lifted.ids, IDS)
    np.testing.assert_allclose(
        lifted.rows, dense_gradient(level, IDS)[IDS], rtol=1e-6
    )


def test_without_a_listener_a_gradient_is_dense():
    level = make_level()
    gradient = gradient_of(level, IDS)
    assert isinstance(gradient, tf.Tensor)
    np.testing.assert_allclose(gradient, dense_gradient(level, IDS), rtol=1e-6)


def test_when_its_optimizer_is_gone_a_gradient_is_dense(level):
    del level.optimizer
    assert isinstance(gradient_of(level, IDS), tf.Tensor)


GRAPHS = [mode for mode in MODES if mode != "eager"]


@pytest.mark.parametrize("mode", GRAPHS)
def test_repeated_ids_are_merged(level, mode):
    other = [0, 4, 7, 8]

    @MODES[mode]
    def merged():
        gradient = gradient_of(level, IDS, other)
        lifted, cause = backend.as_row_gradient(gradient, level.nodes)
        assert cause is None
        return lifted.ids, lifted.rows

    ids, rows = (part.numpy() for part in merged())
    assert np.all(np.diff(ids) > 0)
    found = np.zeros((9, 2, 3), "float32")
    found[ids] = rows
    np.testing.assert_allclose(
        found, dense_gradient(level, IDS, other), rtol=1e-5, atol=1e-6
    )


def test_two_uses_are_dense_eagerly(level):
    gradient = gradient_of(level, IDS, IDS)
    lifted, cause = backend.as_row_gradient(gradient, level.nodes)
    assert "used 2 times, which is summed eagerly" in cause
    np.testing.assert_allclose(
        lifted, dense_gradient(level, IDS, IDS), rtol=1e-5
    )


@pytest.mark.parametrize("mode", GRAPHS)
def test_as_many_ids_as_rows_are_used_dense(level, mode):
    @MODES[mode]
    def dense():
        gradient = gradient_of(level, IDS, IDS, IDS)
        lifted, cause = backend.as_row_gradient(gradient, level.nodes)
        assert cause is None
        return lifted

    np.testing.assert_allclose(
        dense(), dense_gradient(level, IDS, IDS, IDS), rtol=1e-5
    )


def test_more_ids_than_rows_of_unknown_number_are_right(level):
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)])
    def dense(ids):
        with tf.GradientTape() as tape:
            rows = [level.read(ids) for _ in range(3)]
            loss = tf.add_n(
                [tf.reduce_sum(tf.square(r - TARGET)) for r in rows]
            )
        gradient = tape.gradient(loss, level.nodes.value)
        lifted, _ = backend.as_row_gradient(gradient, level.nodes)
        if isinstance(lifted, backend.RowGradient):
            ids = tf.expand_dims(lifted.ids, 1)
            return tf.scatter_nd(ids, lifted.rows, (9, 2, 3))
        return lifted

    np.testing.assert_allclose(
        dense(tf.constant(IDS)),
        dense_gradient(level, IDS, IDS, IDS),
        rtol=1e-5,
    )


def test_a_persistent_tape_gives_the_same_gradient_twice(level):
    with tf.GradientTape(persistent=True) as tape:
        loss = loss_of(level)
    for _ in range(2):
        gradient = tape.gradient(loss, level.nodes.value)
        lifted, cause = backend.as_row_gradient(gradient, level.nodes)
        assert cause is None
        np.testing.assert_array_equal(lifted.ids, IDS)
        np.testing.assert_allclose(
            tf.convert_to_tensor(gradient),
            dense_gradient(level, IDS),
            rtol=1e-6,
        )


def test_a_dense_use_beside_the_rows_is_not_lost(level):
    with tf.GradientTape() as tape:
        loss = loss_of(level) + tf.reduce_sum(level.nodes.value)
    gradient = tape.gradient(loss, level.nodes.value)
    lifted, _ = backend.as_row_gradient(gradient, level.nodes)
    if isinstance(lifted, backend.RowGradient):
        lifted = tf.scatter_nd(lifted.ids[:, None], lifted.rows, (9, 2, 3))
    np.testing.assert_allclose(
        lifted, dense_gradient(level, IDS) + 1, rtol=1e-5
    )


@pytest.mark.parametrize("jit", [False, True])
def test_a_loss_in_a_function_of_its_own_is_used_dense(level, jit):
    loss = tf.function(lambda: loss_of(level), jit_compile=jit)
    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, level.nodes.value)
    lifted, cause = backend.as_row_gradient(gradient, level.nodes)
    assert "a `tf.function` of its own around the loss" in cause
    np.testing.assert_allclose(lifted, dense_gradient(level, IDS), rtol=1e-6)


@each_mode
def test_arithmetic_on_a_gradient_is_used_dense(level, mode):
    causes = []

    @MODES[mode]
    def doubled():
        gradient = 2 * tf.convert_to_tensor(gradient_of(level, IDS))
        lifted, cause = backend.as_row_gradient(gradient, level.nodes)
        causes.append(cause)
        return lifted

    np.testing.assert_allclose(
        doubled(), 2 * dense_gradient(level, IDS), rtol=1e-6
    )
    assert all("arithmetic on the gradient" in cause for cause in causes)


def test_slices_from_elsewhere_are_merged(level):
    rows = tf.ones((3, 2, 3))
    gradient = tf.IndexedSlices(rows, tf.constant([4, 1, 4]), (9, 2, 3))
    lifted, cause = backend.as_row_gradient(gradient, level.nodes)
    assert cause is None
    expected = np.zeros((9, 1, 1))
    expected[[1, 4]] = [[[1]], [[2]]]
    found = np.zeros((9, 2, 3))
    found[lifted.ids] = lifted.rows
    np.testing.assert_array_equal(found, expected + np.zeros((9, 2, 3)))


def test_a_gradient_beside_another_of_the_table_keeps_its_rows(level):
    # The first is slices; the second is dense, and its rows are known.
    first, second = gradient_of(level, IDS), gradient_of(level, [0, 1])
    assert isinstance(first, tf.IndexedSlices)
    assert isinstance(second, tf.Tensor)
    for gradient, ids in ((first, IDS), (second, [0, 1])):
        lifted, cause = backend.as_row_gradient(gradient, level.nodes)
        assert cause is None
        np.testing.assert_array_equal(lifted.ids, ids)


def test_nothing_is_left_of_gradients_that_are_gone():
    level, before = make_level(), len(records)
    gradient = gradient_of(level, IDS)
    assert len(records) == before + 1
    del gradient
    assert len(records) == before


@each_mode
def test_a_step_reads_and_writes_in_every_mode(level, mode):
    optimizer = level.optimizer
    before = level.nodes.numpy()
    expected = before - 0.1 * dense_gradient(level, IDS)

    @MODES[mode]
    def step():
        optimizer.apply([gradient_of(level, IDS)], [level.nodes])

    step()
    np.testing.assert_allclose(level.nodes.numpy(), expected, rtol=1e-6)
    still = np.setdiff1d(np.arange(9), IDS)
    np.testing.assert_array_equal(level.nodes.numpy()[still], before[still])


def test_a_million_idle_steps_in_one_loop_decay_by_their_product():
    @tf.function(jit_compile=True)
    def clock_after(rate):
        return tf.while_loop(
            lambda step, _: step < 10**6,
            lambda step, clock: (step + 1, decay.advance(clock, rate)),
            (0, tf.zeros(2)),
        )[1]

    owed = decay.owed(clock_after(1e-7), tf.zeros((1, 2)))
    row = decay.decayed(tf.ones((1, 1, 1)), owed)
    assert float(row[0, 0, 0]) == pytest.approx(np.exp(-0.1), rel=1e-5)


# --- Models ----------------------------------------------------------------

DEPTH = 2


def data(examples=10):
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**DEPTH, size=(examples, 2))
    y = random.normal(size=(examples, 2)).astype("float32")
    return inputs_for(random, codes, DEPTH), y


def shared_model(row_levels):
    layer = make_layer(2, 2, DEPTH, row_levels=row_levels)
    inputs = keras.Input((2 * DEPTH,))
    outputs = layer(inputs) + 0.5 * layer(-inputs)
    return keras.Model(inputs, outputs), layer


def fit(model, layer, optimizer, jit=False, **compiled):
    model.compile(optimizer, "mse", jit_compile=jit, **compiled)
    # The last batch is smaller: no batch size is known in the second step.
    model.fit(*data(), batch_size=4, shuffle=False, verbose=0)
    return [nodes.numpy() for nodes in layer.nodes]


@functools.cache
def with_dense_gradients(make):
    return fit(*shared_model("none"), make(0.1))


def assert_close(actual, expected):
    for one, two in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_stock_adam_trains_a_shared_layer_as_on_dense_gradients(jit):
    # Keras's optimizers are wrong on slices with ids that repeat.
    adam = keras.optimizers.Adam
    trained = fit(*shared_model("all"), adam(0.1), jit)
    assert_close(trained, with_dense_gradients(adam))


@pytest.mark.parametrize("eagerly", [False, True])
def test_stock_adam_does_so_while_a_step_aware_optimizer_is_there(eagerly):
    model, layer = shared_model("all")
    listener = StepAwareAdam(0.1)
    listener.build(model.trainable_variables)
    adam = keras.optimizers.Adam
    trained = fit(model, layer, adam(0.1), run_eagerly=eagerly)
    assert_close(trained, with_dense_gradients(adam))
    assert listener.built


STOCK = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.1),
    "AdamW": lambda: keras.optimizers.AdamW(0.1, clipnorm=0.1),
    "Adagrad": lambda: keras.optimizers.Adagrad(0.1, global_clipnorm=0.1),
    "Lion": lambda: keras.optimizers.Lion(0.1, clipvalue=0.1),
}


@pytest.mark.parametrize("optimizer", STOCK)
def test_stock_optimizers_are_right_on_the_slices_of_one_use(optimizer):
    results = []
    for has_listener in (True, False):
        level, stock = make_level(), STOCK[optimizer]()
        if has_listener:
            listener = StepAwareSGD(0.1)
            listener.build([level.nodes])
        for ids in (IDS, [0, 2], IDS):
            gradient = gradient_of(level, ids)
            assert isinstance(gradient, tf.IndexedSlices) == has_listener
            stock.apply([gradient], [level.nodes])
            del gradient
        results.append(level.nodes.numpy())
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.filterwarnings("ignore:The gradient of")
def test_a_shared_layer_is_trained_with_batches_of_any_size(jit):
    trained = fit(*shared_model("all"), StepAwareAdam(0.1), jit)
    assert_close(trained, with_dense_gradients(StepAwareAdam))


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
def test_the_first_step_of_a_model_that_was_built_before_has_rows(how, lifted):
    # `compile` does not build the optimizer, and tracing comes first.
    layer = make_layer(2, 2, DEPTH, row_levels="all")
    model = keras.Sequential([keras.Input((2 * DEPTH,)), layer])
    model.compile(StepAwareSGD(0.1), "mse")
    if how == "fit":
        model.fit(*data(), batch_size=5, verbose=0)
    else:
        model.train_on_batch(*data())
    assert lifted.of(layer) == [{"rows"}] * (DEPTH + 1)


def test_sizes_that_are_known_stay_known_after_a_trace_of_unknown_ones():
    layer = make_layer(2, 2, DEPTH, row_levels="all")
    nodes, shapes = layer.nodes[-1], []

    def trace(batch):
        @tf.function(input_signature=[tf.TensorSpec((batch, 2 * DEPTH))])
        def step(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x))
            gradient = tape.gradient(loss, nodes.value)
            lifted, _ = backend.as_row_gradient(gradient, nodes)
            shapes.append(lifted.rows.shape.as_list())

        step.get_concrete_function()

    for batch in (None, 3, None):
        trace(batch)
    assert shapes == [[None, 2, 2], [6, 2, 2], [None, 2, 2]]


@pytest.mark.parametrize("folded", [False, True], ids=["tree", "folded"])
def test_an_exported_model_serves_batches_of_any_size(folded, tmp_path):
    # Outputs are those of `predict`, and XLA compiles parts of the graph.
    # The depth is more than a batch of unknown size is taken to touch.
    layer = TreeGatedDense(4, depth=10, num_trees=2, node_initializer="normal")
    model = keras.Sequential([keras.Input((12,)), layer])
    if folded:
        model = fold(model)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    random = np.random.default_rng(0)
    for batch in (1, 5):
        x = random.normal(size=(batch, 12)).astype("float32")
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(served.serve(x), expected, 1e-6, 1e-6)


def test_layers_of_one_size_keep_their_own_tables_under_a_strategy():
    # A function compiled once must not remember the first layer's tables.
    x = np.random.default_rng(0).normal(size=(3, 12)).astype("float32")

    def outputs():
        layers = [
            TreeGatedDense(4, 10, 2, gate=SignGate(seed=seed))
            for seed in (0, 1)
        ]
        inputs = keras.Input((12,), batch_size=3)
        model = keras.Model(inputs, [layer(inputs) for layer in layers])
        random = np.random.default_rng(1)
        for weight in model.trainable_weights:
            weight.assign(random.normal(size=weight.shape))
        return model.predict(x, batch_size=3, verbose=0)

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        found = outputs()
    for one, other in zip(found, outputs(), strict=True):
        np.testing.assert_allclose(one, other, 1e-6, 1e-6)


def test_replicas_train_as_one_device():
    done = subprocess.run(
        [sys.executable, "-m", "tests.backend.two_replicas"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("chunk", [1, 12, 2**16])
def test_numbers_of_rows_that_are_not_known_are_updated(chunk, monkeypatch):
    monkeypatch.setattr(tensorflow_updates, "CHUNK", chunk)
    ones = np.ones((9, 2, 3), "float32")
    tables = [plain_tables(keras.Variable(ones)) for _ in range(2)]
    ids = tf.TensorSpec([None], "int32")

    @tf.function(input_signature=[ids, ids])
    def step(*all_ids):
        with backend.updating_rows() as update_rows:
            for table, ids in zip(tables, all_ids, strict=True):
                rows = tf.fill((tf.shape(ids)[0], 2, 3), 0.5)
                gradient = backend.RowGradient(ids, rows, 9)
                update_rows(table, gradient, DOUBLING)

    expected = np.ones((2, 9, 2, 3))
    for one, other in [([4], [0]), ([0, 8], [3]), (IDS, [2, 3, 4]), (IDS, IDS)]:
        step(tf.constant(one), tf.constant(other))
        for values, ids in zip(expected, (one, other), strict=True):
            values[ids] = values[ids] * 2 - 0.5
        for table, values in zip(tables, expected, strict=True):
            np.testing.assert_allclose(table.values.numpy(), values, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 17])
def test_tables_are_written_in_place(count, monkeypatch):
    monkeypatch.setattr(tensorflow_updates, "CHUNK", 16)
    nodes, slot = (tf.Variable(tf.zeros((512, 2, 4))) for _ in range(2))
    stamps = tf.Variable(tf.zeros((512, 2)))
    tables = backend.OptimizerTables(nodes, stamps, [slot])
    ids = tf.constant(np.arange(count) * 3, "int32")
    gradient = ids, tf.ones((count, 2, 4))
    updates = [tensorflow_updates._Update(tables, gradient, DOUBLING)]
    step = tf.function(
        lambda: tensorflow_updates._update_together(updates),
        jit_compile=True,
        autograph=False,
    )
    text = step.experimental_get_compiler_ir()(stage="optimized_hlo")
    made = re.findall(r"= f32\[512,(?:2,4|8)\]\S* ([\w-]+)\(", text)
    assert made  # found in the text at all
    assert not {"copy", "broadcast", "add", "multiply"} & set(made)
    aliases = re.search(r"input_output_alias=\{(.*?) \}, ", text)
    assert aliases[1].count("may-alias") + aliases[1].count("must-alias") == 3
