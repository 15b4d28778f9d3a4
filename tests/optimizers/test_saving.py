"""Files with optimizer state: training goes on from them."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_treegate.optimizers import LossScaleOptimizer, StepAwareAdam
from tests.optimizers.continue_training import RULE_NAMES, begin, go_on
from tests.optimizers.routing import make_layer


@pytest.fixture(scope="module", name="folder")
def a_folder_with_models(tmp_path_factory):
    """Saves models, and beside each what came of training it on by `go_on`."""
    folder = tmp_path_factory.mktemp("models")
    for number, rule in enumerate(RULE_NAMES):
        model = begin(rule)
        model.save(folder / f"{number}.keras")
        np.savez(folder / f"{number}-expected.npz", **go_on(model))
    return folder


def expected(folder, number):
    return np.load(folder / f"{number}-expected.npz")


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_training_goes_on_bit_for_bit_on_the_same_backend(folder, rule):
    number = RULE_NAMES.index(rule)
    model = keras.models.load_model(folder / f"{number}.keras")
    levels = model.layers[0].tree_levels
    assert all(np.any(level.clock.numpy() != 0) for level in levels)
    found, wanted = go_on(model), expected(folder, number)
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize(
    "backend",
    sorted({"tensorflow", "jax", "torch"} - {keras.backend.backend()}),
)
def test_training_goes_on_on_another_backend(folder, backend):
    done = subprocess.run(
        [sys.executable, "-m", "tests.optimizers.continue_training", folder],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for number in range(len(RULE_NAMES)):
        found = np.load(folder / f"{number}-{backend}.npz")
        wanted = expected(folder, number)
        assert set(found) == set(wanted)
        for name in wanted:
            scale = np.abs(wanted[name]).max(initial=1.0)
            np.testing.assert_allclose(
                found[name],
                wanted[name],
                rtol=0,
                atol=1e-5 * scale,
                err_msg=name,
            )


def test_state_round_trips_through_save_own_variables():
    model = begin("Adam")
    ours, store = model.optimizer, {}
    ours.save_own_variables(store)
    again = type(ours).from_config(ours.get_config())
    again.build(model.trainable_variables)
    again.load_own_variables(store)
    for one, two in zip(ours.variables, again.variables, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("iterations", [3, 1])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_files_without_the_steps_taken_are_loaded(is_scaled, iterations):
    # Files of version 0.1.0 have none; `iterations` may have been set since.
    optimizers, layers = [], []
    for _ in range(2):
        optimizer = inner = StepAwareAdam()
        if is_scaled:
            optimizer = LossScaleOptimizer(inner)
        layer = make_layer(2, 1, 2)
        optimizer.build(layer.trainable_variables)
        optimizers.append((optimizer, inner))
        layers.append(layer)
    (old, inner_of_old), (new, inner_of_new) = optimizers
    inner_of_old.iterations.assign(iterations)
    inner_of_old.steps_taken.assign(3)
    inner_of_old.last_steps(layers[0].nodes[0]).assign([3])
    store = {}
    old.save_own_variables(store)
    new.load_own_variables(dict(store))
    for one, two in zip(old.variables, new.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    del store[str(len(old.variables) - 1)]
    inner_of_new.steps_taken.assign(0)
    new.load_own_variables(store)
    for one, two in zip(old.variables, new.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
