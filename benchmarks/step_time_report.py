"""The results of `step-time`: a table, ratios, and both as JSON."""

from pathlib import Path

from benchmarks.harness import tables as output
from benchmarks.harness.tables import aligned, distinct, find
from benchmarks.step_time import STEP_AWARE

BASE_DEPTH = 10  # what growth is told from, where it was measured

LEGEND = """\
ms       time of a `fit` step: median over epochs, minimum and quartiles
peak     main memory, from before the model is built to after the last step
stored   the nodes of all levels
touched  the rows of all levels that a batch needs, on average
limit    touched * (3 + 2 * slots) / ms, over the bandwidth of a plain copy on
         one thread (bytes read and bytes written): the layer reads a touched
         row, the optimizer reads and writes it and each of its slots
"""

HEADINGS = (
    *("backend", "optimizer", "depth", "ms", "min", "quartiles"),
    *("peak MB", "stored MB", "touched MB", "limit"),
)


def base_row(rows: list[dict]) -> dict:
    """Of rows that differ in depth, the one that deeper ones are held to."""
    rows = sorted(rows, key=lambda row: row["depth"])
    base = find(rows, depth=BASE_DEPTH)
    return base[0] if base and rows[-1] is not base[0] else rows[0]


def growth(rows: list[dict]) -> list[dict]:
    """How time and touched bytes of step-aware optimizers grow with depth."""
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
                    "time": last["ms"] / base["ms"],
                    "touched": last["touched_bytes"] / base["touched_bytes"],
                }
            )
    return found


def adam_ratios(rows: list[dict]) -> list[dict]:
    """The time of Keras's Adam over that of StepAwareAdam, at most depth."""
    found = []
    for backend in distinct(rows, "backend"):
        stock = find(rows, backend=backend, optimizer="Adam")
        ours = find(rows, backend=backend, optimizer="StepAwareAdam")
        depths = {row["depth"] for row in stock} & {
            row["depth"] for row in ours
        }
        if depths:
            depth = max(depths)
            time = (
                find(stock, depth=depth)[0]["ms"]
                / find(ours, depth=depth)[0]["ms"]
            )
            found.append({"backend": backend, "depth": depth, "time": time})
    return found


def results(about: dict, rows: list[dict], failures: list[str]) -> dict:
    """All that a run found; `about` tells of the run itself."""
    return about | {
        "rows": rows,
        "growth": growth(rows),
        "adam_over_step_aware_adam": adam_ratios(rows),
        "failures": failures,
    }


def text(found: dict) -> str:
    """The results for people."""
    lines = output.heading(found)
    rows = found["rows"]
    if rows:
        speeds = sorted(row["copy_bytes_per_second"] for row in rows)
        size = ("batch {batch}, {units} inputs and units, {trees} trees").format
        lines += [
            f"plain copy: {speeds[len(speeds) // 2] / 1e9:.1f} GB/s (median)",
            size(**rows[0]) + f", on {', '.join(distinct(rows, 'device'))}",
            "",
            *aligned([HEADINGS, *map(_cells, rows)]),
            "",
            LEGEND,
        ]
    lines += [
        "{backend} {optimizer}, depth {depths[0]} to {depths[1]}: time x "
        "{time:.2f}, touched bytes x {touched:.2f}".format(**ratio)
        for ratio in found["growth"]
    ]
    lines += [
        "{backend} depth {depth}: Adam takes {time:.1f} times as long as "
        "StepAwareAdam".format(**ratio)
        for ratio in found["adam_over_step_aware_adam"]
    ]
    return "\n".join([*lines, *found["failures"]])


def _cells(row: dict) -> tuple[str, ...]:
    low, high = row["ms_quartiles"]
    fraction = row["limit_fraction"]
    return (
        *(row["backend"], row["optimizer"], str(row["depth"])),
        *(f"{row['ms']:.2f}", f"{row['ms_min']:.2f}", f"{low:.2f}-{high:.2f}"),
        f"{row['peak_bytes'] / 1e6:.0f}",
        f"{row['stored_bytes'] / 1e6:.2f}",
        f"{row['touched_bytes'] / 1e6:.2f}",
        "-" if fraction is None else f"{fraction:.1%}",
    )


def write(found: dict, folder: Path) -> None:
    """Writes `step-time.json` and `step-time.txt`."""
    output.write("step-time", found, text(found), folder)
