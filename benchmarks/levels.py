"""The cost of a training step when trees store all levels, or only the ends."""

import argparse
from collections.abc import Iterator
from functools import partial

from benchmarks import step_time
from benchmarks.harness import models, options, process, tables
from benchmarks.harness.tables import distinct, find, number

NAME = "levels"
HELP = "the cost of a step with all levels stored, and with roots and leaves"
LEVELS = ("all", "ends")

LEGEND = """\
ms      time of a `fit` step: median over epochs, and quartiles
first   seconds of the first step, which also compiles
peak    main memory, from before the model is built to after the last step
stored  the nodes of the levels that are stored
"""

COLUMNS: tables.Columns = {
    "backend": "backend",
    "optimizer": "optimizer",
    "depth": "depth",
    "levels": "levels",
    "ms": lambda row: tables.spread_text(row["ms"], ".2f"),
    "first s": lambda row: number(row["first_seconds"], ".1f"),
    "peak MB": lambda row: number(row["peak_bytes"], ".0f", 1e6),
    "stored MB": lambda row: number(row["stored_bytes"], ".2f", 1e6),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_backends(parser)
    options.add_sizes(
        parser, depths=[6, 10, 14], batch=256, units=64, trees=64, steps=None
    )
    options.add_choices(
        parser,
        "optimizers",
        step_time.OPTIMIZERS,
        "Adam is Keras's own",
        default=["StepAwareAdam"],
    )
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    step_time.check(given)


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows, failures = process.measure_each(
        measurements(given), lambda row: tables.spread_text(row["ms"]) + " ms"
    )
    found = tables.about(command, rows)
    found |= {"rows": rows, "ratios": ratios(rows), "failures": failures}
    return tables.publish(NAME, found, lines(found), None, given.output)


def measurements(given: argparse.Namespace) -> Iterator[tuple]:
    """Yields what to measure: each case with all levels, then with the ends."""
    cases = models.cases_for_fit(given, given.depths, given.optimizers)
    for backend, case in cases:
        for levels in LEVELS:
            one = case._replace(
                name=f"{case.name}, levels {levels}", levels=levels
            )
            yield (
                backend,
                one.name,
                partial(step_time.measure, one, given.steps),
            )


def ratios(rows: list[dict]) -> list[dict]:
    """Returns what all levels cost over what the ends do, case by case."""
    found = []
    for ends in find(rows, levels="ends"):
        same = {name: ends[name] for name in ("backend", "optimizer", "depth")}
        for whole in find(rows, levels="all", **same):
            found.append(
                same
                | {
                    "time": whole["ms"]["median"] / ends["ms"]["median"],
                    "first": whole["first_seconds"] / ends["first_seconds"],
                }
            )
    return found


def lines(found: dict) -> list[str]:
    """Returns the results for people."""
    rows = found["rows"]
    text = []
    for backend in distinct(rows, "backend"):
        ours = find(rows, backend=backend)
        text += [*tables.table(COLUMNS, ours), ""]
    if rows:
        text.append(LEGEND)
    text += [
        "{backend} {optimizer}, depth {depth}: all levels take {time:.2f} "
        "times as long as the ends, the first step {first:.2f} times".format(
            **one
        )
        for one in found["ratios"]
    ]
    return text
