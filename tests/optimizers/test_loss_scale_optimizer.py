"""Loss scaling: with rows as without, and steps that are skipped."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_treegate.optimizers import LossScaleOptimizer, StepAwareSGD
from tests.optimizers import feeding
from tests.optimizers.routing import inputs_for, make_layer, zipf_codes
from tests.optimizers.rules import DECAY, RULES

BACKEND = keras.backend.backend()
TREES, DEPTH, UNITS, BATCH = 2, 1, 2, 3
# A few steps run fastest without compiling, but under JAX.
QUICK = {"run_eagerly": BACKEND != "jax"}


def data(steps=4):
    random = np.random.default_rng(0)
    codes = zipf_codes(random, steps * BATCH, TREES, DEPTH)
    x = inputs_for(random, codes, DEPTH)
    y = random.normal(size=(len(x), UNITS)).astype("float32")
    return list(zip(np.split(x, steps), np.split(y, steps), strict=True))


def model_with(optimizer, row_levels="all", dtype="mixed_float16", **compiled):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        layer = make_layer(UNITS, TREES, DEPTH, row_levels)
        model = keras.Sequential([keras.Input((TREES * DEPTH,)), layer])
        model.compile(optimizer, "mse", **compiled)
    finally:
        keras.config.set_dtype_policy(before)
    return model, layer


def train(model, batches):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for x, y in batches:
            model.train_on_batch(x, y)
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if "is dense" in text]


def state_of(model, layer):
    """Returns all that a step may write, without what counts skipped steps."""
    inner = model.optimizer.inner_optimizer
    variables = [*layer.nodes, *inner.variables]
    for level in layer.tree_levels:
        variables += [level.clock, level.stamps]
    return [variable.numpy() for variable in variables]


def test_scaling_keeps_rows_and_changes_nothing(lifted):
    # In float32 a scale of a power of two is exact.
    inner = RULES["Adam"].make(weight_decay=DECAY)
    scaled, layer = model_with(LossScaleOptimizer(inner), dtype="float32")
    plain, other = model_with(
        RULES["Adam"].make(weight_decay=DECAY), dtype="float32"
    )
    assert train(scaled, data()) == train(plain, data()) == []
    assert lifted.of(layer) == [{"rows"}] * (DEPTH + 1)
    for one, two in zip(layer.nodes, other.nodes, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-6)


def test_in_half_precision_rows_and_dense_are_the_same():
    results = []
    for row_levels in ("all", "none"):
        inner = RULES["SGD with momentum"].make(weight_decay=DECAY)
        model, layer = model_with(
            LossScaleOptimizer(inner), row_levels, **QUICK
        )
        assert model.optimizer.inner_optimizer is inner  # is not wrapped again
        assert train(model, data()) == []
        results.append([nodes.numpy() for nodes in layer.nodes])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)


def test_the_scaling_that_compile_adds_is_right_too():
    # It looks at whole gradients; where rows are lost, a warning says so.
    inner = RULES["SGD with momentum"].make(weight_decay=DECAY)
    model, layer = model_with(inner, **QUICK)
    kind = keras.optimizers.LossScaleOptimizer
    assert type(model.optimizer) is kind
    warned = train(model, data())
    assert len(warned) == len(set(warned))
    ours = RULES["SGD with momentum"].make(weight_decay=DECAY)
    same, other = model_with(LossScaleOptimizer(ours), "none", **QUICK)
    train(same, data())
    # Compared as they are read: the stock one settles the rows in each step.
    for one, two in zip(layer.tree_levels, other.tree_levels, strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(one.read()),
            ops.convert_to_numpy(two.read()),
            atol=1e-3,
        )


@pytest.mark.parametrize("row_levels", ["all", "none"])
def test_a_step_that_is_not_finite_is_skipped(row_levels):
    inner = RULES["SGD with momentum"].make(weight_decay=DECAY)
    model, layer = model_with(
        LossScaleOptimizer(inner, initial_scale=1024.0), row_levels, **QUICK
    )
    batches = data()
    train(model, batches[:2])
    before = state_of(model, layer)
    x, y = batches[2]
    train(model, [(x, np.full_like(y, np.inf))])
    assert float(model.optimizer.dynamic_scale) == 512.0
    assert int(model.optimizer.step_counter) == 0
    for one, two in zip(state_of(model, layer), before, strict=True):
        np.testing.assert_array_equal(one, two)
    train(model, batches[3:])
    assert int(model.optimizer.iterations) == 3
    assert int(model.optimizer.step_counter) == 1
    assert np.any(layer.nodes[0].numpy() != before[0])


def test_the_scale_grows_after_some_finite_steps():
    optimizer = LossScaleOptimizer(
        StepAwareSGD(0.1), initial_scale=8.0, dynamic_growth_steps=2
    )
    model, _ = model_with(optimizer, **QUICK)
    scales = []
    for batch in data():
        train(model, [batch])
        scales.append(float(optimizer.dynamic_scale))
    assert scales == [8.0, 16.0, 16.0, 32.0]


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        ({"initial_scale": 8.0, "dynamic_growth_steps": 2}, 8.0 * 2**4),
        ({"initial_scale": 2.0**127}, None),
    ],
    ids=["grows", "falls"],
)
def test_the_loss_has_the_scale_of_each_step_of_fit(settings, last):
    # `fit` makes the graph, and the optimizer is not built before.
    inner = StepAwareSGD(0.1, momentum=0.9)
    optimizer = LossScaleOptimizer(inner, **settings)
    scaled, layer = model_with(optimizer, dtype="float32")
    # Labels so large that the gradients of the first scales are infinite.
    batches = [(x, 8 * y) for x, y in data(steps=8)]
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert not optimizer.built
    scaled.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    skipped = len(batches) - int(optimizer.iterations)
    if last:
        assert (skipped, float(optimizer.dynamic_scale)) == (0, last)
    else:
        assert 0 < skipped < 6
        assert float(optimizer.dynamic_scale) == 2.0 ** (127 - skipped)
    plain, other = model_with(StepAwareSGD(0.1, momentum=0.9), dtype="float32")
    train(plain, batches[skipped:])
    for one, two in zip(layer.nodes, other.nodes, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), 1e-5, 1e-6)


def test_the_end_of_fit_leaves_no_debt():
    inner = StepAwareSGD(0.1, weight_decay=DECAY)
    model, layer = model_with(LossScaleOptimizer(inner), **QUICK)
    x, y = (np.concatenate(parts) for parts in zip(*data(), strict=True))
    model.fit(x, y, batch_size=BATCH, verbose=0)
    for level in layer.tree_levels:
        assert not np.any(level.clock.numpy())


@pytest.mark.parametrize(
    "inner", [keras.optimizers.SGD(), "adam", None], ids=repr
)
def test_another_inner_optimizer_is_refused(inner):
    parts = [
        "`inner_optimizer` must be a step-aware optimizer",
        "Received: inner_optimizer=",
        "`keras.optimizers.LossScaleOptimizer`",
    ]
    with pytest.raises(ValueError, match="(?s)" + ".*".join(parts)):
        LossScaleOptimizer(inner)


def test_config_round_trip():
    inner = StepAwareSGD(0.1, momentum=0.9, weight_decay=DECAY)
    optimizer = LossScaleOptimizer(inner, 64.0, dynamic_growth_steps=5)
    config = optimizer.get_config()
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(optimizer)
    )
    assert type(again) is LossScaleOptimizer
    assert again.get_config() == config
    assert again.inner_optimizer.momentum == 0.9
    assert (again.initial_scale, again.dynamic_growth_steps) == (64.0, 5)


def test_a_file_brings_back_scale_and_slots(tmp_path):
    inner = RULES["Adam"].make(weight_decay=DECAY)
    model, _ = model_with(LossScaleOptimizer(inner, 64.0), **QUICK)
    train(model, data())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, two in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


# --- What overwrites its variable, and what the wrapped one is told --------


def overwritten_variable():
    variable = keras.Variable(np.ones(2), name="scale")
    variable.overwrite_with_gradient = True
    return variable


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [([8.0, 8.0], [[2.0, 4.0], 0.9]), ([8.0, np.inf], [[1.0, 1.0], 1.0])],
    ids=["finite", "skipped"],
)
def test_what_overwrites_its_variable_is_not_divided(gradient, expected):
    scale, weight = overwritten_variable(), keras.Variable(np.ones(2))
    optimizer = LossScaleOptimizer(StepAwareSGD(0.1), initial_scale=8.0)
    feeding.apply(
        optimizer,
        [
            (scale, np.array([2.0, 4.0], "float32")),
            (weight, np.array(gradient, "float32")),
        ],
    )
    np.testing.assert_allclose(scale.numpy(), expected[0])
    np.testing.assert_allclose(weight.numpy()[0], expected[1])


def test_float8_scales_are_those_of_keras():
    # `loss_scale` in them would make them thousands of times too small.
    x = np.linspace(-2, 2, 24).reshape(3, 8).astype("float32")
    scales = []
    for kind in (keras.optimizers.LossScaleOptimizer, LossScaleOptimizer):
        dense = keras.layers.Dense(8, dtype="mixed_float16")
        model = keras.Sequential([keras.Input((8,)), dense])
        dense.quantize("float8")
        model.compile(kind(StepAwareSGD(1e-3)), "mse")
        for _ in range(2):
            model.train_on_batch(x, np.zeros((3, 8), "float32"))
        scales.append(dense.inputs_scale.numpy())
        assert dense.inputs_amax_history.numpy().max() == 2
    np.testing.assert_allclose(scales[1], scales[0], rtol=1e-5)


@pytest.mark.parametrize("built", [False, True])
def test_what_is_excluded_is_excluded_in_the_inner_optimizer(built):
    optimizer = LossScaleOptimizer(StepAwareSGD(0.1, weight_decay=0.5))
    names = ("kernel", "bias", "gain")
    variables = [keras.Variable(np.ones(2), name=name) for name in names]
    if built:
        optimizer.build(variables)
    optimizer.exclude_from_weight_decay(variables[2:], ["bias"])
    zeros = np.zeros(2, "float32")
    feeding.apply(optimizer, [(variable, zeros) for variable in variables])
    values = [variable.numpy()[0] for variable in variables]
    np.testing.assert_allclose(values, [0.95, 1.0, 1.0])


def test_the_decay_is_that_of_the_inner_optimizer():
    inner = StepAwareSGD(0.1, weight_decay=0.5)
    optimizer = LossScaleOptimizer(inner)
    assert optimizer.weight_decay == inner.weight_decay == 0.5
    optimizer.weight_decay = 0.25
    assert inner.weight_decay == 0.25


@pytest.mark.parametrize(
    "argument",
    [
        {"initial_scale": "8"},
        {"initial_scale": 0},
        {"dynamic_growth_steps": 1.5},
        {"dynamic_growth_steps": 0},
    ],
    ids=repr,
)
def test_scales_and_steps_are_checked(argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f"`{name}` must be.*Received: {name}"):
        LossScaleOptimizer(StepAwareSGD(), **argument)
