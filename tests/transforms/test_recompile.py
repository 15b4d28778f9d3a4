"""A grown model is compiled as the old one was, with the same objects."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_treegate
from keras_treegate.optimizers import (
    LossScaleOptimizer,
    StepAwareAdam,
    StepAwareSGD,
)
from tests.transforms import models
from tests.transforms.models import normal

X, Y = normal(24, 8), normal(24, 4, seed=1)


def compiled(optimizer=None, loss="mse", outputs=None, **kwargs):
    inputs = keras.Input((8,))
    hidden = models.tree(4, name="tree")(inputs)
    model = keras.Model(inputs, outputs(hidden) if outputs else hidden)
    model.compile(optimizer or StepAwareSGD(0.1), loss, **kwargs)
    return model


def grown(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return keras_treegate.grow(model, depth=3)


def test_a_loss_that_no_file_could_hold_is_handed_over():
    class Scaled(keras.losses.Loss):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, y, z):
            return self.factor * ops.mean(ops.square(y - z), axis=-1)

    loss = Scaled(7.0)
    new = grown(compiled(loss=loss))
    assert new.loss is loss
    expected = 7 * np.mean((Y - new.predict(X, verbose=0)) ** 2)
    assert new.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-4)


def test_losses_and_weights_of_several_outputs_are_kept():
    def two(hidden):
        double = keras.layers.Rescaling(2.0, name="double")(hidden)
        return {"single": hidden, "double": double}

    losses = {"single": lambda y, z: ops.mean(ops.abs(y - z), axis=-1)}
    losses["double"] = "mse"
    model = compiled(
        outputs=two, loss=losses, loss_weights={"single": 3.0, "double": 0.5}
    )
    new = grown(model)
    y = {"single": Y, "double": Y}
    # TensorFlow wraps a dictionary that a model holds.
    assert dict(new.loss) == losses
    assert new.evaluate(X, y, verbose=0)[0] == pytest.approx(
        model.evaluate(X, y, verbose=0)[0], rel=1e-5
    )


class Largest(keras.metrics.Metric):
    """A metric with an argument and a state, registered nowhere."""

    def __init__(self, power, name="largest", **kwargs):
        super().__init__(name=name, **kwargs)
        self.power = power
        self.value = self.add_weight(initializer="zeros", name="value")

    def update_state(self, y, z, sample_weight=None):
        found = ops.max(ops.abs(y - z) ** self.power)
        self.value.assign(ops.maximum(self.value, ops.cast(found, "float32")))

    def result(self):
        return ops.convert_to_tensor(self.value)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def test_metrics_of_ones_own_are_kept_and_share_no_state():
    def closeness(y, z):
        return -ops.abs(y - z)

    largest = Largest(2)
    wrapped = keras.metrics.MeanMetricWrapper(
        lambda y, z: y * 0 + 5, name="five"
    )
    model = compiled(
        metrics=["mae", largest, closeness, wrapped], weighted_metrics=["mse"]
    )
    model.fit(X, Y, verbose=0)
    new = grown(model)
    old, kept = (
        each.evaluate(X, Y, return_dict=True, verbose=0)
        for each in (model, new)
    )
    assert {"mae", "largest", "closeness", "five", "mse"} < set(old)
    assert kept == pytest.approx(old, rel=1e-4)
    assert kept["five"] == pytest.approx(5)
    before = float(ops.convert_to_numpy(largest.result()))
    new.evaluate(X, 100 * Y, verbose=0)
    assert float(ops.convert_to_numpy(largest.result())) == before


def test_settings_of_compile_are_kept():
    eager = grown(compiled(run_eagerly=True))
    assert eager.run_eagerly
    assert not eager.jit_compile
    model = compiled(steps_per_execution=3, jit_compile=False)
    new = grown(model)
    assert new.steps_per_execution == 3
    assert not new.run_eagerly
    assert not new.jit_compile


def test_an_optimizer_that_was_not_to_be_scaled_stays_so():
    inputs = keras.Input((8,), dtype="float32")
    layer = models.tree(4, dtype="mixed_float16")
    model = keras.Model(inputs, layer(inputs))
    model.dtype_policy = keras.DTypePolicy("mixed_float16")
    model.compile(StepAwareSGD(0.1), "mse", auto_scale_loss=False)
    assert type(grown(model).optimizer) is StepAwareSGD


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule without a config."""

    def __call__(self, step):
        return 0.5 / (1.0 + ops.cast(step, "float32"))


