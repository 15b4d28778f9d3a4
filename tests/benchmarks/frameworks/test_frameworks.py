"""The timed work is what a model and `fit` compute, on every backend."""

import keras
import numpy as np
import pytest

from benchmarks import frameworks as timed
from keras_treegate import optimizers
from keras_treegate.layers import TreeGatedDense

BATCH, INPUTS, UNITS = 4, 6, 3
each_compiler = pytest.mark.parametrize("compiler", timed.COMPILERS)
# `torch.compile` takes many seconds: it is tried once, with `forward`.
each_quick_compiler = pytest.mark.parametrize(
    "compiler", [name for name in timed.COMPILERS if name != "compile"]
)


def data(seed=0):
    draw = np.random.default_rng(seed)
    return (
        draw.normal(size=(BATCH, INPUTS)).astype("float32"),
        draw.normal(size=(BATCH, UNITS)).astype("float32"),
    )


def make_model(layer, optimizer=None):
    model = keras.Sequential([keras.Input((INPUTS,), batch_size=BATCH), layer])
    model.compile(optimizer, "mse")
    return model


def tree(depth=2):
    normal = keras.initializers.RandomNormal(seed=1)
    kernel = keras.initializers.GlorotUniform(seed=2)
    return TreeGatedDense(
        UNITS,
        depth=depth,
        num_trees=2,
        node_initializer=normal,
        kernel_initializer=kernel,
        seed=0,
    )


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@each_compiler
def test_forward_is_the_model(compiler):
    model, (x, _) = make_model(tree()), data()
    call = timed.forward(model, compiler)
    timed.wait(call(timed.on_device(x)))
    np.testing.assert_allclose(
        numpy(call(timed.on_device(x))), numpy(model(x)), atol=1e-5
    )


@each_quick_compiler
def test_gradients_are_those_of_the_mean_squared_error(compiler):
    layer = keras.layers.Dense(UNITS)
    model, (x, y) = make_model(layer), data()
    kernel, bias = map(numpy, layer.get_weights())
    call = timed.gradients(model, compiler)
    found = call(timed.on_device(x), timed.on_device(y))
    timed.wait(found)
    error = 2 * (x @ kernel + bias - y) / y.size
    expected = [error @ kernel.T, x.T @ error, error.sum(0)]
    for shape in {array.shape for array in expected}:
        (mine,) = [one for one in flat(found) if one.shape == shape]
        (wanted,) = [one for one in expected if one.shape == shape]
        np.testing.assert_allclose(mine, wanted, atol=1e-5)


def flat(found):
    """Returns the arrays of a result."""
    if isinstance(found, list | tuple):
        return [array for part in found for array in flat(part)]
    return [] if found is None else [numpy(found)]


@each_quick_compiler
@pytest.mark.parametrize("depth", [2, 4])
def test_steps_have_the_losses_of_train_on_batch(compiler, depth):
    def new_model():
        optimizer = optimizers.StepAwareAdam(0.01, weight_decay=0.1)
        return make_model(tree(depth), optimizer)

    model, batches = new_model(), [data(seed) for seed in (0, 1, 0, 1)]
    expected = []
    for batch in batches:
        model.reset_metrics()  # Keras 3.12 returns means since the last reset.
        expected.append(float(model.train_on_batch(*batch)))
    step = timed.step(new_model(), compiler)
    found = [
        float(numpy(step(*map(timed.on_device, batch)))) for batch in batches
    ]
    assert found == pytest.approx(expected, abs=1e-5)
    assert found[2] < found[0]  # the update was done


def test_the_memory_of_a_step_is_told_where_a_compiler_knows_it():
    optimizer = optimizers.StepAwareSGD()
    step = timed.step(make_model(tree(6), optimizer), None)
    found = timed.compiled_memory(step, *map(timed.on_device, data()))
    if keras.backend.backend() != "jax":
        assert found is None
    else:
        assert found["temporary"] > 0
        assert found["arguments"] >= found["aliases"] > 2 * 2**6 * 3 * 3 * 4
