"""Scalars of a step are computed once for all of its tables."""

import keras
import numpy as np
import pytest

from keras_treegate.core import decay
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareOptimizer, StepAwareSGD
from tests.optimizers import feeding


class CountingRule(StepAwareOptimizer):
    """Gradient descent with half of the learning rate."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.asked = []

    def slot_kinds(self):
        return []

    def step_scalars(self, step):
        self.asked.append(step.scalars)
        return (step.learning_rate / 2,)

    def next_slots(self, gradient, slots, step):
        return slots

    def next_value(self, value, gradient, slots, step):
        (rate,) = step.scalars
        return value - gradient * rate


def levels_of(*names):
    random = np.random.default_rng(0)
    return [
        feeding.make_level(random.normal(size=(5, 2, 3)).astype("float32"), n)
        for n in names
    ]


def gradients(levels, seed):
    random = np.random.default_rng(seed)
    return [
        (level.nodes, random.normal(size=level.nodes.shape).astype("float32"))
        for level in levels
    ]


def time_of(level):
    time, negative = decay.read_clock(level.clock.value)
    assert not bool(negative)
    return float(keras.ops.sum(time))


def test_the_scalars_of_a_step_are_computed_once():
    levels = levels_of("one", "two")
    bias = keras.Variable(np.ones(4, "float32"), name="bias")
    rule = CountingRule(learning_rate=0.5)
    variables = [level.nodes for level in levels] + [bias]
    before = [variable.numpy() for variable in variables]
    given = [*gradients(levels, 1), (bias, np.full(4, 2.0, "float32"))]
    feeding.apply(rule, given)
    assert rule.asked == [()]
    for variable, old, (_, gradient) in zip(
        variables, before, given, strict=True
    ):
        np.testing.assert_allclose(
            variable.numpy(), old - 0.25 * gradient, rtol=1e-6, atol=1e-6
        )
    feeding.apply(rule, given)
    assert rule.asked == [(), ()]


@pytest.mark.parametrize("as_rows", [False, True])
def test_each_table_keeps_a_clock_of_its_own(as_rows):
    # One decays in each step, one never, one has no gradient at first.
    levels = levels_of("always", "never", "later")
    always, never, later = levels
    rule = StepAwareSGD(0.1, weight_decay=0.5)
    rule.exclude_from_weight_decay(var_list=[never.nodes])
    rule.build(
        [
            variable
            for level in levels
            for variable in (level.nodes, level.clock, level.stamps)
            if variable.trainable
        ]
    )
    for step in range(3):
        given = gradients(levels if step else [always, never], step)
        if as_rows:
            for _, gradient in given:
                gradient[:2] = 0
            given = [(v, feeding.as_rows(g, 4)) for v, g in given]
        feeding.apply(rule, given)
    one = np.log1p(-np.float32(0.1) * np.float32(0.5))
    np.testing.assert_allclose(time_of(always), 3 * one, rtol=1e-6)
    np.testing.assert_allclose(time_of(later), 2 * one, rtol=1e-6)
    assert time_of(never) == 0


def test_tables_of_several_dtypes_decay_as_each_alone():
    def trained(*dtypes):
        layers = [
            TreeGatedDense(3, depth=0, use_bias=False, dtype=dtype)
            for dtype in dtypes
        ]
        for layer in layers:
            layer.build((None, 4))
        levels = [layer.tree_levels[0] for layer in layers]
        rule = StepAwareSGD(0.1, weight_decay=0.3)
        for step in range(3):
            feeding.apply(rule, gradients(levels, step))
        return [level.clock.numpy() for level in levels]

    dtypes = ("float32", "bfloat16")
    together = trained(*dtypes, "float32")
    alone = [clock for dtype in dtypes for clock in trained(dtype)]
    assert not np.array_equal(*alone)  # rates are rounded to the dtype
    np.testing.assert_array_equal(together, [*alone, alone[0]])
