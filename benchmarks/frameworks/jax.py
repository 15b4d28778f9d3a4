"""Work to time under JAX: one `jit`, with the weights for arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

COMPILERS = (None,)

on_device = jnp.asarray
wait = jax.block_until_ready


def _values(variables: list) -> list:
    return [variable.value for variable in variables]


def _loss(model: Any, trainable: list, other: list, x: Any, y: Any) -> tuple:
    outputs, other = model.stateless_call(trainable, other, x, training=True)
    return jnp.mean(jnp.square(outputs - y)), other


def _with_weights(function: Callable, model: Any) -> Callable:
    """Compiles a function of weights, inputs and more for these weights."""
    # Weights that are no arguments would be constants to fold.
    return partial(
        jax.jit(function),
        _values(model.trainable_variables),
        _values(model.non_trainable_variables),
    )


def forward(model: Any, compiler: str | None) -> Callable:
    def call(trainable: list, other: list, x: Any) -> Any:
        return model.stateless_call(trainable, other, x, training=False)[0]

    return _with_weights(call, model)


def gradients(model: Any, compiler: str | None) -> Callable:
    gradient = jax.grad(partial(_loss, model), argnums=(0, 2), has_aux=True)
    return _with_weights(gradient, model)


class Step:
    """A step whose state is donated, as in `fit`."""

    def __init__(self, model: Any) -> None:
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)
        gradients = jax.value_and_grad(partial(_loss, model), has_aux=True)

        @partial(jax.jit, donate_argnums=0)
        def train(state: tuple, x: Any, y: Any) -> tuple:
            trainable, other, slots = state
            (loss, other), grads = gradients(trainable, other, x, y)
            trainable, slots = optimizer.stateless_apply(
                slots, grads, trainable
            )
            return loss, (trainable, other, slots)

        self.train = train
        self.state = (
            _values(model.trainable_variables),
            _values(model.non_trainable_variables),
            _values(optimizer.variables),
        )

    def __call__(self, x: Any, y: Any) -> Any:
        loss, self.state = self.train(self.state, x, y)
        return loss


def step(model: Any, compiler: str | None) -> Callable:
    return Step(model)


def compiled_memory(step: Any, x: Any, y: Any) -> dict | None:
    analysis = step.train.lower(step.state, x, y).compile().memory_analysis()
    if analysis is None:
        return None
    return {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes,
        "aliases": analysis.alias_size_in_bytes,
        "temporary": analysis.temp_size_in_bytes,
    }


def accelerator() -> str:
    found = jax.devices()[0]
    return "" if found.platform == "cpu" else found.device_kind


@jax.jit
def copy(array: Any) -> Any:
    return array + 1


def feed(inputs: Any, targets: Any, batch: int) -> dict:
    return {"x": inputs, "y": targets, "batch_size": batch}
