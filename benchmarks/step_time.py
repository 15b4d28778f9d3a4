"""The time of one `fit` step, the memory it needs and the bytes it touches.

Each case is measured in a process of its own, which has its own backend and
whose peak memory is that of the case alone:

    python -m benchmarks.step_time '{"backend": "jax", ...}'
"""

import json
import sys
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks import frameworks as timed
from benchmarks.harness import machine, own_process
from keras_treegate import layers, optimizers

STEP_AWARE = ("StepAwareSGD", "StepAwareAdam", "StepAwareAdagrad")
OPTIMIZERS = (*STEP_AWARE, "Adam")

EPOCHS = 5  # timed, after one that is not
SECONDS = 8.0  # of timed steps, about
MIN_STEPS, MAX_STEPS = 2, 256  # in an epoch


class Case(NamedTuple):
    """One measurement. `steps` in an epoch; `None` for what time allows."""

    backend: str
    optimizer: str
    depth: int
    batch: int = 256
    units: int = 64
    trees: int = 64
    steps: int | None = None


class EpochSeconds(keras.callbacks.Callback):
    """Times every epoch; Keras waits for its loss before it calls the end."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def run(case: Case) -> dict:
    """Measures a case in a new process, and returns what `measure` does."""
    return own_process.measure("step_time", case._asdict(), case.backend)


def measure(case: Case) -> dict:
    """The row of a case; the backend is that of this process."""
    memory = machine.peak_memory()
    model = build_model(case)
    steps = case.steps or _affordable_steps(model, case)
    seconds = np.array(_epoch_seconds(model, case, steps, EPOCHS + 1)[1:])
    memory = machine.peak_memory() - memory
    # Only now, for all this needs memory too.
    (layer,) = model.layers
    inputs, _ = draw_data(case, steps)
    codes = [
        keras.ops.convert_to_numpy(layer.leaf_codes(part))
        for part in np.split(inputs, steps)
    ]
    touched = touched_rows(np.stack(codes), case.depth) * row_bytes(layer)
    stored_rows = sum(nodes.shape[0] for nodes in layer.nodes)
    bandwidth = machine.copy_bandwidth()
    milliseconds = seconds / steps * 1e3
    median = float(np.median(milliseconds))
    moves = moves_of_a_row(model.optimizer)
    return case._asdict() | {
        "steps": steps,
        "epochs": EPOCHS,
        "ms": median,
        "ms_min": float(milliseconds.min()),
        "ms_quartiles": np.quantile(milliseconds, [0.25, 0.75]).tolist(),
        "peak_bytes": memory,
        "stored_bytes": stored_rows * row_bytes(layer),
        "touched_bytes": touched,
        "copy_bytes_per_second": bandwidth,
        "moves": moves,
        "limit_fraction": moves
        and moves * touched / (median / 1e3) / bandwidth,
        "backend_version": sys.modules[case.backend].__version__,
        "device": str(layer.nodes[0].value.device),
    }


def build_model(case: Case) -> keras.Model:
    """One layer, compiled as it comes."""
    if case.optimizer in STEP_AWARE:
        optimizer = getattr(optimizers, case.optimizer)()
    else:
        optimizer = getattr(keras.optimizers, case.optimizer)()
    layer = layers.TreeGatedDense(
        case.units, depth=case.depth, num_trees=case.trees, seed=0
    )
    model = keras.Sequential(
        [keras.Input((case.units,), batch_size=case.batch), layer]
    )
    model.compile(optimizer, "mse")
    return model


def draw_data(case: Case, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs whose bits are fair coins, and targets, for these steps."""
    draw = np.random.default_rng(0)
    shape = (2, steps * case.batch, case.units)
    inputs, targets = draw.normal(size=shape).astype("float32")
    return inputs, targets


def _epoch_seconds(
    model: keras.Model, case: Case, steps: int, epochs: int
) -> list[float]:
    clock = EpochSeconds()
    model.fit(
        **timed.feed(*draw_data(case, steps), case.batch),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    return clock.seconds


def _affordable_steps(model: keras.Model, case: Case) -> int:
    # The first epoch compiles.
    step = _epoch_seconds(model, case, MIN_STEPS, 2)[1] / MIN_STEPS
    steps = int(SECONDS / (EPOCHS + 1) / step)
    return min(max(steps, MIN_STEPS), MAX_STEPS)


def touched_rows(codes: np.ndarray, depth: int) -> float:
    """The distinct rows of all levels that a step needs, on average.

    Args:
        codes: (S, B, G), the leaf codes of S steps.
        depth: D.
    """
    steps, _, num_trees = codes.shape
    keys = codes + np.arange(num_trees) * 2**depth
    keys = np.sort(keys.reshape(steps, -1), axis=1)
    rows = 0
    for level in range(depth + 1):
        changes = np.diff(keys >> (depth - level), axis=1)
        rows += steps + np.count_nonzero(changes)
    return rows / steps


def moves_of_a_row(optimizer: Any) -> int | None:
    """How often a step reads or writes a touched row or its slots.

    The layer reads the row; the optimizer reads and writes the row and each of
    its slots. `None` for an optimizer that moves all rows.
    """
    if type(optimizer).__name__ not in STEP_AWARE:
        return None
    return 3 + 2 * len(optimizer.slot_kinds())


def row_bytes(layer: Any) -> int:
    """The bytes of one node (W, Q)."""
    _, width, units = layer.nodes[0].shape
    return width * units * np.dtype(layer.variable_dtype).itemsize


if __name__ == "__main__":
    print(json.dumps(measure(Case(**json.loads(sys.argv[1])))))
