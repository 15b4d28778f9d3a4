"""Gates, credit assignments and optimizers of a user's own work everywhere."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate.credit import Credit, Route
from keras_treegate.gates import Gate, codes_from_bits
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import (
    Slot,
    StepAwareOptimizer,
    StepAwareSGD,
)

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = np.abs(X[:, :2])
OWN = "keras_treegate_tests"


@keras.saving.register_keras_serializable(OWN)
class Shifted(Gate):
    """Signs of the first units, over a threshold that it counts in."""

    def __init__(self, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        self.threshold = threshold

    def build(self, input_shape):
        super().build(input_shape)
        self.calls = self.add_weight(
            name="calls", shape=(), dtype="int32", trainable=False
        )

    def activations(self, inputs, training=None, mask=None):
        units = inputs[..., None, : self.depth] - self.threshold
        return ops.repeat(units, self.num_trees, axis=-2)

    def call(self, inputs, training=None, mask=None):
        if training:
            self.calls.assign(self.calls.value + 1)
        return codes_from_bits(self.activations(inputs) > 0)

    def get_config(self):
        return super().get_config() | {"threshold": self.threshold}


@keras.saving.register_keras_serializable(OWN)
class Growing(Shifted):
    """The same, at any depth."""

    def with_depth(self, depth, generator):
        return type(self).from_config(self.get_config())


@keras.saving.register_keras_serializable(OWN)
class Halved(Credit):
    """Lets every node below the root count half."""

    foldable = False

    def __init__(self, scale=0.5):
        self.scale = scale

    def route(self, gate, source, training, mask=None):
        codes = gate(ops.stop_gradient(source), training=training, mask=mask)
        shape = (*ops.shape(codes), gate.depth)
        return Route(codes, scales=self.scale * ops.ones(shape))

    def get_config(self):
        return {"scale": self.scale}


@keras.saving.register_keras_serializable(OWN)
class Plain(Credit):
    """The least that a credit assignment can be."""

    def route(self, gate, source, training, mask=None):
        return Route(gate(ops.stop_gradient(source), training=training))


@keras.saving.register_keras_serializable(OWN)
class Momentum(StepAwareOptimizer):
    """SGD with momentum, in as few lines as it takes."""

    def slot_kinds(self):
        return [Slot("velocity", decay=0.9)]

    def next_slots(self, gradient, slots, step):
        return [0.9 * slots[0] - step.learning_rate * gradient]

    def next_value(self, value, gradient, slots, step):
        return value + slots[0]


def model_of(optimizer="sgd", **options):
    layer = TreeGatedDense(2, depth=2, num_trees=3, **options)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    return model


def outputs(model):
    return model.predict(X, verbose=0)


PARTS = {
    "gate": lambda: {"gate": Growing(0.1)},
    "gate with activations": lambda: {"gate": Growing(), "credit": "straight"},
    "credit with scales": lambda: {"credit": Halved(0.25)},
    "credit": lambda: {"credit": Plain()},
}
each_part = pytest.mark.parametrize("part", PARTS)


@each_part
def test_it_is_saved_and_loaded(part, tmp_path):
    model = model_of(**PARTS[part]())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(outputs(loaded), outputs(model), atol=1e-6)
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy())


@each_part
def test_it_grows_and_changes_no_output(part):
    model = model_of(**PARTS[part]())
    grown = keras_treegate.grow(model, 4, seed=0)
    assert grown.layers[0].depth == 4
    np.testing.assert_allclose(outputs(grown), outputs(model), atol=1e-6)


@each_part
def test_it_is_pruned(part):
    model = model_of(**PARTS[part]())
    pruned = keras_treegate.prune(model)
    assert type(pruned.layers[0].gate) is type(model.layers[0].gate)
    assert type(pruned.layers[0].credit) is type(model.layers[0].credit)
    if part != "credit with scales":  # which counts nodes at half
        np.testing.assert_allclose(outputs(pruned), outputs(model), atol=1e-5)


@pytest.mark.parametrize("part", ["gate", "credit"])
def test_it_folds(part):
    model = model_of(**PARTS[part]())
    folded = keras_treegate.fold(model)
    np.testing.assert_allclose(outputs(folded), outputs(model), atol=1e-5)


def test_a_credit_that_does_not_fold_says_so():
    model = model_of(credit=Halved())
    with pytest.raises(ValueError, match="Received: .*Halved"):
        keras_treegate.fold(model)
    with pytest.raises(ValueError, match=r"(?s)`credit`.*Received: .*Halved"):
        model.layers[0].leaf_table()


def test_scales_are_those_of_the_kernel():
    layer = model_of(credit=Halved(0.0)).layers[0]
    roots = layer.nodes[0].numpy().reshape(6, 2)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.effective_kernel(X[:1]))[0], roots, atol=1e-6
    )


def test_state_of_a_gate_goes_along():
    model = model_of(gate=Growing())
    calls = int(model.layers[0].gate.calls.numpy())
    assert calls == 8
    for changed in (
        keras_treegate.grow(model, 3),
        keras_treegate.prune(model),
        keras_treegate.fold(model),
    ):
        assert int(changed.layers[0].gate.calls.numpy()) == calls


def test_a_gate_of_one_depth_says_what_it_lacks():
    model = model_of(gate=Shifted())
    keras_treegate.fold(model)
    with pytest.raises(ValueError, match=r"(?s)`depth` must be 2.*with_depth"):
        keras_treegate.grow(model, 3)


def test_a_gate_without_activations_says_what_it_lacks():
    class Bare(Gate):
        def call(self, inputs, training=None, mask=None):
            zeros = ops.zeros_like(inputs[..., :1])
            return ops.cast(ops.repeat(zeros, self.num_trees, -1), "int32")

    with pytest.raises(ValueError, match=r"(?s)'straight'.*Bare.*activations"):
        model_of(gate=Bare(), credit="noisy_rectifier")


def test_a_gate_with_activations_learns_by_reinforce():
    loss = keras_treegate.losses.ReinforceLoss("mse")
    layer = TreeGatedDense(2, depth=2, gate=Shifted(), credit="reinforce")
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile("sgd", loss)
    history = model.fit(X, Y, verbose=0).history
    assert np.isfinite(history["loss"][-1])


def test_a_rule_without_route_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match=r"(?s)Lacking.*route"):
        TreeGatedDense(2, credit=type("Lacking", (Credit,), {})())(X)


WRONG_CODES = {
    "bits": (lambda bits, trees: ops.repeat(bits, trees, -2), r"3, 2\).*bool"),
    "floats": (
        lambda bits, trees: ops.zeros((*bits.shape[:-2], trees)),
        r"3\).*float32",
    ),
    "one for all trees": (
        lambda bits, trees: codes_from_bits(bits),
        r"1\).*int32",
    ),
    "nothing": (lambda bits, trees: None, "NoneType"),
}


@pytest.mark.parametrize("wrong", WRONG_CODES)
@pytest.mark.parametrize("credit", ["straight", Plain()], ids=["stock", "own"])
def test_a_gate_without_a_code_for_each_tree_says_so(wrong, credit):
    returned, received = WRONG_CODES[wrong]

    class Wrong(Gate):
        def call(self, inputs, training=None, mask=None):
            bits = inputs[..., None, : self.depth] > 0
            return returned(bits, self.num_trees)

    layer = TreeGatedDense(2, 2, num_trees=3, gate=Wrong(), credit=credit)
    message = r"(?s)integers of shape \(64, 3\).*Received: .*"
    with pytest.raises(ValueError, match=f"{message}{received}.*Wrong.*bits"):
        layer(X)


def test_a_credit_that_returns_no_route_says_so():
    class Codes(Credit):
        def route(self, gate, source, training, mask=None):
            return gate(ops.stop_gradient(source), training=training)

    with pytest.raises(
        ValueError, match=r"(?s)`route`.*Received.*Codes.*Write"
    ):
        TreeGatedDense(2, credit=Codes())(X)


def test_an_optimizer_of_ones_own_does_what_the_package_has():
    keras.utils.set_random_seed(0)
    expected = outputs(model_of(StepAwareSGD(0.05, momentum=0.9), seed=0))
    keras.utils.set_random_seed(0)
    found = outputs(model_of(Momentum(0.05), seed=0))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_optimizer_of_ones_own_is_saved_and_carried_over(tmp_path):
    model = model_of(Momentum(0.05, weight_decay=0.1), seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    grown = keras_treegate.grow(model, 3)
    for other in (loaded, grown):
        assert type(other.optimizer) is Momentum
        assert other.optimizer.weight_decay == 0.1
        slot = other.optimizer.states[0].slots[0].numpy()
        expected = model.optimizer.states[0].slots[0].numpy()
        np.testing.assert_array_equal(slot, expected)


def test_an_optimizer_without_a_rule_says_what_it_lacks():
    lacking = type("Lacking", (StepAwareOptimizer,), {})
    with pytest.raises(NotImplementedError, match=r"(?s)Lacking.*slot_kinds"):
        model_of(lacking(0.1))
