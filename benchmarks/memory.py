"""The peak memory of a training step over depth, ours and stock optimizers."""

import argparse
import gc
from functools import partial
from typing import Any

import numpy as np

from benchmarks import frameworks
from benchmarks.harness import machine, models, options, plots, tables
from benchmarks.harness.benchmark import CaseBenchmark, Finding
from benchmarks.harness.models import Case
from benchmarks.harness.tables import distinct, find, number

LEGEND = """\
step      the most main memory held in a step, less what was held before it:
          median over steps in one process, after a first one; quartiles
first     the same of the first step, which also compiles
params    bytes of all weights; slots: of all variables of the optimizer. Both
          are there before the step and are no part of it
of params step over params
compiled  temporary bytes of the step, as the compiler plans it (JAX)
"""
AXES = plots.Axes(
    *("parameter_bytes", "step"),
    *("bytes of all weights [MB]", "peak memory of a step [MB]"),
    by="optimizer",
    x_unit=1e6,
    y_unit=1e6,
)


def measure(case: Case, given: argparse.Namespace) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    model = models.build_model(case)
    step = frameworks.step(model, None)
    parameters = _bytes(model.trainable_variables)
    slots = _bytes(model.optimizer.variables)
    inputs, goals = (
        [frameworks.on_device(batch) for batch in part]
        for part in models.draw_data(case)
    )
    compiled = frameworks.compiled_memory(step, inputs[0], goals[0])
    first, *others = (
        peak(step, x, y) for x, y in zip(inputs, goals, strict=True)
    )
    warm = [bytes_held for bytes_held in others if bytes_held is not None]
    return case._asdict() | {
        "parameter_bytes": parameters,
        "slot_bytes": slots,
        "first_bytes": first,
        "step": tables.spread(warm) if warm else None,
        "compiled": compiled,
        **frameworks.about(),
    }


def peak(step: Any, x: Any, y: Any) -> int | None:
    """Returns the most bytes held in a step, less those held before it."""
    gc.collect()
    if not machine.forget_peak():
        return None
    before = machine.held_memory()
    frameworks.wait(step(x, y))
    return None if before is None else machine.peak_memory() - before


def _bytes(variables: list) -> int:
    return sum(
        int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize
        for variable in variables
    )


def growth(rows: list[dict]) -> list[dict]:
    """Returns how a step's memory grows from the least depth to the most."""
    found = []
    for backend in distinct(rows, "backend"):
        for optimizer in distinct(rows, "optimizer"):
            same = {"backend": backend, "optimizer": optimizer}
            mine = [row for row in find(rows, **same) if row["step"]]
            if len(mine) < 2:
                continue
            first, last = mine[0], mine[-1]
            least = max(1, first["step"]["median"])
            sizes = [row["parameter_bytes"] for row in (first, last)]
            found.append(
                same
                | {
                    "depths": [first["depth"], last["depth"]],
                    "parameters": sizes[1] / sizes[0],
                    "step": last["step"]["median"] / least,
                }
            )
    return found


def _megabytes(value: float | None) -> str:
    return number(value, ".1f", 1e6)


def _step(row: dict) -> str:
    return tables.spread_text(row["step"], ".1f", 1e6)


BENCHMARK = CaseBenchmark(
    name="memory",
    help="peak main memory of a step, by depth, ours and stock",
    options=options.BACKENDS
    | options.sizes(batch=256, units=64, depth=[4, 6, 8, 10, 12, 14], trees=64)
    | options.optimizers("StepAwareSGD", "StepAwareAdam", "Adam"),
    cases=models.cases_for_fit,
    measure=measure,
    summary=lambda row: f"{_step(row)} MB",
    columns={
        "backend": "backend",
        "optimizer": "optimizer",
        "depth": "depth",
        "step MB": _step,
        "first MB": lambda row: _megabytes(row["first_bytes"]),
        "params MB": lambda row: _megabytes(row["parameter_bytes"]),
        "slots MB": lambda row: _megabytes(row["slot_bytes"]),
        "of params": lambda row: number(
            row["step"] and row["step"]["median"] / row["parameter_bytes"],
            ".2f",
        ),
        "compiled MB": lambda row: _megabytes(
            row["compiled"] and row["compiled"]["temporary"]
        ),
    },
    legend=LEGEND,
    findings={
        "growth": Finding(
            growth,
            "{backend} {optimizer}, depth {depths[0]} to {depths[1]}: params x "
            "{parameters:.1f}, step x {step:.2f}",
        )
    },
    panels=partial(plots.panels, axes=AXES),
    # So that what is freed is given back, and a second step has to ask for it.
    environment=dict.fromkeys(
        ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "65536"
    ),
)
