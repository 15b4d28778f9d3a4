"""Files that do not fit leave a layer, and all in it, as it was."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate.credit import NoisyRectifier, Reinforce
from keras_treegate.gates import SignGate
from keras_treegate.layers import FoldedTreeDense, TreeGatedDense
from keras_treegate.optimizers import (
    LossScaleOptimizer,
    StepAwareAdam,
    StepAwareSGD,
)


def tree(units=3, depth=2, threshold="running_mean", seed=0, **arguments):
    gate = SignGate(threshold=threshold, seed=seed)
    return TreeGatedDense(units, depth, gate=gate, seed=seed, **arguments)


def model_of(layer, width=4):
    return keras.Sequential(
        [
            keras.Input((width,)),
            keras.layers.Dense(4, name="before"),
            layer,
        ]
    )


def fill(model, seed):
    """Gives every variable a value of its own, as after a training."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        value = random.integers(0, 3, variable.shape)
        if "float" in variable.dtype:
            value = value - random.random(variable.shape)
        variable.assign(value)
    return model


def values(model):
    return [ops.convert_to_numpy(ops.copy(v.value)) for v in model.variables]


def saved(model, path):
    fill(model, 1).save_weights(path / "model.weights.h5")
    return path / "model.weights.h5"


# A layer to save, and one that it does not fit, for as different reasons.
MISFITS = {
    "units": lambda: (tree(3), tree(5)),
    "units, and the same number of rows in all else": lambda: (
        tree(3, use_bias=False),
        tree(5, use_bias=False),
    ),
    "depth": lambda: (tree(depth=2), tree(depth=3)),
    "trees": lambda: (tree(num_trees=2), tree(num_trees=4)),
    "bias": lambda: (tree(use_bias=False), tree()),
    "threshold": lambda: (tree(), tree(threshold="zero")),
    "another threshold": lambda: (tree(threshold="zero"), tree()),
    "credit": lambda: (tree(), tree(credit=Reinforce())),
    "another credit": lambda: (
        tree(credit=NoisyRectifier()),
        tree(credit=Reinforce()),
    ),
    "units, with a credit": lambda: (
        tree(3, credit=Reinforce()),
        tree(5, credit=Reinforce()),
    ),
    "units of a folded layer": lambda: (
        FoldedTreeDense(3, 2),
        FoldedTreeDense(5, 2),
    ),
    "gate of a folded layer": lambda: (
        FoldedTreeDense(3, 2, gate=SignGate(threshold="running_mean")),
        FoldedTreeDense(3, 2),
    ),
    "table dtype": lambda: (
        FoldedTreeDense(3, 2, table_dtype="int8"),
        FoldedTreeDense(3, 2),
    ),
    "another layer": lambda: (FoldedTreeDense(3, 2), tree(3, 2)),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_layer_that_does_not_fit_stays_wholly_as_it_was(case, tmp_path):
    old, new = map(model_of, MISFITS[case]())
    file = saved(old, tmp_path)
    before = values(fill(new, 2).layers[1])
    with pytest.warns(UserWarning, match="could not be loaded"):
        new.load_weights(file, skip_mismatch=True)
    for variable, value in zip(new.layers[1].variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    # The variables beside it are loaded.
    for one, two in zip(
        old.layers[0].variables, new.layers[0].variables, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize("case", MISFITS)
def test_without_skipping_it_is_refused_and_the_reason_is_told(case, tmp_path):
    old, new = map(model_of, MISFITS[case]())
    file = saved(old, tmp_path)
    before = values(fill(new, 2).layers[1])
    message = r"(?s)must .*Received: .*saved with.*Nothing of it was loaded"
    with pytest.raises(ValueError, match=message):
        new.load_weights(file)
    for variable, value in zip(new.layers[1].variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_layer_is_loaded_after_another_file_was_refused(tmp_path):
    old, new = model_of(tree(3)), model_of(tree(5))
    file = saved(old, tmp_path)
    with pytest.warns(UserWarning, match="could not be loaded"):
        new.load_weights(file, skip_mismatch=True)
    fitting = model_of(tree(5, seed=7))
    (tmp_path / "other").mkdir()
    new.load_weights(saved(fitting, tmp_path / "other"), skip_mismatch=True)
    for one, two in zip(values(fitting), values(new), strict=True):
        np.testing.assert_array_equal(one, two)


def test_weights_of_reinforce_can_be_used_without_it(tmp_path):
    # A last training may want gates that stand still.
    old, new = model_of(tree(credit=Reinforce())), model_of(tree())
    new.load_weights(saved(old, tmp_path))
    np.testing.assert_array_equal(
        old.layers[1].nodes[2].numpy(), new.layers[1].nodes[2].numpy()
    )


def test_files_of_before_are_loaded(tmp_path):
    # Those do not tell what the parts of a layer have.
    old, new = model_of(tree()), model_of(tree(seed=1))
    file = saved(old, tmp_path)
    parts = []
    with h5py.File(file, "a") as opened:
        opened.visit(
            lambda name: parts.append(name) if name.endswith("parts") else None
        )
        for name in parts:
            del opened[name]
    assert len(parts) == 1
    new.load_weights(file)
    for one, two in zip(values(old), values(new), strict=True):
        np.testing.assert_array_equal(one, two)


def trained(units, optimizer):
    model = model_of(tree(units))
    model.compile(optimizer, "mse")
    model.fit(np.ones((8, 4)), np.ones((8, units)), epochs=2, verbose=0)
    return model


OPTIMIZERS = {
    "sgd": lambda: StepAwareSGD(0.1, momentum=0.5),
    "adam": lambda: StepAwareAdam(0.1),
    "loss scale": lambda: LossScaleOptimizer(StepAwareAdam(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_that_does_not_fit_stays_wholly_as_it_was(name, tmp_path):
    old, new = trained(3, OPTIMIZERS[name]()), trained(5, OPTIMIZERS[name]())
    old.optimizer.iterations.assign(77)
    old.save_weights(tmp_path / "model.weights.h5")
    before = values(new.optimizer)
    with pytest.warns(UserWarning, match="could not be loaded"):
        new.load_weights(tmp_path / "model.weights.h5", skip_mismatch=True)
    for one, two in zip(before, values(new.optimizer), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_pruned_and_folded_layer_is_loaded(tmp_path):
    layer = TreeGatedDense(3, depth=2, num_trees=1, name="tree", seed=0)
    model = keras.Sequential([keras.Input((4,)), layer])
    pruned = keras_treegate.prune(model, visits={"tree": [[3, 0, 2, 5]]})
    folded = keras_treegate.fold(pruned, dtype="int8")
    folded.save(tmp_path / "folded.keras")
    again = keras.saving.load_model(tmp_path / "folded.keras")
    assert again.layers[0].slots is not None
    for one, two in zip(values(folded), values(again), strict=True):
        np.testing.assert_array_equal(one, two)


class Read(dict):
    """A store that notes what is read of it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.names = []

    def __getitem__(self, name):
        self.names.append(name)
        return super().__getitem__(name)


def test_variables_are_assigned_in_their_order():
    # Processes that load together do the same at the same time.
    layer = tree(depth=5)
    layer.build((None, 8))
    store = {}
    layer.save_own_variables(store)
    read = Read(store)
    layer.load_own_variables(read)
    names = [name for name in store if name != "parts"]
    assert len(names) > 12
    assert read.names[-len(names) :] == names  # after the shapes were checked
