"""Functions that copy the state of one optimizer to another."""

from collections.abc import Iterable

import keras
from keras import ops

from keras_treegate.optimizers.loss_scale_optimizer import LossScaleOptimizer
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer
from keras_treegate.types import Variable


def can_transfer(
    old: keras.optimizers.Optimizer, new: keras.optimizers.Optimizer
) -> bool:
    """Returns whether `transfer_state` works for both optimizers."""
    if isinstance(old, LossScaleOptimizer):
        if not isinstance(new, keras.optimizers.LossScaleOptimizer):
            return False
        old, new = old.inner_optimizer, new.inner_optimizer
    return isinstance(old, StepAwareOptimizer) and type(old) is type(new)


def transfer_state(
    old: keras.optimizers.Optimizer,
    new: keras.optimizers.Optimizer,
    variables: dict[int, Variable],
) -> None:
    """Copies the state of variables to an optimizer of their copies.

    Args:
        old: a built optimizer.
        new: a built optimizer of the same class.
        variables: for the `id` of an old variable the new one. The slots of
            other variables stay as they are.
    """
    if isinstance(old, LossScaleOptimizer):
        _copy(old.step_counter, new.step_counter)
        _copy(old.dynamic_scale, new.dynamic_scale)
        _copy(old.iterations, new.iterations)
        old, new = old.inner_optimizer, new.inner_optimizer
    _copy(old.iterations, new.iterations)
    if old.steps_taken is not None:
        _copy(old.steps_taken, new.steps_taken)
    states = {id(state.variable): state for state in new.states}
    for state in old.states:
        target = states.get(id(variables.get(id(state.variable))))
        if target is None:
            continue
        for source, slot in zip(state.slots, target.slots, strict=True):
            _copy(source, slot)
        if state.last_step is not None:
            _copy(state.last_step, target.last_step)


def transfer_exclusions(
    old: keras.optimizers.Optimizer,
    new: keras.optimizers.Optimizer,
    variables: Iterable[tuple[Variable, Variable]],
) -> None:
    """Copies what is excluded from weight decay to a new optimizer.

    It works before and after the new optimizer is built, for step-aware and
    stock optimizers, and for those inside a `LossScaleOptimizer` or a
    `MultiOptimizer`.

    Args:
        old: an optimizer.
        new: an optimizer of the same class.
        variables: pairs of an old variable and its copy. Excluded names hold
            for variables without a copy as well.
    """
    pairs = list(variables)
    sources, targets = _of_wrapped(old), _of_wrapped(new)
    for source, target in zip(sources, targets, strict=True):
        copies = [copy for one, copy in pairs if _is_excluded(source, one)]
        names = _excluded_names(source)
        if copies or names:
            target.exclude_from_weight_decay(var_list=copies, var_names=names)


def _of_wrapped(
    optimizer: keras.optimizers.Optimizer,
) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers inside of an optimizer, or itself alone."""
    if hasattr(optimizer, "inner_optimizer"):
        return _of_wrapped(optimizer.inner_optimizer)
    return list(getattr(optimizer, "optimizers", [optimizer]))


# Keras has no public name for what was excluded in its own optimizers.


def _is_excluded(
    optimizer: keras.optimizers.Optimizer, variable: Variable
) -> bool:
    if isinstance(optimizer, StepAwareOptimizer):
        return optimizer.is_excluded(variable)
    return not optimizer._use_weight_decay(variable)


def _excluded_names(optimizer: keras.optimizers.Optimizer) -> list[str]:
    if isinstance(optimizer, StepAwareOptimizer):
        return list(optimizer.excluded_names)
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    return [] if pattern is None else [pattern.pattern]


def _copy(source: Variable, target: Variable) -> None:
    # Copied to new memory, because JAX deletes what a step replaces.
    target.assign(ops.copy(ops.convert_to_tensor(source.value)))
