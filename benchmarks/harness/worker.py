"""A process with one framework, which times contestants when it is asked to.

    python -m benchmarks.harness.worker tensorflow-xla

It reads questions, one JSON object a line, and answers each with another. So
contestants of several frameworks can take turns on one machine, each in a
process of its own that sleeps while others are timed.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks import frameworks as timed
from benchmarks.harness import machine
from benchmarks.harness.models import (
    ENGINES,
    Contestant,
    Work,
    build,
    draw_data,
)
from benchmarks.step_time import row_bytes, touched_rows

MOST_CALLS = 10_000  # in a turn


class Worker:
    """Answers questions; each public method is one."""

    def __init__(self, compiler: str | None) -> None:
        self._compiler = compiler
        self._works: dict[str, Work] = {}
        self._seconds: dict[str, float] = {}  # of a call, when it was built

    def build(self, contestant: list, seconds: float) -> dict:
        """Builds a contestant; tells its size, what it touches, and a call."""
        given = Contestant(*contestant)
        work = build(given, self._compiler)
        self._works[given.name] = work
        touched = touched_bytes(work, given)  # a step may use the model up
        start = time.perf_counter()
        timed.wait(work.call())  # compiles
        first = time.perf_counter() - start
        calls = 1 if first > 4 * seconds else 2
        self._seconds[given.name] = min(
            _timed(work.call, 1) for _ in range(calls)
        )
        return {
            "parameters": work.parameters,
            "touched_bytes": touched,
            "first_seconds": first,
        }

    def turn(self, name: str, seconds: float) -> dict:
        """The milliseconds of a call, of as many as fit into these seconds."""
        call, expected = self._works[name].call, self._seconds[name]
        if expected < seconds:
            timed.wait(call())  # what others left in the caches goes
        calls = max(1, min(int(seconds / expected), MOST_CALLS))
        return {"ms": _timed(call, calls) / calls * 1e3, "calls": calls}

    def copy(self) -> dict:
        """Bytes that a plain copy copies per second, each counted once."""
        return {"copied": machine.copy_bandwidth(repeats=3) / 2}

    def clear(self) -> dict:
        """Forgets all contestants."""
        self._works.clear()
        self._seconds.clear()
        return {}

    def about(self) -> dict:
        """The version of the framework, and where it computes."""
        framework = os.environ["KERAS_BACKEND"]
        array = timed.on_device(np.zeros(1, "float32"))
        return {
            "framework": framework,
            "version": sys.modules[framework].__version__,
            "device": str(array.device),
        }


def _timed(call: Callable, calls: int) -> float:
    """The seconds of these calls, each of which is waited for."""
    start = time.perf_counter()
    for _ in range(calls):
        timed.wait(call())
    return time.perf_counter() - start


def touched_bytes(work: Work, contestant: Contestant) -> float | None:
    """The distinct rows of all levels that a step needs, on average.

    `None` for what is no step of a single `TreeGatedDense`.
    """
    if contestant.model != "tree" or contestant.hidden:
        return None
    (layer,) = [
        layer for layer in work.model.layers if hasattr(layer, "leaf_codes")
    ]
    inputs, _ = draw_data(contestant)
    codes = [
        keras.ops.convert_to_numpy(layer.leaf_codes(batch)) for batch in inputs
    ]
    return touched_rows(np.stack(codes), contestant.depth) * row_bytes(layer)


def answer(worker: Worker, question: dict) -> dict:
    """What a method of the worker answers, or the error it raised."""
    method = getattr(worker, question.pop("ask"))
    try:
        return method(**question)
    except Exception as error:
        message = " ".join(str(error).split())
        return {"error": f"{type(error).__name__}: {message[:400]}"}


def main(engine: str) -> None:
    """Answers until there are no more questions."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(ENGINES[engine][1])
    for line in sys.stdin:
        print(json.dumps(answer(worker, json.loads(line))), file=answers)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
