"""Properties of every step-aware optimizer, in one table.

Each case is a rule and an option. It is run once, for 50 steps, on variables
of other layers, on a level of which every row is touched in every step, and on
two levels whose rows sleep, one fed with rows and one with dense gradients.
"""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from tests.optimizers import feeding
from tests.optimizers.rules import (
    DECAY,
    OPTIONS,
    RATE,
    RULES,
    STEPS,
    cosine_rate,
)

ROWS, NUM_TOUCHED, NUM_IDS = 20, 4, 6
SHAPES = {
    "kernel": (5, 3),
    "bias": (3,),
    "scale": (),
    "touched": (4, 2, 3),
    "as rows": (ROWS, 2, 3),
    "dense": (ROWS, 2, 3),
}
LEVELS = ("touched", "as rows", "dense")
OTHERS = ("kernel", "bias", "scale")

# The first two options with every rule, the others with one or two.
CASES = [
    *((rule, option) for option in ("plain", "weight decay") for rule in RULES),
    *(("Adam", option) for option in list(OPTIONS)[2:]),
    ("SGD", "schedule"),
    ("SGD with Nesterov", "global_clipnorm"),
    ("Adagrad", "loss_scale_factor"),
    ("Adagrad, rowwise", "schedule"),
]

each_case = pytest.mark.parametrize(("rule", "option"), CASES)


def gradients(seed=0):
    """Yields the gradients of each step, by name."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, ROWS + 1) ** 2.0
    for _ in range(STEPS):
        step = {name: random.normal(size=SHAPES[name]) for name in SHAPES}
        rows = random.choice(
            ROWS, NUM_TOUCHED, replace=False, p=weights / weights.sum()
        )
        sleeping = np.setdiff1d(np.arange(ROWS), rows)
        step["dense"][sleeping] = 0
        step["as rows"] = step["dense"]
        yield {
            name: gradient.astype("float32") for name, gradient in step.items()
        }


def initial_values():
    random = np.random.default_rng(1)
    values = {name: random.normal(size=SHAPES[name]) for name in SHAPES}
    values["as rows"] = values["dense"]
    return {name: value.astype("float32") for name, value in values.items()}


def plain_variables():
    """Makes Keras variables of the names that the others and the nodes have."""
    return {
        name: keras.Variable(value, name="nodes_0" if name in LEVELS else name)
        for name, value in initial_values().items()
    }


def exclude(optimizer, option, variables):
    if option.exclude == "var_list":
        names = ("kernel", "dense", "as rows")
        optimizer.exclude_from_weight_decay(
            var_list=[variables[name] for name in names]
        )
    elif option.exclude == "var_names":
        optimizer.exclude_from_weight_decay(var_names=["odes_", "bias"])


class Run:
    """Our optimizer and the stock one, after the same steps.

    ours, stock: the optimizers.
    variables, stock_variables: what they trained, by name.
    levels: the levels of the trained nodes, by name.
    """

    def __init__(self, rule, option):
        rule, option = RULES[rule], OPTIONS[option]
        values = initial_values()
        self.levels = {
            name: feeding.make_level(values[name], name.replace(" ", "_"))
            for name in LEVELS
        }
        self.variables = {
            name: self.levels[name].nodes
            if name in LEVELS
            else keras.Variable(values[name], name=name)
            for name in SHAPES
        }
        self.stock_variables = plain_variables()
        self.ours = rule.make(**option.arguments)
        self.stock = rule.make_stock(**option.arguments)
        exclude(self.ours, option, self.variables)
        exclude(self.stock, option, self.stock_variables)
        for step, given in enumerate(gradients()):
            if option.later and step == STEPS // 2:
                self.ours.learning_rate = option.later
                self.stock.learning_rate = option.later
            forms = {
                **given,
                "touched": feeding.as_rows(given["touched"], 4),
                "as rows": feeding.as_rows(given["as rows"], NUM_IDS),
            }
            feeding.apply(
                self.ours,
                [(self.variables[name], forms[name]) for name in forms],
            )
            feeding.apply(
                self.stock,
                [(self.stock_variables[name], given[name]) for name in given],
            )


run = functools.cache(Run)


def assert_close(actual, expected, tolerance=3e-6):
    """Asserts that arrays differ by at most a part of the largest number."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def test_rows_sleep_in_the_data():
    touched = np.array(
        [np.any(g["dense"] != 0, axis=(1, 2)) for g in gradients()]
    )
    assert np.all(touched.sum(axis=1) == NUM_TOUCHED)
    gaps = [np.diff(np.flatnonzero(row)).max(initial=0) for row in touched.T]
    assert max(gaps) >= 15
    assert touched.any(axis=0).sum() > ROWS // 2


