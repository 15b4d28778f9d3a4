"""Arguments that optimizers accept and refuse, and their configs."""

import inspect

import keras
import numpy as np
import pytest

from keras_treegate import backend
from keras_treegate.optimizers import (
    StepAwareAdagrad,
    StepAwareAdam,
    StepAwareSGD,
)
from tests.optimizers import feeding
from tests.optimizers.routing import make_layer
from tests.optimizers.rules import RULES, cosine

OPTIMIZERS = (StepAwareSGD, StepAwareAdam, StepAwareAdagrad)
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)

NAN = float("nan")
# The arguments, and in order what the error must say.
REFUSED = {
    "a moving average": (
        OPTIMIZERS,
        {"use_ema": True},
        ["`use_ema` must be `False`", "Received: use_ema=True", "stock"],
    ),
    "accumulated gradients": (
        OPTIMIZERS,
        {"gradient_accumulation_steps": 4},
        [
            "`gradient_accumulation_steps` must be `None`",
            "Received: gradient_accumulation_steps=4",
            "larger batch",
        ],
    ),
    "a negative decay": (
        OPTIMIZERS,
        {"weight_decay": -0.1},
        [
            "`weight_decay` must be a finite number of at least 0",
            "Received: weight_decay=-0.1",
            "Leave it out",
        ],
    ),
    "a decay that is no number": (
        OPTIMIZERS,
        {"weight_decay": NAN},
        ["`weight_decay` must be", "Received: weight_decay=nan"],
    ),
    "a negative momentum": (
        [StepAwareSGD],
        {"momentum": -0.1},
        ["`momentum` must be a finite number of at least 0", "momentum=-0.1"],
    ),
    "a momentum above 1": (
        [StepAwareSGD],
        {"momentum": 1.1},
        ["`momentum` must be", "at most 1", "Received: momentum=1.1"],
    ),
    "amsgrad": (
        [StepAwareAdam],
        {"amsgrad": True},
        [
            "`amsgrad` must be `False`",
            "Received: amsgrad=True",
            "`keras.optimizers.AdamW\\(amsgrad=True\\)`",
        ],
    ),
    "a first beta of 1": (
        [StepAwareAdam],
        {"beta_1": 1.0},
        ["`beta_1` must be", "below 1", "Received: beta_1=1.0", "Leave it out"],
    ),
    "a negative second beta": (
        [StepAwareAdam],
        {"beta_2": -0.5},
        ["`beta_2` must be", "at least 0", "Received: beta_2=-0.5"],
    ),
    "a negative accumulator": (
        [StepAwareAdagrad],
        {"initial_accumulator_value": -1.0},
        [
            "`initial_accumulator_value` must be a finite number of at least 0",
            "Received: initial_accumulator_value=-1.0",
            "Leave it out",
        ],
    ),
}


NO_NUMBERS = ("0.9", "x", True, [0.1], {}, NAN, float("inf"), -float("inf"))
NUMBERS = {
    "learning_rate": OPTIMIZERS,
    "weight_decay": OPTIMIZERS,
    "clipnorm": OPTIMIZERS,
    "clipvalue": OPTIMIZERS,
    "global_clipnorm": OPTIMIZERS,
    "loss_scale_factor": OPTIMIZERS,
    "momentum": [StepAwareSGD],
    "beta_1": [StepAwareAdam],
    "beta_2": [StepAwareAdam],
    "epsilon": [StepAwareAdam, StepAwareAdagrad],
    "initial_accumulator_value": [StepAwareAdagrad],
}
# `None` is a value of these.
OPTIONAL = {
    "weight_decay",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "loss_scale_factor",
}
BOOLEANS = {
    "nesterov": StepAwareSGD,
    "amsgrad": StepAwareAdam,
    "rowwise": StepAwareAdagrad,
}


