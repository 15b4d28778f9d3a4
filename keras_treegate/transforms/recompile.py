"""Compiling a new model as an old one was, with the objects that it was given.

Because Keras may not be able to make a loss, metric or schedule of the user's
own from a config, it is passed on as it is.
"""

import contextlib
import warnings
from collections.abc import Iterator
from functools import partial
from types import FunctionType

import keras

from keras_treegate.optimizers.transfer_state import (
    can_transfer,
    transfer_exclusions,
    transfer_state,
)
from keras_treegate.transforms.configs import live_config, remade
from keras_treegate.types import Variable


def compile_like(
    model: keras.Model,
    new: keras.Model,
    variables: list[tuple[Variable, Variable]],
) -> None:
    """Compiles a model like another, and keeps the state of its optimizer.

    Args:
        model: the old model, compiled.
        new: the new one.
        variables: pairs of an old variable and the new one that it became.
    """
    kind = type(model)
    if kind.compile_from_config is not keras.Model.compile_from_config:
        new.compile_from_config(model.get_compile_config())
    elif kind.compile is not keras.Model.compile:
        warnings.warn(
            f"The class {kind.__name__} has a `compile` of its own: the new "
            "model is not compiled as the old one was. Compile it again, or "
            "give the class a `get_compile_config` and a "
            "`compile_from_config`.",
            stacklevel=4,
        )
        return
    else:
        _compile(model, new)
    _carry(model.optimizer, new.optimizer, new.trainable_variables, variables)


def _compile(model: keras.Model, new: keras.Model) -> None:
    # Keras keeps the metrics in the structure given nowhere else.
    given = model._compile_config.config
    new.compile(
        optimizer=_like(model.optimizer),
        loss=model.loss,
        loss_weights=given["loss_weights"],
        metrics=keras.tree.map_structure(_metric_like, given["metrics"]),
        weighted_metrics=keras.tree.map_structure(
            _metric_like, given["weighted_metrics"]
        ),
        run_eagerly=model.run_eagerly,
        steps_per_execution=model.steps_per_execution,
        jit_compile=model.jit_compile,
        # The optimizer is scaled already, if it is to be.
        auto_scale_loss=False,
    )


def _metric_like(metric: object) -> object:
    """Makes a metric with separate state; returns the same where it fails."""
    if not isinstance(metric, keras.Metric):
        return metric
    try:
        return remade(metric)
    except Exception:
        return metric  # `fit` resets it when it begins


def _like(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Makes an optimizer with the same settings and without state."""
    kind = type(optimizer)
    inner = getattr(optimizer, "inner_optimizer", None)
    with _without_schedule(optimizer if inner is None else inner) as schedule:
        config = live_config(optimizer)
    if inner is not None:
        return kind(**(config | {"inner_optimizer": _like(inner)}))
    if schedule is not None:
        config["learning_rate"] = schedule
    return kind.from_config(config)


@contextlib.contextmanager
def _without_schedule(
    optimizer: keras.optimizers.Optimizer,
) -> Iterator[object]:
    """Takes a schedule, which may have no config, out of an optimizer."""
    schedules = keras.optimizers.schedules
    kinds = (schedules.LearningRateSchedule, FunctionType, partial)
    found = [v for v in vars(optimizer).values() if isinstance(v, kinds)]
    if not found:
        yield None
        return
    optimizer.learning_rate = schedules.PolynomialDecay(1.0, 1)
    try:
        yield found[0]
    finally:
        optimizer.learning_rate = found[0]


def _carry(
    old: keras.optimizers.Optimizer,
    new: keras.optimizers.Optimizer,
    trainable: list[Variable],
    variables: list[tuple[Variable, Variable]],
) -> None:
    transfer_exclusions(old, new, variables)
    if not old.built:
        return
    if can_transfer(old, new):
        new.build(trainable)
        transfer_state(old, new, {id(one): copy for one, copy in variables})
        return
    warnings.warn(
        f"The state of the optimizer {old.name!r} is not kept: that of "
        "step-aware optimizers alone is.",
        stacklevel=5,
    )
