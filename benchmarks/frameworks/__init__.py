"""The work of a model that is timed, compiled, and what `fit` is fed.

Here are the functions of the file for Keras's backend; `Framework` says what
they do.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np


class Framework(Protocol):
    """What each file of this folder has.

    `compiler` is `None` for what `fit` does by itself on CPU, or the name of
    another one, of `COMPILERS`.
    """

    COMPILERS: tuple[str | None, ...]

    def forward(self, model: Any, compiler: str | None) -> Callable:
        """Returns a function of inputs (B, P) that does inference."""

    def gradients(self, model: Any, compiler: str | None) -> Callable:
        """Returns a function of inputs and targets that returns gradients.

        Those of the mean squared error, for the inputs and for all trainable
        weights.
        """

    def step(self, model: Any, compiler: str | None) -> Callable:
        """Returns a function of inputs and targets that does a step of `fit`.

        Without metrics: forward, backward and the update by the model's
        optimizer. It may use the model up.
        """

    def compiled_memory(self, step: Any, x: Any, y: Any) -> dict | None:
        """Returns the bytes that a step needs, if the compiler says so."""

    def on_device(self, array: np.ndarray) -> Any:
        """Puts an array where the framework computes."""

    def wait(self, result: Any) -> None:
        """Returns once the result is there."""

    def feed(self, inputs: Any, targets: Any, batch: int) -> dict:
        """Returns the arguments of `fit` that train on these, in order."""


BACKEND = keras.backend.backend()
_framework: Framework = importlib.import_module(
    f"benchmarks.frameworks.{BACKEND}"
)

COMPILERS = _framework.COMPILERS
forward = _framework.forward
gradients = _framework.gradients
step = _framework.step
compiled_memory = _framework.compiled_memory
on_device = _framework.on_device
wait = _framework.wait
feed = _framework.feed


def about() -> dict:
    """Returns the version of the framework, and where it computes."""
    array = on_device(np.zeros(1, "float32"))
    return {
        "framework": BACKEND,
        "version": sys.modules[BACKEND].__version__,
        "device": str(array.device),
    }
