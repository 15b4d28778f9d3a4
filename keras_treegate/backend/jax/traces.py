"""Steps as JAX traces them: backward passes, traces, assignments."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from keras_treegate.types import Tensor, Variable

# Traces of `jax.grad` and the like.
GRADIENT_TRACES = ("JVPTrace", "LinearizeTrace")


def watch(
    tensor: Tensor, variable: Variable, check: Callable[[], None] | None
) -> Tensor:
    return tensor if check is None else _watched(tensor, check)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _watched(tensor: Tensor, check: Callable[[], None]) -> Tensor:
    return tensor


def _watched_forward(
    tensor: Tensor, check: Callable[[], None]
) -> tuple[Tensor, None]:
    return tensor, None


def _watched_backward(
    check: Callable[[], None], _: None, gradient: Tensor
) -> tuple[Tensor]:
    check()
    return (gradient,)


_watched.defvjp(_watched_forward, _watched_backward)


def watch_ends_with_gradient(tensor: Tensor, other: Tensor) -> bool:
    # A plain array has no gradient, and a tracer is known by its trace.
    return not any(isinstance(x, jax.core.Tracer) for x in (tensor, other))


def is_of_trace(tensor: Tensor, like: Tensor) -> bool:
    try:
        jnp.negative(tensor)
    except jax.errors.UnexpectedTracerError:
        return False
    return True


def _staged_by(tensor: Tensor) -> list[object]:
    """Returns the traces that a tensor is of, without those of gradients.

    Traces of gradients pass on the value that they differentiate; of all others
    (a jit, a loop, vmap) nothing may outlive the function that they trace.
    """
    staging = []
    trace = getattr(tensor, "_trace", None)
    while trace is not None:
        if type(trace).__name__ not in GRADIENT_TRACES:
            staging.append(trace)
        trace = getattr(trace, "parent_trace", None)
    return staging


def can_assign(variable: Variable, tensor: Tensor) -> bool:
    value = variable.value
    if not isinstance(value, jax.core.Tracer):
        return True  # outside of a step, or where Keras drops the new value
    known = _staged_by(value)
    return all(
        any(trace is other for other in known) for trace in _staged_by(tensor)
    )


def assign_in_step(variable: Variable, value: Tensor) -> None:
    if not can_assign(variable, value):
        return
    is_traced = isinstance(value, jax.core.Tracer)
    if is_traced and not isinstance(variable.value, jax.core.Tracer):
        return  # in a `jit` or `grad` that does not know the variable
    variable.assign(value)
