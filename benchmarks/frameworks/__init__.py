"""The work of a model that is timed, compiled, and what `fit` is fed.

Here are the functions of the file for Keras's backend; `Framework` says what
they do.
"""

import importlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from benchmarks.harness import machine

# More than any cache holds, and takes a fraction of a millisecond there.
ON_DEVICE_COPY = 2**30


class Framework(Protocol):
    """The names that each file of this folder defines.

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

    def accelerator(self) -> str:
        """Returns the name of the accelerator, or "" on CPU."""

    def copy(self, array: Any) -> Any:
        """Returns a new array with the numbers of another one."""


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
accelerator = _framework.accelerator


def about() -> dict:
    """Returns the version of the framework, and where it computes."""
    array = on_device(np.zeros(1, "float32"))
    return {
        "framework": BACKEND,
        "version": sys.modules[BACKEND].__version__,
        "device": str(array.device),
        "device_name": accelerator(),
    }


def copy_bandwidth(repeats: int) -> float:
    """Returns bytes per second of a plain copy: those read, and written.

    It is made where the framework computes.
    """
    if not accelerator():
        return machine.copy_bandwidth(repeats=repeats)
    array = keras.ops.zeros((ON_DEVICE_COPY // 4,), "float32")
    seconds = []
    for _ in range(repeats + 1):  # the first one compiles
        start = time.perf_counter()
        wait(_framework.copy(array))
        seconds.append(time.perf_counter() - start)
    return 2 * ON_DEVICE_COPY / statistics.median(seconds[1:])
