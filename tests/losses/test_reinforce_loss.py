"""Any loss, with credit for sampled gates."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.credit import Reinforce, scores
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from keras_treegate.optimizers import LossScaleOptimizer, StepAwareSGD
from tests import gradients
from tests.random_layers import normal

LABELS = np.array([0, 2, 1, 2, 0, 1])


def sampled(units=3, **kwargs):
    return TreeGatedDense(
        units, depth=2, num_trees=2, credit=Reinforce(seed=0), **kwargs
    )


def model_of(*layers, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *layers])


def masked(tensor, mask):
    return keras.layers.Masking()(np.where(mask[..., None], tensor, 0.0))


LOSSES = {
    "name": "mse",
    "object": keras.losses.Huber(delta=0.3),
    "function": lambda y, y_pred: ops.sum(ops.abs(y - y_pred), axis=-1),
    "sum": keras.losses.MeanAbsoluteError(reduction="sum"),
    "none": keras.losses.MeanAbsoluteError(reduction=None),
    "weighted": keras.losses.MeanSquaredError(
        reduction="mean_with_sample_weight"
    ),
}


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_the_value_is_that_of_the_loss(case, weighted, mask):
    y, y_pred = normal(4, 3, 2), normal(4, 3, 2, seed=1)
    weights = np.arange(12.0).reshape(4, 3) if weighted else None
    if mask:
        y_pred = masked(y_pred, np.arange(12).reshape(4, 3) % 3 > 0)
    loss = ReinforceLoss(LOSSES[case])
    plain = keras.Sequential()  # how Keras makes a loss of what it is given
    plain.compile(loss=LOSSES[case])
    expected = LOSSES[case]
    if not isinstance(expected, keras.losses.Loss):
        plain._compile_loss.build(y, ops.convert_to_tensor(y_pred))
        expected = plain._compile_loss._flat_losses[0].loss
    # With scores at hand, and without.
    for training in (False, True):
        waited, found = during_a_gradient(
            training, lambda: loss(y, y_pred, weights)
        )
        assert waited == training
        np.testing.assert_allclose(
            ops.convert_to_numpy(found),
            expected(y, y_pred, weights),
            rtol=1e-5,
        )


def during_a_gradient(training, value):
    """Returns how many scores wait, and a value, while a gradient is taken."""
    found = []

    def of_outputs(outputs):
        found.append(scores.waiting())
        note(value())
        return ops.sum(outputs)

    def note(value):
        if keras.backend.backend() != "jax":
            found.append(ops.stop_gradient(value))
            return
        import jax

        # Because what a trace computes is known when it is run.
        jax.debug.callback(found.append, value)

    model = model_of(sampled(), shape=(3, 4))
    take = gradients.BACKENDS[keras.backend.backend()]
    taken = take(model, of_outputs, [normal(4, 3, 4)], {"training": training})
    ops.convert_to_numpy(taken[0])  # waits for what is run
    return found


def test_a_mask_of_the_loss_itself_is_kept():
    plain = keras.losses.SparseCategoricalCrossentropy(ignore_class=2)
    probabilities = np.full((6, 3), 1 / 3, "float32")
    sampled()(normal(6, 4), training=True)
    found = ReinforceLoss(plain)(LABELS, probabilities)
    np.testing.assert_allclose(found, plain(LABELS, probabilities), rtol=1e-6)
    np.testing.assert_allclose(found, np.log(3.0), rtol=1e-5)


def test_labels_with_a_last_axis_of_one():
    loss = ReinforceLoss("sparse_categorical_crossentropy")
    probabilities = np.full((6, 3), 1 / 3, "float32")
    found = loss(LABELS[:, None], probabilities)
    np.testing.assert_allclose(found, loss(LABELS, probabilities))
    column = ReinforceLoss("mse")(np.arange(3.0), np.zeros((3, 1)))
    np.testing.assert_allclose(column, 5 / 3, rtol=1e-6)


def test_a_loss_is_saved_with_what_it_wraps(tmp_path):
    loss = ReinforceLoss(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), "own"
    )
    model = model_of(sampled())
    model.compile("sgd", loss)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.loss, ReinforceLoss)
    assert loaded.loss.positions == "own"
    assert loaded.loss.loss.get_config() == loss.loss.get_config()
    named = ReinforceLoss("mse")
    copy = ReinforceLoss.from_config(named.get_config())
    assert copy.get_config() == named.get_config()


EXECUTIONS = {
    "as it comes": {},
    "eagerly": {"run_eagerly": True},
    "by XLA": {"jit_compile": True},
    "steps at a time": {"steps_per_execution": 2},
}
EXECUTED = (
    ["as it comes", "eagerly"]
    if keras.backend.backend() == "torch"
    else list(EXECUTIONS)
)


@pytest.mark.parametrize("execution", EXECUTED)
def test_fit_trains_and_leaves_nothing_behind(execution):
    outer = keras.layers.Dense(4)
    model = model_of(outer, model_of(sampled(), sampled()))
    loss = ReinforceLoss(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.compile(StepAwareSGD(0.1), loss, **EXECUTIONS[execution])
    x = normal(6, 4)
    before = [v.numpy() for v in model.trainable_variables]
    history = model.fit(
        x,
        LABELS,
        batch_size=3,
        epochs=2,
        validation_data=(x, LABELS),
        verbose=0,
    )
    value = model.evaluate(x, LABELS, verbose=0)
    np.testing.assert_allclose(history.history["val_loss"][-1], value, 1e-4)
    assert any(
        (v.numpy() != old).any()
        for v, old in zip(model.trainable_variables, before, strict=True)
    )
    credit = model.layers[1].layers[0].credit
    assert credit.updates.numpy()[0] == 4
    assert scores.waiting() == 0


@pytest.mark.parametrize("execution", EXECUTED)
def test_a_loss_that_is_not_wrapped(execution):
    layer = sampled(name="gated")
    model = model_of(layer)
    model.compile(StepAwareSGD(0.1), "mse", **EXECUTIONS[execution])
    x, y = normal(6, 4), normal(6, 3)
    text = (
        r"`loss` must be a `keras_treegate\.losses\.ReinforceLoss` for the "
        r"layer 'sequential.*/gated'.*Received: another loss.*straight"
    )
    with pytest.raises(ValueError, match=text):
        model.fit(x, y, verbose=0)
    assert scores.waiting() == 0


def test_a_model_that_is_compiled_anew():
    model = model_of(sampled())
    x, y = normal(6, 4), normal(6, 3)
    model.compile("sgd", ReinforceLoss("mse"))
    model.fit(x, y, verbose=0)
    model.compile("sgd", "mse")
    model.evaluate(x, y, verbose=0)  # no gates learn here
    with pytest.raises(ValueError, match="must be a `keras_treegate.losses"):
        model.fit(x, y, verbose=0)


def test_layers_that_do_not_sample_need_no_such_loss():
    x, y = normal(6, 4), normal(6, 3)
    frozen = sampled()
    frozen.trainable = False
    model = model_of(
        keras.layers.Dense(4),
        frozen,
        TreeGatedDense(3, depth=0, credit="reinforce"),
        TreeGatedDense(3, depth=1),
    )
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    model.compile("sgd", ReinforceLoss("mse"))
    model.fit(x, y, verbose=0)


def test_scores_of_other_batches_are_left_alone():
    model = model_of(sampled())
    model(normal(5, 4), training=True)  # by hand, and never used
    model.compile("sgd", ReinforceLoss("mse"))
    x, y = normal(6, 4), normal(6, 3)
    model.evaluate(x, y, verbose=0)
    model.fit(x, y, verbose=0)


def test_a_batch_axis_that_the_loss_does_not_have():
    inputs = keras.Input((2, 4), batch_size=3)
    rows = keras.layers.Lambda(
        lambda x: ops.reshape(x, (6, 4)), output_shape=(4,)
    )(inputs)
    pairs = keras.layers.Lambda(
        lambda y: ops.reshape(y, (3, 6)), output_shape=(6,)
    )(sampled()(rows))
    model = keras.Model(inputs, pairs)
    model.compile("sgd", ReinforceLoss("mse"))
    with pytest.raises(
        ValueError, match="a loss, but of 3 examples.*called with 6"
    ):
        model.train_on_batch(normal(3, 2, 4), normal(3, 6))


def test_a_rematerialized_layer_is_credited():
    with keras.RematScope(mode="full"):
        layer = sampled()
    model = model_of(layer)
    model.compile("sgd", ReinforceLoss("mse"))
    model.fit(normal(6, 4), normal(6, 3), verbose=0)
    assert layer.credit.updates.numpy()[0] == 1


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="what JAX recomputes apart"
)
def test_a_layer_in_something_rematerialized_is_refused():
    import jax

    class Recomputed(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.tree = sampled()

        def build(self, shape):
            self.tree.build(shape)

        def call(self, x, training=False):
            return keras.remat(lambda x: self.tree(x, training=training))(x)

    model = model_of(Recomputed())
    model.compile("sgd", ReinforceLoss("mse"))
    refused = (ValueError, jax.errors.UnexpectedTracerError)
    with pytest.raises(refused, match="rematerialized|escape the scope"):
        model.fit(normal(6, 4), normal(6, 3), verbose=0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_as_float32(policy):
    def trained(dtype):
        gates = keras.layers.Dense(4, dtype="float32", name="gates")
        inputs = keras.Input((4,))
        outputs = sampled(
            kernel_initializer=keras.initializers.GlorotUniform(1),
            node_initializer=keras.initializers.RandomNormal(seed=1),
            dtype=dtype,
            seed=0,
        )(inputs, gate_inputs=gates(inputs))
        model = keras.Model(inputs, outputs)
        gates.kernel.assign(normal(4, 4))
        optimizer = StepAwareSGD(0.1)
        if dtype == "mixed_float16":
            optimizer = LossScaleOptimizer(optimizer, initial_scale=256.0)
        model.compile(optimizer, ReinforceLoss("mse"))
        x, y = normal(6, 4), normal(6, 3)
        model.fit(x, y, epochs=3, shuffle=False, verbose=0)
        return gates.kernel.numpy()

    expected = trained("float32")
    assert np.abs(expected - normal(4, 4)).max() > 0.01
    np.testing.assert_allclose(trained(policy), expected, atol=0.01)


def test_graphs_are_let_go():
    model = model_of(sampled())
    model.compile("sgd", ReinforceLoss("mse"))
    model.fit(normal(6, 4), normal(6, 3), verbose=0)
    layer = weakref.ref(model.layers[0])
    del model
    gc.collect()
    assert scores.waiting() == 0
    assert layer() is None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ReinforceLoss("no_loss"), "`loss` must be .*'no_loss'"),
        (lambda: ReinforceLoss(None), "`loss` must be .*loss=None"),
        (lambda: ReinforceLoss(3), "`loss` must be .*loss=3"),
        (
            lambda: ReinforceLoss(ReinforceLoss("mse")),
            "`loss` must be the name of a Keras loss",
        ),
        (
            lambda: ReinforceLoss("mse", positions="some"),
            "`positions` must be 'all' or 'own'. Received: positions='some'",
        ),
        (
            lambda: ReinforceLoss(lambda y, p: ops.mean(p))(
                *np.ones((2, 3, 1))
            ),
            "`loss` must return a loss for each example.*a scalar",
        ),
    ],
)
def test_refused_losses(make, text):
    with pytest.raises(ValueError, match=text):
        make()
