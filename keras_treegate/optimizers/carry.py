"""The state of one optimizer, carried to another."""

from collections.abc import Iterable
from typing import Any

from keras import ops

from keras_treegate.optimizers.loss_scale_optimizer import LossScaleOptimizer
from keras_treegate.optimizers.step_aware_optimizer import StepAwareOptimizer


def can_carry(old: Any, new: Any) -> bool:
    """Whether `carry_state` knows both optimizers."""
    if isinstance(old, LossScaleOptimizer):
        old, new = old.inner_optimizer, getattr(new, "inner_optimizer", None)
    return isinstance(old, StepAwareOptimizer) and type(old) is type(new)


def carry_state(old: Any, new: Any, variables: dict[int, Any]) -> None:
    """Copies what an optimizer knows of variables that another has copies of.

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
    entries = {id(entry.variable): entry for entry in new._entries}
    for entry in old._entries:
        target = entries.get(id(variables.get(id(entry.variable))))
        if target is None:
            continue
        for source, slot in zip(entry.slots, target.slots, strict=True):
            _copy(source, slot)
        if entry.last_step is not None:
            _copy(entry.last_step, target.last_step)


def transfer_exclusions(
    old: Any, new: Any, variables: Iterable[tuple[Any, Any]]
) -> None:
    """Excludes from weight decay in a new optimizer what the old one excluded.

    Args:
        old: an optimizer.
        new: an optimizer that is not built.
        variables: pairs of an old variable and its copy.
    """
    if isinstance(old, LossScaleOptimizer):
        old, new = old.inner_optimizer, new.inner_optimizer
    if isinstance(old, StepAwareOptimizer):
        ids, names = old._excluded
        copies = [copy for one, copy in variables if id(one) in ids]
        new.exclude_from_weight_decay(copies, list(names))


def _copy(source: Any, target: Any) -> None:
    # To memory of its own: JAX deletes what a step replaces.
    target.assign(ops.copy(ops.convert_to_tensor(source.value)))
