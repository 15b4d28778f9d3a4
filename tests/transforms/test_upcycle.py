"""Dense models with trees: the same outputs, and more to train."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_treegate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from keras_treegate.transforms.sublayers import descendants
from tests.transforms import models
from tests.transforms.models import normal


def of_kind(model, kind):
    return [layer for layer in descendants(model) if type(layer) is kind]


def dense(**kwargs):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="mine", **kwargs)]
    )
    models.randomize(model)
    return model


@pytest.mark.parametrize("structure", models.STRUCTURES)
def test_a_model_of_any_structure_keeps_its_outputs(structure):
    model, x = models.STRUCTURES[structure](layers.Dense)
    models.randomize(model)
    before = models.values(model)
    count = len(of_kind(model, layers.Dense))
    new = keras_treegate.upcycle(model, depth=2, num_trees=3, seed=0)
    assert len(of_kind(new, TreeGatedDense)) == count > 0
    assert of_kind(new, layers.Dense) == []
    # bfloat16 has 8 bits, and compiled, sums may be rounded once or twice.
    tolerance = 1e-2 if "half_precision" in structure else 1e-5
    models.assert_same_outputs(model, new, x, tolerance)
    models.assert_unchanged(model, before)
    models.assert_nothing_shared(model, new)


@pytest.mark.parametrize("structure", ["nested", "time_distributed"])
def test_a_new_model_is_saved_and_loaded(structure, tmp_path):
    model, x = models.STRUCTURES[structure](layers.Dense)
    new = keras_treegate.upcycle(model, depth=2)
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    models.assert_same_outputs(model, loaded, x)


def test_layers_inside_of_layers_are_saved_by_their_weights(tmp_path):
    model, x = models.layer_inside_of_a_layer(layers.Dense)
    models.randomize(model)
    new = keras_treegate.upcycle(model, depth=2, seed=0)
    models.randomize(new)
    new.save_weights(tmp_path / "new.weights.h5")
    other, _ = models.layer_inside_of_a_layer(layers.Dense)
    other = keras_treegate.upcycle(other, depth=2, seed=1)
    other.load_weights(tmp_path / "new.weights.h5")
    models.assert_same_outputs(new, other, x, 1e-6)


def test_both_models_train_on_and_leave_each_other_alone():
    model, x = models.nested(layers.Dense)
    model.compile("adam", "mse")
    model.fit(x, normal(7, 3), verbose=0)
    new = keras_treegate.upcycle(model, depth=2, calibrate=x)
    assert not new.compiled
    assert model.compiled
    before = models.values(model)
    new.compile(StepAwareAdam(0.1), "mse")
    new.fit(x, normal(7, 3), verbose=0)
    models.assert_unchanged(model, before)
    assert np.any(new.layers[-1].nodes[2].numpy() != 0)
    after = models.values(new)
    model.fit(x, normal(7, 3), verbose=0)
    models.assert_unchanged(new, after)


def test_what_a_dense_layer_is_told_is_kept():
    model = dense(
        activation="relu",
        bias_regularizer=keras.regularizers.L2(0.1),
        bias_constraint="non_neg",
        activity_regularizer=keras.regularizers.L1(0.2),
        dtype="mixed_bfloat16",
    )
    model.layers[0].trainable = False
    new = keras_treegate.upcycle(model, depth=2, num_trees=None)
    (layer,) = new.layers
    assert layer.name == "mine"
    assert layer.activation is keras.activations.relu
    assert float(layer.bias_regularizer.l2) == pytest.approx(0.1)
    assert isinstance(layer.bias_constraint, keras.constraints.NonNeg)
    assert float(layer.activity_regularizer.l1) == pytest.approx(0.2)
    assert layer.dtype_policy.name == "mixed_bfloat16"
    assert not layer.trainable
    assert new.trainable_variables == []
    assert (layer.depth, layer.num_trees) == (2, 6)
    assert layer.gate.threshold == "running_mean"


CHOICES = {
    "a name": "first",
    "names": ["first"],
    "a function": lambda layer: layer.name == "first",
}


@pytest.mark.parametrize("choice", CHOICES)
def test_some_layers_are_chosen(choice):
    model, x = models.sequential(layers.Dense)
    new = keras_treegate.upcycle(model, depth=2, layers=CHOICES[choice])
    assert [type(layer).__name__ for layer in new.layers[::2]] == [
        "TreeGatedDense",
        "Dense",
    ]
    models.assert_same_outputs(model, new, x)


def test_thresholds_are_measured_on_a_sample():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="first"),
            layers.Dense(4, name="second"),
        ]
    )
    x = normal(300, 6) + 3  # more than one batch
    new = keras_treegate.upcycle(model, depth=2, calibrate=x, seed=0)
    hidden = keras.Model(model.inputs, model.layers[0].output)
    hidden = models.outputs(hidden, x)[0]
    for layer, source in zip(new.layers, (x, hidden), strict=True):
        means = source.mean(axis=0)[layer.gate.units]
        found = layer.gate.moving_mean.numpy()
        np.testing.assert_allclose(found, means, rtol=1e-4, atol=1e-6)
        assert float(layer.gate.updates.numpy()) == 2
    assert "call" not in vars(new.layers[0])


def test_the_seed_decides_the_gates():
    def units(seed):
        new = keras_treegate.upcycle(
            models.nested(layers.Dense)[0], depth=2, seed=seed
        )
        return [t.gate.units.tolist() for t in of_kind(new, TreeGatedDense)]

    first = units(1)
    assert first == units(1) != units(2)
    assert first[0] != first[1]


class OwnDense(layers.Dense):
    pass


REASONS = {
    "another class": (lambda: layers.ReLU(name="mine"), {}, "is a ReLU"),
    "a subclass": (lambda: OwnDense(4, name="mine"), {}, "is a OwnDense"),
    "a constraint": (
        lambda: layers.Dense(4, name="mine", kernel_constraint="max_norm"),
        {},
        "has a `kernel_constraint`",
    ),
    "a normalized kernel": (
        lambda: layers.SpectralNormalization(layers.Dense(4, name="mine")),
        {},
        "is in a `SpectralNormalization`",
    ),
    "too few inputs for the gates": (
        lambda: layers.Dense(4, name="mine"),
        {"depth": 7},
        "does not fit its gate: `depth` must be at most",
    ),
    "too few inputs for the trees": (
        lambda: layers.Dense(4, name="mine"),
        {"num_trees": 7},
        "has 6 inputs, too few for 7 trees",
    ),
    "too large": (
        lambda: layers.Dense(2**28, name="mine"),
        {"num_trees": 1},
        "would be too large",
    ),
}


def lora(model):
    model.layers[0].enable_lora(2)
    return model


@pytest.mark.parametrize("case", REASONS)
def test_layers_that_cannot_be_converted_are_named_with_the_reason(
    case, monkeypatch
):
    make, arguments, reason = REASONS[case]
    if case == "too large":
        monkeypatch.setenv("KERAS_TREEGATE_MAX_LAYER_GIB", "0.00001")
        make = lambda: layers.Dense(400, name="mine")  # noqa: E731
    model = keras.Sequential([keras.Input((6,)), make()])
    match = rf"(?s)`layers` must be.*Received: 'mine' {reason}.*Choose others"
    with pytest.raises(ValueError, match=match):
        keras_treegate.upcycle(
            model, **{"depth": 2, "layers": "mine", **arguments}
        )


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_layers_of_inputs_that_are_no_floats_are_not_converted(dtype):
    x = keras.Input((6,), dtype=dtype)
    y = layers.Dense(4, name="second")(layers.Dense(5, name="first")(x))
    model = keras.Model(x, y)
    with pytest.warns(match=f"'first' has inputs of the dtype {dtype}, which"):
        new = keras_treegate.upcycle(model, depth=2)
    assert [type(x).__name__ for x in new.layers[1:]] == [
        "Dense",
        "TreeGatedDense",
    ]
    x = np.eye(6).astype(dtype)
    models.assert_same_outputs(model, new, x)


def test_layers_with_lora_are_not_converted():
    with pytest.raises(ValueError, match=r"'mine' has LoRA weights"):
        keras_treegate.upcycle(lora(dense()), depth=2)


def test_what_is_left_out_is_said():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(1, kernel_regularizer="l2", name="narrow"),
            layers.Dense(4, name="last"),
        ]
    )
    with (
        pytest.warns(
            UserWarning, match=r"Not converted: 'last' does not fit its gate"
        ),
        pytest.warns(UserWarning, match=r"`kernel_regularizer` of 'narrow'"),
    ):
        new = keras_treegate.upcycle(model, depth=2)
    assert len(of_kind(new, TreeGatedDense)) == 1


REFUSED = {
    "depth": ({"depth": -1}, "(?s)`depth` must be.*Received: depth=-1"),
    "trees": ({"num_trees": 0}, "(?s)`num_trees`.*Received: num_trees=0"),
    "seed": ({"seed": -1}, "(?s)`seed` must be.*Received: seed=-1"),
    "threshold": (
        {"gate_threshold": "mean"},
        "(?s)`gate_threshold` must be.*Received: gate_threshold='mean'",
    ),
    "nothing to calibrate": (
        {"gate_threshold": "zero", "calibrate": normal(3, 6)},
        "(?s)`calibrate` is for.*Received: gate_threshold='zero'.*Leave",
    ),
    "an empty sample": (
        {"calibrate": normal(0, 6)},
        r"(?s)arrays of equal length.*Received: lengths \[0\].*Pass",
    ),
    "an unknown name": (
        {"layers": ["mine", "yours"]},
        r"(?s)`layers` must name.*Received: \['yours'\].*summary",
    ),
    "no names": (
        {"layers": 3},
        "(?s)`layers` must be `None`.*Received: layers=3.*Write",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_are_refused(case):
    arguments, match = REFUSED[case]
    with pytest.raises(ValueError, match=match):
        keras_treegate.upcycle(dense(), **{"depth": 2, **arguments})


def test_a_model_of_keras_applications():
    model = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=7
    )
    # Untrained, it makes features of next to nothing.
    kernel = model.get_layer("predictions").kernel
    kernel.assign(kernel * 1e11)
    new = keras_treegate.upcycle(model, depth=3)
    assert type(new.get_layer("predictions")) is TreeGatedDense
    x = normal(2, 32, 32, 3)
    expected = model.predict(x, verbose=0)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(new.predict(x, verbose=0), expected, atol=1e-5)


def test_a_keras_hub_transformer():
    keras_hub = pytest.importorskip("keras_hub")
    model = keras_hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        max_sequence_length=10,
    )
    x = {
        "token_ids": np.arange(20).reshape(2, 10) % 50,
        "segment_ids": np.zeros((2, 10), "int32"),
        "padding_mask": np.ones((2, 10), "int32"),
    }
    new = keras_treegate.upcycle(model, depth=2)
    # Two of each block, and the pooler.
    assert len(of_kind(new, TreeGatedDense)) == 5
    models.assert_same_outputs(model, new, x)
