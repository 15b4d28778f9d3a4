"""Exclusions from weight decay go over to a new optimizer."""

import keras
import numpy as np
import pytest

from keras_treegate.optimizers import LossScaleOptimizer, StepAwareSGD
from keras_treegate.optimizers.transfer_state import transfer_exclusions
from tests.optimizers import feeding

RATE, DECAY = 0.1, 0.5


def inner_sgd():
    return keras.optimizers.SGD(RATE, weight_decay=DECAY)


def inner_step_aware():
    return StepAwareSGD(RATE, weight_decay=DECAY)


# Functions that make an optimizer, and find its part for exclusions.
OPTIMIZERS = {
    "step-aware": (inner_step_aware, lambda optimizer: optimizer),
    "stock": (inner_sgd, lambda optimizer: optimizer),
    "step-aware, scaled": (
        lambda: LossScaleOptimizer(inner_step_aware()),
        lambda optimizer: optimizer.inner_optimizer,
    ),
    "stock, scaled": (
        lambda: keras.optimizers.LossScaleOptimizer(inner_sgd()),
        lambda optimizer: optimizer.inner_optimizer,
    ),
}


def variables():
    return [
        keras.Variable(np.ones(3), name=name)
        for name in ("kernel", "bias", "gain")
    ]


def one_step(optimizer, variables):
    """Returns variables of ones after a step with zero gradients."""
    zeros = np.zeros(3, "float32")
    feeding.apply(optimizer, [(variable, zeros) for variable in variables])
    return [variable.numpy()[0] for variable in variables]


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_exclusions_hold_for_the_copies(case, built):
    make, told = OPTIMIZERS[case]
    old, new = make(), make()
    olds, news = variables(), variables()
    told(old).exclude_from_weight_decay(olds[2:], ["bias"])
    if built:
        new.build(news)
    transfer_exclusions(old, new, zip(olds, news, strict=True))
    # The wrapped part steps, because JAX scales in `stateless_apply` only.
    stepped = one_step(told(new), news)
    np.testing.assert_allclose(stepped, [0.95, 1.0, 1.0])


def test_a_name_holds_for_what_has_no_copy():
    old, new = inner_step_aware(), inner_step_aware()
    old.exclude_from_weight_decay(var_names=["bias"])
    transfer_exclusions(old, new, [])
    np.testing.assert_allclose(one_step(new, variables()), [0.95, 1.0, 0.95])


def test_nothing_that_was_excluded_is_nothing_told():
    old, new = inner_step_aware(), inner_step_aware()
    olds, news = variables(), variables()
    new.exclude_from_weight_decay(news[:1])
    transfer_exclusions(old, new, zip(olds, news, strict=True))
    np.testing.assert_allclose(one_step(new, news), [1.0, 0.95, 0.95])
