"""The time of one `fit` step, the memory it needs and the bytes it touches."""

import argparse
import time

import numpy as np

from benchmarks import frameworks
from benchmarks.harness import (
    machine,
    models,
    options,
    plots,
    tables,
    targets,
)
from benchmarks.harness.benchmark import CaseBenchmark, Finding
from benchmarks.harness.models import STEP_AWARE, Case
from benchmarks.harness.tables import distinct, find, number

EPOCHS = 5  # timed, after one that is not
SECONDS = 8.0  # of timed steps, about
MAX_STEPS = 256  # in an epoch
BASE_DEPTH = 10  # from where growth is told, if it was measured

LEGEND = f"""\
ms      time of a `fit` step: median over epochs, and quartiles
peak    main memory, from before the model is built to after the last step
stored  the nodes of all levels
{targets.LIMIT_LEGEND}"""
AXES = plots.Axes(
    *("stored_bytes", "ms"),
    *("bytes stored in all nodes [MB]", "time of a fit step [ms]"),
    by="optimizer",
    x_unit=1e6,
)


def measure(case: Case, given: argparse.Namespace) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    memory = machine.peak_memory()
    model = models.build_for_fit(case)
    data = models.draw_for_fit(case, 1)
    start = time.perf_counter()
    model.fit(*data, batch_size=case.batch, verbose=0)
    first = time.perf_counter() - start

    steps, ms = models.step_ms(
        models.fit_seconds(model, case), given.steps, SECONDS, MAX_STEPS, EPOCHS
    )
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
            same = {"backend": backend, "optimizer": optimizer}
            ours = find(rows, **same)
            if len(ours) < 2:
                continue
            base, last = base_row(ours), max(ours, key=lambda r: r["depth"])
            found.append(
                same
                | {
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
        stock, ours = (
            {
                row["depth"]: row["ms"]["median"]
                for row in find(rows, backend=backend, optimizer=optimizer)
            }
            for optimizer in ("Adam", "StepAwareAdam")
        )
        for depth in sorted(stock.keys() & ours.keys())[-1:]:
            time = stock[depth] / ours[depth]
            found.append({"backend": backend, "depth": depth, "time": time})
    return found


def copy_speed(rows: list[dict]) -> list[str]:
    """Returns the line that tells how fast a plain copy is."""
    speed = np.median([row["copy_bytes_per_second"] for row in rows])
    return [f"plain copy: {speed / 1e9:.1f} GB/s (median)"]


def panels(rows: list[dict]) -> list[plots.Panel]:
    """Returns one for each backend: time over stored bytes."""
    found = []
    for panel in plots.panels(rows, AXES):
        mine = find(rows, backend=panel.title)
        top = {row["stored_bytes"] / 1e6: str(row["depth"]) for row in mine}
        curves = [*panel.curves, touched_guide(mine)]
        found.append(panel._replace(curves=curves, top=top, top_label="depth"))
    return found


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


BENCHMARK = CaseBenchmark(
    name="step-time",
    help="time, memory and touched bytes of a `fit` step",
    options=options.BACKENDS
    | options.sizes(
        depths=[4, 6, 8, 10, 12, 14], batch=256, units=64, trees=64, steps=None
    )
    | options.optimizers(),
    cases=models.cases_for_fit,
    measure=measure,
    summary=lambda row: tables.spread_text(row["ms"]) + " ms",
    preface=copy_speed,
    columns={
        "backend": "backend",
        "optimizer": "optimizer",
        "depth": "depth",
        "ms": lambda row: tables.spread_text(row["ms"], ".2f"),
        "peak MB": lambda row: number(row["peak_bytes"], ".0f", 1e6),
        "stored MB": lambda row: number(row["stored_bytes"], ".2f", 1e6),
        "touched MB": lambda row: number(row["touched_bytes"], ".2f", 1e6),
    }
    | targets.LIMIT_COLUMN,
    legend=LEGEND,
    findings={
        "growth": Finding(
            growth,
            "{backend} {optimizer}, depth {depths[0]} to {depths[1]}: time x "
            "{time:.2f}, touched bytes x {touched:.2f}",
        ),
        "adam_over_step_aware_adam": Finding(
            adam_ratios,
            "{backend} depth {depth}: Adam takes {time:.1f} times as long as "
            "StepAwareAdam",
        ),
    },
    panels=panels,
)
