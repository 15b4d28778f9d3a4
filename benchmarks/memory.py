"""The peak memory of a training step over depth, ours and stock optimizers."""

import argparse
import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import frameworks, step_time
from benchmarks.harness import (
    machine,
    models,
    options,
    plots,
    process,
    tables,
)
from benchmarks.harness.models import Case
from benchmarks.harness.tables import distinct, find, number

NAME = "memory"
HELP = "peak main memory of a step, by depth, ours and stock"

# So that what is freed is given back, and a second step has to ask for it.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

LEGEND = """\
step      the most main memory held in a step, less what was held before it:
          median over steps in one process, after a first one; quartiles
first     the same of the first step, which also compiles
params    bytes of all weights; slots: of all variables of the optimizer. Both
          are there before the step and are no part of it
of params step over params
compiled  temporary bytes of the step, as the compiler plans it (JAX)
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_backends(parser)
    options.add_sizes(
        parser, batch=256, units=64, depth=[4, 6, 8, 10, 12, 14], trees=64
    )
    options.add_choices(
        parser,
        "optimizers",
        step_time.OPTIMIZERS,
        "Adam is Keras's own",
        default=["StepAwareSGD", "StepAwareAdam", "Adam"],
    )
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    options.check_backends(given.backend)
    options.check_trees(given.trees, max(given.depth), units=given.units)


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows, failures = process.measure_each(
        measurements(given),
        lambda row: tables.spread_text(row["step"], ".1f", 1e6) + " MB",
        MALLOC,
    )
    found = tables.about(command, rows)
    found |= {"rows": rows, "growth": growth(rows), "failures": failures}
    figure = plots.draw(found["machine"], panels(rows))
    return tables.publish(NAME, found, lines(found), figure, given.output)


def measurements(given: argparse.Namespace) -> Iterator[tuple]:
    """Yields what to measure, for each backend, depth and optimizer."""
    cases = models.cases_for_fit(given, given.depth, given.optimizers)
    for backend, case in cases:
        yield backend, case.name, partial(measure, case)


def measure(case: Case) -> dict:
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
            mine = find(rows, backend=backend, optimizer=optimizer)
            mine = [row for row in mine if row["step"]]
            if len(mine) < 2:
                continue
            first, last = mine[0], mine[-1]
            least = max(1, first["step"]["median"])
            found.append(
                {
                    "backend": backend,
                    "optimizer": optimizer,
                    "depths": [first["depth"], last["depth"]],
                    "parameters": last["parameter_bytes"]
                    / first["parameter_bytes"],
                    "step": last["step"]["median"] / least,
                }
            )
    return found


def _share(row: dict) -> str:
    if row["step"] is None:
        return "-"
    return f"{row['step']['median'] / row['parameter_bytes']:.2f}"


COLUMNS: tables.Columns = {
    "backend": "backend",
    "optimizer": "optimizer",
    "depth": "depth",
    "step MB": lambda row: tables.spread_text(row["step"], ".1f", 1e6),
    "first MB": lambda row: number(row["first_bytes"], ".1f", 1e6),
    "params MB": lambda row: number(row["parameter_bytes"], ".1f", 1e6),
    "slots MB": lambda row: number(row["slot_bytes"], ".1f", 1e6),
    "of params": _share,
    "compiled MB": lambda row: number(
        row["compiled"] and row["compiled"]["temporary"], ".1f", 1e6
    ),
}


def lines(found: dict) -> list[str]:
    """Returns the results for people."""
    rows = found["rows"]
    text = []
    if rows:
        text += [step_time.SIZES.format(**rows[0]), ""]
        text += [*tables.table(COLUMNS, rows), "", LEGEND]
    text += [
        "{backend} {optimizer}, depth {depths[0]} to {depths[1]}: params x "
        "{parameters:.1f}, step x {step:.2f}".format(**one)
        for one in found["growth"]
    ]
    return text


def panels(rows: list[dict]) -> list[plots.Panel]:
    """Returns one for each backend: bytes of a step over those of weights."""
    return [
        plots.Panel(
            title=backend,
            x_label="bytes of all weights [MB]",
            y_label="peak memory of a step [MB]",
            curves=plots.curves(
                find(rows, backend=backend),
                "parameter_bytes",
                "step",
                by="optimizer",
                x_unit=1e6,
                y_unit=1e6,
            ),
        )
        for backend in distinct(rows, "backend")
    ]
