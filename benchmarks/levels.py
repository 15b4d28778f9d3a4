"""The cost of a training step when trees store all levels, or only the ends."""

import argparse
from collections.abc import Iterator

from benchmarks import step_time
from benchmarks.harness import models, options, tables
from benchmarks.harness.benchmark import CaseBenchmark, Finding
from benchmarks.harness.models import Case
from benchmarks.harness.tables import find, number

LEGEND = """\
ms      time of a `fit` step: median over epochs, and quartiles
first   seconds of the first step, which also compiles
peak    main memory, from before the model is built to after the last step
stored  the nodes of the levels that are stored
"""


def cases(given: argparse.Namespace) -> Iterator[tuple[str, Case]]:
    """Yields each backend and case with all levels, then with the ends."""
    for backend, case in models.cases_for_fit(given):
        for levels in ("all", "ends"):
            name = f"{case.name}, levels {levels}"
            yield backend, case._replace(name=name, levels=levels)


def ratios(rows: list[dict]) -> list[dict]:
    """Returns what all levels cost over what the ends do, case by case."""
    found = []
    for ends in find(rows, levels="ends"):
        same = {name: ends[name] for name in ("backend", "optimizer", "depth")}
        for whole in find(rows, levels="all", **same):
            time = whole["ms"]["median"] / ends["ms"]["median"]
            first = whole["first_seconds"] / ends["first_seconds"]
            found.append(same | {"time": time, "first": first})
    return found


BENCHMARK = CaseBenchmark(
    name="levels",
    help="the cost of a step with all levels stored, and with roots and leaves",
    options=options.BACKENDS
    | options.sizes(
        depths=[6, 10, 14], batch=256, units=64, trees=64, steps=None
    )
    | options.optimizers("StepAwareAdam"),
    cases=cases,
    measure=step_time.measure,
    summary=lambda row: tables.spread_text(row["ms"]) + " ms",
    columns={
        "backend": "backend",
        "optimizer": "optimizer",
        "depth": "depth",
        "levels": "levels",
        "ms": lambda row: tables.spread_text(row["ms"], ".2f"),
        "first s": lambda row: number(row["first_seconds"], ".1f"),
        "peak MB": lambda row: number(row["peak_bytes"], ".0f", 1e6),
        "stored MB": lambda row: number(row["stored_bytes"], ".2f", 1e6),
    },
    legend=LEGEND,
    findings={
        "ratios": Finding(
            ratios,
            "{backend} {optimizer}, depth {depth}: all levels take {time:.2f} "
            "times as long as the ends, the first step {first:.2f} times",
        )
    },
)
