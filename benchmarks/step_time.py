"""The time of one `fit` step, the memory it needs and the bytes it touches."""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import frameworks
from benchmarks.harness import (
    machine,
    models,
    options,
    plots,
    process,
    tables,
    targets,
)
from benchmarks.harness.models import STEP_AWARE, Case
from benchmarks.harness.tables import distinct, find, number

NAME = "step-time"
HELP = "time, memory and touched bytes of a `fit` step"
OPTIMIZERS = (*STEP_AWARE, "Adam")

EPOCHS = 5  # timed, after one that is not
SECONDS = 8.0  # of timed steps, about
MIN_STEPS, MAX_STEPS = 2, 256  # in an epoch
BASE_DEPTH = 10  # from where growth is told, if it was measured

LEGEND = f"""\
ms      time of a `fit` step: median over epochs, and quartiles
peak    main memory, from before the model is built to after the last step
stored  the nodes of all levels
{targets.LIMIT_LEGEND}"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_backends(parser)
    options.add_sizes(
        parser,
        depths=[4, 6, 8, 10, 12, 14],
        batch=256,
        units=64,
        trees=64,
        steps=None,
    )
    text = "Adam is Keras's own"
    options.add_choices(parser, "optimizers", OPTIMIZERS, text)
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    depth = max(given.depths)
    options.check_trees(given.trees, depth, "depths", units=given.units)
    options.check_backends(given.backend)


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows, failures = process.measure_each(
        measurements(given), lambda row: tables.spread_text(row["ms"]) + " ms"
    )
    found = tables.about(command, rows) | {
        "rows": rows,
        "growth": growth(rows),
        "adam_over_step_aware_adam": adam_ratios(rows),
        "failures": failures,
    }
    figure = draw(found["machine"], rows)
    return tables.publish(NAME, found, lines(found), figure, given.output)


def measurements(given: argparse.Namespace) -> Iterator[tuple]:
    """Yields what to measure, for each backend, depth and optimizer."""
    cases = models.cases_for_fit(given, given.depths, given.optimizers)
    for backend, case in cases:
        yield backend, case.name, partial(measure, case, given.steps)


def measure(case: Case, steps: int | None) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    memory = machine.peak_memory()
    model = models.build_for_fit(case)
    data = models.draw_for_fit(case, 1)
    start = time.perf_counter()
    model.fit(*data, batch_size=case.batch, verbose=0)
    first = time.perf_counter() - start

    def seconds_of(steps: int, epochs: int = 2) -> list[float]:
        data = frameworks.feed(*models.draw_for_fit(case, steps), case.batch)
        return models.epoch_seconds(model, data, epochs)

    steps = steps or models.affordable_steps(
        seconds_of, SECONDS / (EPOCHS + 1), MIN_STEPS, MAX_STEPS
    )
    ms = np.array(seconds_of(steps, EPOCHS + 1)[1:]) / steps * 1e3
    memory = machine.peak_memory() - memory
    # Only now, for all this needs memory too.
    (layer,) = model.layers
    inputs, _ = models.draw_for_fit(case, steps)
    touched = models.touched_bytes(layer, np.split(inputs, steps))
    bandwidth = machine.copy_bandwidth()
    moves = limit = None
    if case.optimizer in STEP_AWARE:
        moves = targets.moves_of_a_row(model.optimizer)
        limit = tables.spread(
            targets.limit(moves * touched, one, bandwidth) for one in ms
        )
    stored_rows = sum(nodes.shape[0] for nodes in layer.nodes)
    return case._asdict() | {
        "steps": steps,
        "epochs": EPOCHS,
        "ms": tables.spread(ms),
        "first_seconds": first,
        "peak_bytes": memory,
        "stored_bytes": stored_rows * models.row_bytes(layer),
        "touched_bytes": touched,
        "copy_bytes_per_second": bandwidth,
        "moves": moves,
        "limit": limit,
        **frameworks.about(),
    }


def base_row(rows: list[dict]) -> dict:
    """Returns the row whose depth deeper ones are compared with."""
    rows = sorted(rows, key=lambda row: row["depth"])
    base = find(rows, depth=BASE_DEPTH)
    return base[0] if base and rows[-1] is not base[0] else rows[0]


def growth(rows: list[dict]) -> list[dict]:
    """Returns how time and touched bytes of step-aware optimizers grow."""
    found = []
    for backend in distinct(rows, "backend"):
        for optimizer in STEP_AWARE:
            ours = find(rows, backend=backend, optimizer=optimizer)
            if len(ours) < 2:
                continue
            base, last = base_row(ours), max(ours, key=lambda r: r["depth"])
            found.append(
                {
                    "backend": backend,
                    "optimizer": optimizer,
                    "depths": [base["depth"], last["depth"]],
                    "time": last["ms"]["median"] / base["ms"]["median"],
                    "touched": last["touched_bytes"] / base["touched_bytes"],
                }
            )
    return found


def adam_ratios(rows: list[dict]) -> list[dict]:
    """Returns the time of Keras's Adam over StepAwareAdam's, at most depth."""
    found = []
    for backend in distinct(rows, "backend"):
        ms: dict[str, dict] = {"Adam": {}, "StepAwareAdam": {}}
        for row in find(rows, backend=backend):
            if row["optimizer"] in ms:
                ms[row["optimizer"]][row["depth"]] = row["ms"]["median"]
        if depths := ms["Adam"].keys() & ms["StepAwareAdam"].keys():
            depth = max(depths)
            time = ms["Adam"][depth] / ms["StepAwareAdam"][depth]
            found.append({"backend": backend, "depth": depth, "time": time})
    return found


COLUMNS: tables.Columns = {
    "backend": "backend",
    "optimizer": "optimizer",
    "depth": "depth",
    "ms": lambda row: tables.spread_text(row["ms"], ".2f"),
    "peak MB": lambda row: number(row["peak_bytes"], ".0f", 1e6),
    "stored MB": lambda row: number(row["stored_bytes"], ".2f", 1e6),
    "touched MB": lambda row: number(row["touched_bytes"], ".2f", 1e6),
    targets.LIMIT_HEADING: lambda row: targets.percent(row["limit"]),
}


def lines(found: dict) -> list[str]:
    """Returns the results for people."""
    rows = found["rows"]
    text = []
    if rows:
        speed = np.median([row["copy_bytes_per_second"] for row in rows])
        text += [
            f"plain copy: {speed / 1e9:.1f} GB/s (median)",
            SIZES.format(**rows[0]),
            "",
            *tables.table(COLUMNS, rows),
            "",
            LEGEND,
        ]
    text += [
        "{backend} {optimizer}, depth {depths[0]} to {depths[1]}: time x "
        "{time:.2f}, touched bytes x {touched:.2f}".format(**ratio)
        for ratio in found["growth"]
    ]
    text += [
        "{backend} depth {depth}: Adam takes {time:.1f} times as long as "
        "StepAwareAdam".format(**ratio)
        for ratio in found["adam_over_step_aware_adam"]
    ]
    return text


SIZES = "batch {batch}, {units} inputs and units, {trees} trees"


def draw(title: str, rows: list[dict]) -> Any:
    """Returns a panel for each backend: time over stored bytes."""
    panels = []
    for backend in distinct(rows, "backend"):
        mine = find(rows, backend=backend)
        top = {row["stored_bytes"] / 1e6: str(row["depth"]) for row in mine}
        panels.append(
            plots.Panel(
                title=backend,
                x_label="bytes stored in all nodes [MB]",
                y_label="time of a fit step [ms]",
                curves=[
                    *plots.curves(
                        mine, "stored_bytes", "ms", "optimizer", x_unit=1e6
                    ),
                    touched_guide(mine),
                ],
                top=top,
                top_label="depth",
            )
        )
    size = SIZES.format(**rows[0]) if rows else ""
    return plots.draw(f"{title}\n{size}", panels)


def touched_guide(rows: list[dict]) -> plots.Curve:
    """Returns a line as steep as touched bytes, through a measurement."""
    anchor = find(rows, optimizer="StepAwareAdam")
    ours = anchor or find(rows, optimizer=rows[0]["optimizer"])
    base = base_row(ours)
    scale = base["ms"]["median"] / base["touched_bytes"]
    return plots.Curve(
        "proportional to touched bytes",
        x=[row["stored_bytes"] / 1e6 for row in ours],
        y=[row["touched_bytes"] * scale for row in ours],
        low=[],
        high=[],
    )
