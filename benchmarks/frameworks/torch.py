"""Work to time under PyTorch: eager, or by `torch.compile`."""

from collections.abc import Callable
from typing import Any

import keras
import torch

COMPILERS = (None, "compile")

on_device = keras.ops.convert_to_tensor


def wait(result: Any) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _function(
    function: Callable, compiler: str | None, **options: Any
) -> Callable:
    if compiler is None:
        return function
    return torch.compile(function, dynamic=False, options=options)


def _loss(model: Any, x: Any, y: Any) -> Any:
    return torch.mean(torch.square(model(x, training=True) - y))


def forward(model: Any, compiler: str | None) -> Callable:
    def served(x: Any) -> Any:
        return model(x, training=False)

    # PyTorch keeps what it compiled with the code. The models of this process
    # must not share it, since only tensors are checked from here on: to check
    # all attributes of all layers takes longer than a small network.
    served.__code__ = served.__code__.replace()
    guards = torch.compiler.keep_tensor_guards_unsafe
    function = _function(served, compiler, guard_filter_fn=guards)

    def call(x: Any) -> Any:
        with torch.no_grad():
            return function(x)

    return call


def gradients(model: Any, compiler: str | None) -> Callable:
    weights = model.trainable_variables
    loss = _function(lambda x, y: _loss(model, x, y), compiler)

    def call(x: Any, y: Any) -> Any:
        model.zero_grad()
        x = x.detach().requires_grad_()
        loss(x, y).backward()
        return [x.grad, *(weight.value.grad for weight in weights)]

    return call


def step(model: Any, compiler: str | None) -> Callable:
    weights = model.trainable_variables
    model.optimizer.build(weights)
    function = _function(lambda x, y: _loss(model, x, y), compiler)

    def call(x: Any, y: Any) -> Any:
        model.zero_grad()
        loss = function(x, y)
        loss.backward()
        with torch.no_grad():
            gradients = [weight.value.grad for weight in weights]
            model.optimizer.apply(gradients, weights)
        return loss

    return call


def compiled_memory(step: Any, x: Any, y: Any) -> None:
    return None


def accelerator() -> str:
    on_gpu = keras.ops.zeros(1).is_cuda
    return torch.cuda.get_device_name() if on_gpu else ""


def copy(array: Any) -> Any:
    return array.clone()


def feed(inputs: Any, targets: Any, batch: int) -> dict:
    return {"x": inputs, "y": targets, "batch_size": batch}
