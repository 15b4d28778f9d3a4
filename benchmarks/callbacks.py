"""What counting visits and the callbacks add to a `fit` step.

Each case is measured in a process of its own, which has its own backend. Three
kinds of epochs take turns in it, so that all see the same machine:

    plain      a model that does not count, without callbacks
    counted    the same model, and its layer counts the visits of its leaves
    callbacks  that model, with `GateEntropy` and `PathUtilization`

    python -m benchmarks.callbacks '{"backend": "jax", ...}'
"""

import json
import sys
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.harness import own_process
from keras_treegate import callbacks, layers, optimizers

KINDS = ("plain", "counted", "callbacks")
SECONDS = 1.0  # of an epoch, about
MIN_STEPS, MAX_STEPS = 8, 512  # in an epoch


class Case(NamedTuple):
    """One measurement. `steps` in an epoch; `None` for what time allows."""

    backend: str
    depth: int
    batch: int = 256
    units: int = 64
    trees: int = 64
    rounds: int = 9
    steps: int | None = None


class Clock(keras.callbacks.Callback):
    """Times epochs, from its own beginning to the end that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0
        self.end = keras.callbacks.LambdaCallback(on_epoch_end=self._stop)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def _stop(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def run(case: Case) -> dict:
    """Measures a case in a new process, and returns what `measure` does."""
    return own_process.measure("callbacks", case._asdict(), case.backend)


def measure(case: Case) -> dict:
    """The row of a case; the backend is that of this process."""
    models = {kind: build_model(case, kind != "plain") for kind in KINDS[:2]}
    models["callbacks"] = models["counted"]
    steps = case.steps or _affordable_steps(models["plain"], case)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(case.rounds + 1):  # the first one compiles
        # Each kind is as often first, second and last.
        for place in range(len(KINDS)):
            kind = KINDS[(turn + place) % len(KINDS)]
            took = epoch_seconds(models[kind], case, steps, kind == KINDS[2])
            if turn:
                seconds[kind].append(took)
    times = {kind: np.array(seconds[kind]) for kind in KINDS}
    return case._asdict() | {
        "steps": steps,
        "ms": {
            kind: float(np.median(of_kind) / steps * 1e3)
            for kind, of_kind in times.items()
        },
        "over_plain": {
            kind: _quartiles(times[kind] / times["plain"]) for kind in KINDS[1:]
        },
        "callbacks_over_counted": _quartiles(
            times["callbacks"] / times["counted"]
        ),
        "backend_version": sys.modules[case.backend].__version__,
    }


def _quartiles(ratios: np.ndarray) -> list[float]:
    """The median and the quartiles of the ratios of rounds."""
    return np.quantile(ratios, [0.5, 0.25, 0.75]).tolist()


def build_model(case: Case, counted: bool) -> keras.Model:
    """One layer, compiled as it comes."""
    layer = layers.TreeGatedDense(
        case.units,
        depth=case.depth,
        num_trees=case.trees,
        seed=0,
        count_visits=counted,
    )
    model = keras.Sequential(
        [keras.Input((case.units,), batch_size=case.batch), layer]
    )
    model.compile(optimizers.StepAwareAdam(), "mse")
    return model


def epoch_seconds(
    model: keras.Model, case: Case, steps: int, with_callbacks: bool
) -> float:
    """The time of one epoch, with what its callbacks do at both of its ends."""
    draw = np.random.default_rng(0)
    shape = (2, steps * case.batch, case.units)
    inputs, targets = draw.normal(size=shape).astype("float32")
    clock, both = Clock(), []
    if with_callbacks:
        both = [callbacks.GateEntropy(), callbacks.PathUtilization()]
    model.fit(
        inputs,
        targets,
        batch_size=case.batch,
        shuffle=False,
        verbose=0,
        callbacks=[clock, *both, clock.end],
    )
    return clock.seconds[0]


def _affordable_steps(model: keras.Model, case: Case) -> int:
    # The first epoch compiles.
    step = [
        epoch_seconds(model, case, MIN_STEPS, False) / MIN_STEPS
        for _ in range(2)
    ][1]
    return min(max(int(SECONDS / step), MIN_STEPS), MAX_STEPS)


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