@pytest.mark.parametrize("value", [*NO_NUMBERS, None], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_finite_number_is_refused(name, value):
    if value is None and name in OPTIONAL:
        value = 10**400  # too large for a float
    match = (
        f"(?s)`{name}` must be a finite number.*Received: {name}="
        f".*of type {type(value).__name__}.*Leave it out"
    )
    for optimizer in NUMBERS[name]:
        with pytest.raises(ValueError, match=match):
            optimizer(**{name: value})


@pytest.mark.parametrize("value", ["yes", 1, 0, None, 1.0], ids=repr)
@pytest.mark.parametrize("name", BOOLEANS)
def test_what_is_no_boolean_is_refused(name, value):
    match = f"`{name}` must be `True` or `False`.*Received: {name}=.*Leave"
    with pytest.raises(ValueError, match=match):
        BOOLEANS[name](**{name: value})


@each_optimizer
def test_a_decay_that_is_set_later_is_checked(optimizer):
    optimizer = optimizer(weight_decay=0.1)
    with pytest.raises(ValueError, match="`weight_decay` must be"):
        optimizer.weight_decay = "0.2"
    assert optimizer.weight_decay == 0.1
    optimizer.weight_decay = None
    assert optimizer.weight_decay is None


@each_optimizer
def test_whole_numbers_and_numbers_of_numpy_are_numbers(optimizer):
    optimizer = optimizer(np.float32(0.5), weight_decay=1, clipnorm=np.int64(2))
    config = optimizer.get_config()
    assert config["learning_rate"] == 0.5
    assert (config["weight_decay"], config["clipnorm"]) == (1.0, 2.0)
    assert float(type(optimizer)(1).learning_rate) == 1.0


@each_optimizer
def test_compile_takes_the_names_of_optimizers(optimizer):
    for name in (optimizer.__name__, optimizer().name):
        assert type(keras.optimizers.get(name)) is optimizer
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(name, "mse")
        assert type(model.optimizer) is optimizer
    stock = keras.optimizers.get({"class_name": "SGD", "config": {}})
    assert isinstance(stock, keras.optimizers.SGD)


@pytest.mark.parametrize(
    ("optimizer", "case"),
    [(optimizer, case) for case in REFUSED for optimizer in REFUSED[case][0]],
)
def test_refused_arguments(optimizer, case):
    _, arguments, parts = REFUSED[case]
    with pytest.raises(ValueError, match=".*".join(parts)):
        optimizer(**arguments)


@each_optimizer
def test_arguments_at_their_bounds_are_accepted(optimizer):
    optimizer(weight_decay=0.0, use_ema=False, gradient_accumulation_steps=None)


def test_numbers_at_their_bounds_are_accepted():
    StepAwareSGD(momentum=1.0)
    StepAwareAdam(beta_1=0.0, beta_2=0.0)
    StepAwareAdagrad(initial_accumulator_value=0.0)


@each_optimizer
def test_an_unknown_argument_is_refused(optimizer):
    with pytest.raises((TypeError, ValueError), match="lerning_rate"):
        optimizer(lerning_rate=0.1)


def test_gradients_without_variables_need_a_build():
    with pytest.raises(ValueError, match="already be built"):
        StepAwareSGD().apply([np.zeros(3)])


def test_too_few_gradients_are_refused():
    optimizer = StepAwareSGD()
    optimizer.build([keras.Variable(np.zeros(3)) for _ in range(2)])
    with pytest.raises(ValueError, match="list of 1 gradients"):
        optimizer.apply([np.zeros(3)])


def test_a_variable_that_it_was_not_built_for_is_refused():
    optimizer = StepAwareSGD()
    optimizer.build([keras.Variable(np.zeros(3))])
    with pytest.raises(ValueError, match="Unknown variable"):
        feeding.apply(
            optimizer, [(keras.Variable(np.zeros(3)), np.zeros(3, "float32"))]
        )


def test_a_level_of_a_layer_that_it_was_not_built_for_is_refused():
    optimizer = StepAwareSGD()
    optimizer.build([keras.Variable(np.zeros(3))])
    level = feeding.make_level(np.zeros((4, 2, 3)), "level")
    with pytest.raises(ValueError, match="Unknown variable"):
        feeding.apply(
            optimizer, [(level.nodes, np.zeros((4, 2, 3), "float32"))]
        )


@each_optimizer
def test_no_gradients_are_no_step(optimizer):
    optimizer = optimizer()
    optimizer.apply([])
    assert not optimizer.built


if backend.DECAY_STATE_IS_TRAINABLE:

    @pytest.mark.parametrize("missing", ["clock", "stamps"])
    def test_nodes_without_their_decay_state_are_refused(missing):
        layer = make_layer(2, 2, 1)
        variables = [
            variable
            for variable in layer.trainable_variables
            if not variable.name.startswith(missing)
        ]
        parts = [
            "`variables` must hold the clock and stamps",
            "Received: '.*nodes_0' without them",
            "Pass all of `model.trainable_variables`",
        ]
        with pytest.raises(ValueError, match=".*".join(parts)):
            StepAwareSGD().build(variables)

else:

    def test_nodes_alone_are_enough():
        layer = make_layer(2, 2, 1)
        assert all(
            "nodes" in v.name or "bias" in v.name
            for v in layer.trainable_variables
        )
        StepAwareSGD().build([layer.nodes[1]])


def test_clocks_and_stamps_have_no_slots():
    layer = make_layer(2, 2, 1, use_bias=False)
    optimizer = StepAwareAdam()
    optimizer.build(layer.trainable_variables)
    shapes = [tuple(variable.shape) for variable in optimizer.variables]
    nodes = [tuple(nodes.shape) for nodes in layer.nodes]
    expected = [(), ()]
    for shape in nodes:
        expected += [shape, shape, shape[:1]]  # two moments, the last steps
    expected += [()]  # the steps taken
    assert shapes == expected


# --- Configs ---------------------------------------------------------------

CONFIGS = {
    **{name: rule.make() for name, rule in RULES.items()},
    "SGD with everything": StepAwareSGD(
        0.3,
        momentum=0.7,
        nesterov=True,
        weight_decay=0.01,
        name="mine",
        clipnorm=1.0,
        loss_scale_factor=4.0,
    ),
    "Adam with everything": StepAwareAdam(
        0.3,
        beta_1=0.8,
        beta_2=0.99,
        epsilon=1e-5,
        weight_decay=0.01,
        name="mine",
        global_clipnorm=1.0,
    ),
    "Adagrad with everything": StepAwareAdagrad(
        0.3,
        initial_accumulator_value=0.2,
        epsilon=1e-5,
        rowwise=True,
        weight_decay=0.01,
        name="mine",
        clipvalue=1.0,
    ),
    "a schedule": StepAwareSGD(cosine(10)),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_config_round_trip(case):
    optimizer = CONFIGS[case]
    config = optimizer.get_config()
    again = type(optimizer).from_config(dict(config))
    assert again.get_config() == config
    signature = set(inspect.signature(type(optimizer)).parameters)
    assert signature - {"kwargs"} <= set(config)
    serialized = keras.saving.serialize_keras_object(optimizer)
    kind = type(optimizer).__name__
    assert serialized["registered_name"] == f"keras_treegate>{kind}"
    loaded = keras.saving.deserialize_keras_object(serialized)
    assert type(loaded) is type(optimizer)
    assert loaded.get_config() == config
    assert keras.optimizers.get(serialized).get_config() == config


@each_optimizer
def test_the_learning_rate_can_be_set_and_read(optimizer):
    optimizer = optimizer(learning_rate=0.5)
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer.get_config()["learning_rate"] == 0.25


@each_optimizer
def test_the_weight_decay_is_still_there_after_a_step(optimizer):
    # It is taken from Keras for the length of a step.
    optimizer = optimizer(weight_decay=0.1)
    variable = keras.Variable(np.ones(3))
    feeding.apply(optimizer, [(variable, np.ones(3, "float32"))])
    assert optimizer.weight_decay == 0.1
    assert optimizer.get_config()["weight_decay"] == 0.1
    with pytest.raises(ValueError, match="Unknown variable"):
        feeding.apply(
            optimizer, [(keras.Variable(np.ones(3)), np.ones(3, "float32"))]
        )
    assert optimizer.weight_decay == 0.1
