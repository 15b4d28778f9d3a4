"""The main memory of one training step, in a process of its own.

python -m benchmarks.memory_step '["jax", ...]'
"""

import gc
import json
import sys
from typing import Any, NamedTuple

import numpy as np

from benchmarks import frameworks as timed
from benchmarks.harness import machine
from benchmarks.harness import models as contestant


class Case(NamedTuple):
    """One measurement: a tree of P = Q units, and who trains it."""

    backend: str
    optimizer: str
    depth: int
    batch: int
    units: int
    trees: int


def measure(case: Case) -> dict:
    """The row of a case; the backend is that of this process."""
    given = contestant.Contestant(
        *("tree", "tree", "step", case.batch, case.units, case.units),
        *(case.depth, case.trees),
        optimizer=case.optimizer,
    )
    model = contestant.build_model(given)
    step = timed.step(model, None)
    parameters = _bytes(model.trainable_variables)
    slots = _bytes(model.optimizer.variables)
    data = [
        [timed.on_device(batch) for batch in part]
        for part in contestant.draw_data(given)
    ]
    inputs, targets = data
    compiled = timed.compiled_memory(step, inputs[0], targets[0])
    first = _peak(step, inputs[0], targets[0])
    warm = [
        _peak(step, x, y) for x, y in zip(inputs[1:], targets[1:], strict=True)
    ]
    return case._asdict() | {
        "parameter_bytes": parameters,
        "slot_bytes": slots,
        "first_bytes": first,
        "turns": warm if None not in warm else [],
        "compiled": compiled,
        "version": sys.modules[case.backend].__version__,
        "device": str(inputs[0].device),
    }


def _peak(step: Any, x: Any, y: Any) -> int | None:
    """The most bytes held in a step, less those that were held before it."""
    gc.collect()
    if not machine.forget_peak():
        return None
    before = machine.held_memory()
    timed.wait(step(x, y))
    return None if before is None else machine.peak_memory() - before


def _bytes(variables: list) -> int:
    return sum(
        int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize
        for variable in variables
    )


if __name__ == "__main__":
    print(json.dumps(measure(Case(*json.loads(sys.argv[1])))))
