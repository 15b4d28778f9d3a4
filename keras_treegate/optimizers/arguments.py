"""Checks of the arguments that all step-aware optimizers share."""

from collections.abc import Callable
from typing import TypeAlias

import keras

from keras_treegate.core import checks
from keras_treegate.types import Config, Tensor

# Values that are accepted as a learning rate.
LearningRate: TypeAlias = (
    float
    | keras.optimizers.schedules.LearningRateSchedule
    | Callable[[], Tensor]
)


def refuse_dense(use_ema: object, gradient_accumulation_steps: object) -> None:
    """Raises for options that would touch every row in every step."""
    if use_ema:
        raise ValueError(
            "`use_ema` must be `False`: an average of all weights would "
            "read and write every row in every step. Received: "
            f"use_ema={use_ema}. Leave it out, or use a stock Keras "
            "optimizer, which trains the layer densely."
        )
    if gradient_accumulation_steps is not None:
        raise ValueError(
            "`gradient_accumulation_steps` must be `None`: an accumulator "
            "of the gradient would be as large as the trees. Received: "
            f"gradient_accumulation_steps={gradient_accumulation_steps}. "
            "Use a larger batch, which touches each row once."
        )


def learning_rate(
    value: object,
) -> LearningRate:
    """Returns a schedule or callable as it is, and a number as a float."""
    schedule = keras.optimizers.schedules.LearningRateSchedule
    if isinstance(value, schedule) or callable(value):
        return value
    return checks.number("learning_rate", value)


def weight_decay(value: object) -> float | None:
    """Returns a number as a float, and `None` as it is."""
    if value is None:
        return None
    return checks.number("weight_decay", value, least=0)


def scales(arguments: Config) -> Config:
    """Returns arguments for Keras, with those that scale gradients checked."""
    arguments = dict(arguments)
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        if arguments.get(name) is not None:
            arguments[name] = checks.number(name, arguments[name], least=0)
    if arguments.get("loss_scale_factor") is not None:
        arguments["loss_scale_factor"] = checks.number(
            "loss_scale_factor", arguments["loss_scale_factor"], above=0
        )
    return arguments