@each_case
def test_other_variables_are_trained_as_by_keras(rule, option):
    done = run(rule, option)
    for name in OTHERS:
        assert_close(
            done.variables[name].numpy(),
            done.stock_variables[name].numpy(),
            1e-6,
        )


@pytest.mark.parametrize(
    ("rule", "option"), [case for case in CASES if "rowwise" not in case[0]]
)
def test_a_level_of_which_all_is_touched_is_trained_as_by_keras(rule, option):
    done = run(rule, option)
    assert_close(
        done.variables["touched"].numpy(),
        done.stock_variables["touched"].numpy(),
    )


@pytest.mark.parametrize(
    ("rule", "option"),
    [
        case
        for case in CASES
        if RULES[case[0]].is_exact and "rowwise" not in case[0]
    ],
)
@pytest.mark.parametrize("level", ["as rows", "dense"])
def test_sleeping_rows_are_read_as_keras_would_have_them(rule, option, level):
    done = run(rule, option)
    assert_close(
        ops.convert_to_numpy(done.levels[level].read()),
        done.stock_variables[level].numpy(),
    )


@each_case
def test_rows_and_dense_gradients_mean_the_same(rule, option):
    done = run(rule, option)
    rows, dense = done.levels["as rows"], done.levels["dense"]
    for kind in ("nodes", "stamps", "clock"):
        assert_close(getattr(rows, kind).numpy(), getattr(dense, kind).numpy())
    rows = feeding.slots_of(done.ours, rows.nodes)
    dense = feeding.slots_of(done.ours, dense.nodes)
    assert rows.keys() == dense.keys()
    for name in rows:
        assert_close(rows[name], dense[name])


@each_case
def test_each_variable_has_the_slots_of_its_rule(rule, option):
    done = run(rule, option)
    for name in SHAPES:
        slots = feeding.slots_of(done.ours, done.variables[name])
        steps = slots.pop("last_step", None)
        assert len(slots) == RULES[rule].slots
        rowwise = "rowwise" in rule and name in LEVELS
        for slot in slots.values():
            shape = SHAPES[name]
            assert slot.shape == ((shape[0], 1, 1) if rowwise else shape)
        decaying = name in LEVELS and not RULES[rule].is_exact
        assert (steps is not None) == decaying


@each_case
def test_levels_without_decay_have_no_clock_running(rule, option):
    done = run(rule, option)
    excluded = {"var_list": ("as rows", "dense"), "var_names": LEVELS}
    still = excluded.get(OPTIONS[option].exclude, ())
    if option == "plain":
        still = LEVELS
    for name, level in done.levels.items():
        assert np.any(level.clock.numpy() != 0) == (name not in still)


def learning_rate(option, step):
    if option == "schedule":
        return cosine_rate(step, STEPS)
    if option == "new learning rate" and step >= STEPS // 2:
        return OPTIONS[option].later
    return RATE


@pytest.mark.parametrize(
    ("rule", "option"),
    [
        case
        for case in CASES
        if case[1] in ("plain", "weight decay", "schedule", "new learning rate")
    ],
)
def test_all_of_it_is_what_the_oracle_says(rule, option):
    done = run(rule, option)
    values = initial_values()
    expected = RULES[rule].make_oracle(
        [np.atleast_1d(values[name]) for name in SHAPES],
        weight_decay=0.0 if option == "plain" else DECAY,
        row_sparse=[name in LEVELS for name in SHAPES],
    )
    for step, given in enumerate(gradients()):
        expected.apply(
            [np.atleast_1d(given[name]) for name in SHAPES],
            learning_rate(option, step),
        )
    for name, weight in zip(SHAPES, expected.weights, strict=True):
        if name in LEVELS:
            actual = ops.convert_to_numpy(done.levels[name].read())
        else:
            actual = np.atleast_1d(done.variables[name].numpy())
        assert_close(actual, weight, 1e-5)
