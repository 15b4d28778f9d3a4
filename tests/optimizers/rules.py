"""The step-aware optimizers, their options, and what each stands for.

One table for all tests: a rule is an optimizer of the package, the stock Keras
optimizer that it is for dense gradients, and the oracle's formula.
"""

import math
from typing import NamedTuple

import keras

from keras_treegate import optimizers
from tests import oracle

DECAY = 0.1
RATE = 0.05


class Rule(NamedTuple):
    """An optimizer; `arguments` are ours, and the oracle's."""

    ours: type
    stock: type
    oracle: type
    arguments: dict

    @property
    def slots(self):
        """The number of slots of a variable."""
        if self.ours is optimizers.StepAwareSGD:
            return int("momentum" in self.arguments)
        return 2 if self.ours is optimizers.StepAwareAdam else 1

    @property
    def is_exact(self):
        """Whether steps with a zero gradient move nothing but the decay."""
        return self.ours is optimizers.StepAwareAdagrad or not self.slots

    def make(self, **options):
        options = {"learning_rate": RATE, **options}
        return self.ours(**self.arguments, **options)

    def make_stock(self, **options):
        arguments = {"learning_rate": RATE, **self.arguments, **options}
        # For what is no tree level, `rowwise` makes no difference.
        arguments.pop("rowwise", None)
        if self.stock is keras.optimizers.Adam and "weight_decay" in options:
            return keras.optimizers.AdamW(**arguments)
        return self.stock(**arguments)

    def make_oracle(self, weights, **options):
        return self.oracle(weights, **self.arguments, **options)


SGD, ADAM, ADAGRAD = (
    (
        optimizers.StepAwareSGD,
        keras.optimizers.SGD,
        oracle.SGD,
    ),
    (
        optimizers.StepAwareAdam,
        keras.optimizers.Adam,
        oracle.Adam,
    ),
    (
        optimizers.StepAwareAdagrad,
        keras.optimizers.Adagrad,
        oracle.Adagrad,
    ),
)

RULES = {
    "SGD": Rule(*SGD, {}),
    "SGD with momentum": Rule(*SGD, {"momentum": 0.9}),
    "SGD with Nesterov": Rule(*SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": Rule(*ADAM, {}),
    "Adagrad": Rule(*ADAGRAD, {}),
    "Adagrad, rowwise": Rule(*ADAGRAD, {"rowwise": True}),
}


class Option(NamedTuple):
    """The arguments of an optimizer, and what is done with it.

    arguments: for both optimizers, ours and the stock one.
    later: the learning rate to set when half of the steps are done.
    exclude: the keyword of `exclude_from_weight_decay` to use.
    """

    arguments: dict
    later: float | None = None
    exclude: str | None = None


def cosine(steps):
    return keras.optimizers.schedules.CosineDecay(RATE, steps)


def cosine_rate(step, steps):
    """Returns the learning rate of step `step`, from 0 on, in float64."""
    return RATE * (1 + math.cos(math.pi * step / steps)) / 2


DECAYS = {"weight_decay": DECAY}
STEPS = 50  # of a run

OPTIONS = {
    "plain": Option({}),
    "weight decay": Option(DECAYS),
    "clipnorm": Option({**DECAYS, "clipnorm": 0.5}),
    "global_clipnorm": Option({**DECAYS, "global_clipnorm": 0.5}),
    "clipvalue": Option({**DECAYS, "clipvalue": 0.1}),
    "loss_scale_factor": Option({**DECAYS, "loss_scale_factor": 8.0}),
    "schedule": Option({**DECAYS, "learning_rate": cosine(STEPS)}),
    "new learning rate": Option(DECAYS, later=0.3 * RATE),
    "exclude by variable": Option(DECAYS, exclude="var_list"),
    "exclude by name": Option(DECAYS, exclude="var_names"),
}
