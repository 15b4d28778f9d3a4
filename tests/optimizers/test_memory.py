"""Models that are built, trained and deleted leave nothing behind."""

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from keras_treegate.optimizers.row_state import Slot
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer
from tests.optimizers.rules import RULES

X, Y = np.ones((4, 6), "float32"), np.ones((4, 2), "float32")


def train(optimizer):
    """Trains a new model for a step; returns references to what it holds."""
    layer = TreeGatedDense(2, depth=3, num_trees=2, seed=0)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)
    held = [layer, optimizer, *model.variables, *optimizer.variables]
    return [weakref.ref(x) for x in held]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_of_a_deleted_model_lives_on(rule):
    references = train(RULES[rule].make())
    gc.collect()
    assert [x() for x in references if x() is not None] == []


def test_attributes_make_the_rule_of_an_optimizer():
    class Scaled(StepAwareOptimizer):
        def __init__(self, scale):
            super().__init__(0.1)
            self.scale = scale

        def slot_kinds(self) -> list[Slot]:
            return []

    assert Scaled(2).rule_key == Scaled(2).rule_key
    assert Scaled(2).rule_key != Scaled(3).rule_key
    assert Scaled(lambda x: x).rule_key is None
    assert StepAwareAdam(0.1).rule_key == StepAwareAdam(0.2).rule_key
    assert StepAwareAdam().rule_key != StepAwareAdam(beta_1=0.5).rule_key
