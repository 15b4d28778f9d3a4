"""A batch of no examples: outputs of none, and a step that changes nothing."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate.core import rows
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from keras_treegate.optimizers import StepAwareAdam, StepAwareSGD
from tests.random_layers import normal, randomize

WIDTH, UNITS = 8, 3
NONE = np.zeros((0, WIDTH), "float32")
CREDITS = ("straight", "reinforce", "noisy_rectifier")
KINDS = [
    *itertools.product(CREDITS, ("zero", "running_mean"), (0, 3)),
    ("straight", "zero", 9),
]
each_kind = pytest.mark.parametrize(("credit", "threshold", "depth"), KINDS)


def made_layer(credit="straight", threshold="zero", depth=3):
    units = np.random.default_rng(0).integers(0, WIDTH, (2, depth))
    layer = TreeGatedDense(
        UNITS,
        depth,
        num_trees=2,
        gate=SignGate(units=units, threshold=threshold),
        credit=credit,
        seed=0,
    )
    layer.build((None, WIDTH))
    randomize(layer)
    return layer


class Summed(keras.Sequential):
    """A model whose loss of no examples is 0 on every backend.

    Keras's own mean of none has no gradient under JAX and PyTorch.
    """

    reinforced = False

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if self.reinforced:
            return ops.sum(ReinforceLoss("mse", reduction="none")(y, y_pred))
        return ops.sum(ops.square(ops.subtract(y_pred, y)))


def summed(layer, optimizer, **compile_arguments):
    dense = keras.layers.Dense(WIDTH)
    model = Summed([keras.Input((WIDTH,)), dense, layer])
    credit = getattr(layer, "credit", None)
    model.reinforced = type(credit).__name__ == "Reinforce"
    model.compile(optimizer, **compile_arguments)
    return model


@each_kind
def test_outputs_of_no_examples(credit, threshold, depth):
    layer = made_layer(credit, threshold, depth)
    model = keras.Sequential([keras.Input((WIDTH,)), layer])
    for training in (False, True):
        assert tuple(layer(NONE, training=training).shape) == (0, UNITS)
    steps = np.zeros((2, 0, WIDTH), "float32")
    assert tuple(layer(steps, training=True).shape) == (2, 0, UNITS)
    assert tuple(layer(NONE, gate_inputs=NONE).shape) == (0, UNITS)
    assert model.predict_on_batch(NONE).shape == (0, UNITS)
    assert model.predict_on_batch(normal(4, WIDTH)).shape == (4, UNITS)
    assert tuple(layer.leaf_codes(NONE).shape) == (0, 2)
    kernel = layer.effective_kernel(NONE)
    assert tuple(kernel.shape) == (0, WIDTH, UNITS)
    assert not layer.leaf_visits.any()


@pytest.mark.parametrize("row_levels", ["all", "none"])
def test_outputs_whatever_is_read_row_by_row(row_levels):
    layer = made_layer()
    layer.row_levels = row_levels
    assert tuple(layer(NONE, training=True).shape) == (0, UNITS)


@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("pruned", [False, True])
def test_folded_outputs_of_no_examples(dtype, depth, pruned):
    layer = made_layer(depth=depth)
    model = keras.Sequential([keras.Input((WIDTH,)), layer])
    if pruned:
        layer(normal(1, WIDTH), training=True)
        model = keras_treegate.prune(model)
    folded = keras_treegate.fold(model, dtype=dtype)
    assert tuple(folded(NONE).shape) == (0, UNITS)
    assert folded.predict_on_batch(NONE).shape == (0, UNITS)
    assert folded.predict_on_batch(normal(4, WIDTH)).shape == (4, UNITS)


def assert_same(variables, before):
    for variable, old in zip(variables, before, strict=True):
        if "seed_generator" not in variable.path:
            np.testing.assert_array_equal(variable.numpy(), old, variable.path)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1),
    "StepAwareSGD": lambda: StepAwareSGD(0.1),
    "StepAwareAdam": lambda: StepAwareAdam(0.1),
}


@each_kind
@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_step_of_no_examples_changes_nothing(
    credit, threshold, depth, run_eagerly
):
    layer = made_layer(credit, threshold, depth)
    model = summed(layer, StepAwareSGD(0.1), run_eagerly=run_eagerly)
    x, y = normal(4, WIDTH), normal(4, UNITS)
    for _ in range(2):
        before = [variable.numpy() for variable in model.weights]
        model.train_on_batch(NONE, y[:0])
        assert_same(model.weights, before)
        model.train_on_batch(x, y)  # and the next one as ever
    assert layer.leaf_visits.sum() == 2 * 2 * 4
    for variable in model.weights:
        assert np.isfinite(variable.numpy()).all(), variable.path


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["dense", "tree"])
def test_the_first_step_is_as_that_of_a_dense_layer(kind, optimizer):
    layer = made_layer() if kind == "tree" else keras.layers.Dense(UNITS)
    model = summed(layer, OPTIMIZERS[optimizer]())
    before = [variable.numpy() for variable in model.weights]
    model.train_on_batch(NONE, NONE[:, :UNITS])
    assert_same(model.weights, before)
    assert int(model.optimizer.iterations.numpy()) == 1


# PyTorch would compile each size of a batch anew, and JAX always compiles.
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
COMPILED = ["auto", True] if ON_TENSORFLOW else ["auto"]


@pytest.mark.parametrize("jit_compile", COMPILED)
@pytest.mark.parametrize("credit", CREDITS)
def test_fit_goes_on_over_batches_of_no_examples(
    credit, jit_compile, monkeypatch
):
    # TensorFlow knows no batch's size here. With this guess a tree of depth 3
    # has levels of both kinds, as a much deeper one has with the real guess.
    monkeypatch.setattr(rows, "UNKNOWN_BATCH", 4)
    layer = made_layer(credit, "running_mean", depth=3)
    model = summed(layer, StepAwareAdam(0.01), jit_compile=jit_compile)
    x, y = normal(5, WIDTH), normal(5, UNITS)

    def batches():
        for size in (2, 0, 5, 0):
            yield x[:size], y[:size]

    model.fit(batches(), epochs=1, verbose=0)
    np.testing.assert_array_equal(layer.leaf_visits.sum(axis=1), [7, 7])
    assert float(layer.gate.updates.numpy()) == 2
    for variable in model.weights:
        assert np.isfinite(variable.numpy()).all(), variable.path
    assert model.predict(batches(), verbose=0).shape == (7, UNITS)
