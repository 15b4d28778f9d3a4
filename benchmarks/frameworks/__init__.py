"""What a benchmark times: work of a model, compiled, and what `fit` is fed.

Each file has these functions:

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

and, if it does not as others do:

    feed(inputs, targets, batch)
        The arguments of `fit` that train on these, in their order.
    compiled_memory(step, inputs, targets)
        The bytes that the compiler says a step needs, or `None`.

`compiler` is `None` for what `fit` does by itself on CPU, or the name of
another one, see `COMPILERS`.
"""

import importlib
import sys
from typing import Any

import keras
import numpy as np

BACKEND = keras.backend.backend()
_framework: Any = importlib.import_module(f"benchmarks.frameworks.{BACKEND}")

COMPILERS = _framework.COMPILERS
forward = _framework.forward
gradients = _framework.gradients
step = _framework.step
on_device = _framework.on_device
wait = _framework.wait


def _feed_arrays(inputs: Any, targets: Any, batch: int) -> dict:
    return {"x": inputs, "y": targets, "batch_size": batch}


def _unknown_memory(step: Any, inputs: Any, targets: Any) -> None:
    return None


feed = getattr(_framework, "feed", _feed_arrays)
compiled_memory = getattr(_framework, "compiled_memory", _unknown_memory)


def about() -> dict:
    """Returns the version of the framework, and where it computes."""
    array = on_device(np.zeros(1, "float32"))
    return {
        "framework": BACKEND,
        "version": sys.modules[BACKEND].__version__,
        "device": str(array.device),
    }