@pytest.mark.parametrize("scaled", [False, True])
def test_a_schedule_without_a_config_is_handed_over(scaled):
    schedule = Falling()
    optimizer = StepAwareAdam(schedule)
    if scaled:
        optimizer = LossScaleOptimizer(optimizer)
    model = compiled(optimizer)
    model.fit(X, Y, batch_size=8, verbose=0)
    new = grown(model)
    for each in (model, new):
        inner = getattr(each.optimizer, "inner_optimizer", each.optimizer)
        rate = ops.convert_to_numpy(inner.learning_rate)
        assert float(rate) == pytest.approx(0.5 / 4)
    new.fit(X, Y, batch_size=8, verbose=0)
    model.fit(X, Y, batch_size=8, verbose=0)
    assert int(new.optimizer.iterations.numpy()) == 6


def test_a_learning_rate_that_is_a_function_is_handed_over():
    new = grown(compiled(StepAwareSGD(lambda: 0.25)))
    rate = new.optimizer.learning_rate
    assert float(ops.convert_to_numpy(rate)) == 0.25


EXCLUDED = {
    "by name": {"var_names": ["bias"]},
    "by variable": {"var_list": "bias"},
}


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("how", EXCLUDED)
def test_variables_excluded_from_decay_stay_so(how, scaled, built):
    inner = optimizer = StepAwareSGD(0.1, weight_decay=0.5)
    if scaled:
        optimizer = LossScaleOptimizer(inner)
    model = compiled(optimizer)
    bias = model.get_layer("tree").bias
    arguments = dict(EXCLUDED[how])
    if how == "by variable":
        arguments["var_list"] = [bias]
    inner.exclude_from_weight_decay(**arguments)
    bias.assign(np.ones(4))
    x, y = np.zeros((8, 8)), np.ones((8, 4))
    if built:
        model.fit(x, y, verbose=0)
    layer = model.get_layer("tree")
    new = grown(model)
    kept = new.get_layer("tree")
    for each in (model, new):
        each.fit(x, y, verbose=0)
    np.testing.assert_allclose(kept.bias.numpy(), np.ones(4), rtol=1e-6)
    root = kept.nodes[0].numpy()
    np.testing.assert_allclose(root, layer.nodes[0].numpy(), rtol=1e-5)
    again = keras_treegate.grow(new, depth=4)
    again.fit(x, y, verbose=0)
    bias = again.get_layer("tree").bias
    np.testing.assert_allclose(bias.numpy(), np.ones(4), rtol=1e-6)


class OwnCompile(keras.Model):
    def compile(self, optimizer, loss, factor=1.0):
        super().compile(optimizer=optimizer, loss=loss)
        self.factor = factor


class OwnCompileConfig(OwnCompile):
    def get_compile_config(self):
        return {"factor": self.factor}

    def compile_from_config(self, config):
        self.compile(StepAwareSGD(0.1), "mse", **config)


@pytest.mark.parametrize("kind", [OwnCompile, OwnCompileConfig])
def test_a_compile_of_ones_own_is_called_where_it_has_a_config(kind):
    inputs = keras.Input((8,))
    model = kind(inputs=inputs, outputs=models.tree(4)(inputs))
    model.compile(StepAwareSGD(0.1), "mse", factor=3.0)
    if kind is OwnCompileConfig:
        new = grown(model)
        assert new.factor == 3.0
        assert new.compiled
    else:
        with pytest.warns(UserWarning, match=r"OwnCompile has a `compile` of"):
            new = keras_treegate.grow(model, depth=3)
        assert not new.compiled
    assert type(new) is kind
