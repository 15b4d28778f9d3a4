"""What a benchmark times: work of a model, compiled, and what `fit` is fed.

Each file has the same functions:

    forward(model, compiler)
        A function of inputs (B, P) that does inference.
    gradients(model, compiler)
        A function of inputs and targets: the gradients of the mean squared
        error for the inputs and for all trainable weights.
    step(model, compiler)
        A function of inputs and targets that does what a step of `fit` does,
        without metrics: forward, backward and the update by the model's
        optimizer. It may use the model up.
    on_device(array)
        A NumPy array where the framework computes.
    wait(result)
        Returns once the result is there.
    feed(inputs, targets, batch)
        The arguments of `fit` that train on these, in their order.
    compiled_memory(step, inputs, targets)
        The bytes that the compiler says a step needs, or `None`.

`compiler` is `None` for what `fit` does by itself on CPU, or the name of
another one, see `COMPILERS`.
"""

import importlib
from typing import Any

import keras

_framework: Any = importlib.import_module(
    f"benchmarks.frameworks.{keras.backend.backend()}"
)

COMPILERS = _framework.COMPILERS
forward = _framework.forward
gradients = _framework.gradients
step = _framework.step
on_device = _framework.on_device
wait = _framework.wait
feed = _framework.feed
compiled_memory = _framework.compiled_memory

__all__ = [
    "COMPILERS",
    "compiled_memory",
    "feed",
    "forward",
    "gradients",
    "on_device",
    "step",
    "wait",
]
