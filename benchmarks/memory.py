"""The peak memory of a training step over depth, ours and stock optimizers."""

import argparse

from benchmarks.harness import contest_report, options, own_process
from benchmarks.harness import plots as curves
from benchmarks.harness import tables as output
from benchmarks.memory_step import Case
from benchmarks.step_time import OPTIMIZERS

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
    """The options of the command line."""
    options.add_backends(parser)
    options.add_sizes(
        parser, batch=256, units=64, depth=[4, 6, 8, 10, 12, 14], trees=64
    )
    parser.add_argument(
        "--optimizers",
        nargs="+",
        choices=OPTIMIZERS,
        default=["StepAwareSGD", "StepAwareAdam", "Adam"],
        help="Adam is Keras's own",
    )
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    options.check_backends(given.backend)
    options.check_trees(given.trees, max(given.depth), units=given.units)


def cases(given: argparse.Namespace) -> list[Case]:
    """What to measure."""
    return [
        Case(backend, optimizer, depth, given.batch, given.units, given.trees)
        for backend in dict.fromkeys(given.backend)
        for depth in sorted(set(given.depth))
        for optimizer in dict.fromkeys(given.optimizers)
    ]


def run_case(case: Case) -> dict:
    """Measures a case in a new process."""
    row = own_process.measure("memory_step", case, case.backend, MALLOC)
    row["step"] = output.spread(row["turns"]) if row["turns"] else None
    return row


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows: list[dict] = []
    failures: list[str] = []
    for case in cases(given):
        print(*case[:3], flush=True)
        try:
            rows.append(run_case(case))
        except RuntimeError as error:
            failures.append(str(error))
    found = output.about(
        command, {row["backend"]: row["version"] for row in rows}
    ) | {"rows": rows, "growth": growth(rows), "failures": failures}
    return contest_report.publish(
        NAME, found, given.output, text(found), panels(rows)
    )


def growth(rows: list[dict]) -> list[dict]:
    """How the memory of a step grows from the least depth to the most."""
    found = []
    for backend in output.distinct(rows, "backend"):
        for optimizer in output.distinct(rows, "optimizer"):
            mine = output.find(rows, backend=backend, optimizer=optimizer)
            mine = [row for row in mine if row["step"]]
            if len(mine) < 2:
                continue
            first, last = mine[0], mine[-1]
            found.append(
                {
                    "backend": backend,
                    "optimizer": optimizer,
                    "depths": [first["depth"], last["depth"]],
                    "parameters": last["parameter_bytes"]
                    / first["parameter_bytes"],
                    "step": last["step"]["median"]
                    / max(1, first["step"]["median"]),
                }
            )
    return found


def text(found: dict) -> str:
    """The results for people."""
    headings = (
        *("backend", "optimizer", "depth", "step MB", "quartiles", "first MB"),
        *("params MB", "slots MB", "of params", "compiled MB"),
    )
    lines = output.heading(found)
    rows = found["rows"]
    if rows:
        size = "batch {batch}, {units} inputs and units, {trees} trees".format
        devices = ", ".join(output.distinct(rows, "device"))
        lines += [f"{size(**rows[0])}, on {devices}", ""]
        lines += output.aligned([headings, *map(_cells, rows)])
        lines += ["", LEGEND.rstrip()]
    lines += [
        "{backend} {optimizer}, depth {depths[0]} to {depths[1]}: params x "
        "{parameters:.1f}, step x {step:.2f}".format(**one)
        for one in found["growth"]
    ]
    return "\n".join([*lines, *found["failures"]])


def _cells(row: dict) -> tuple[str, ...]:
    step, first = row["step"], row["first_bytes"]
    compiled = row["compiled"]
    low, high = step["quartiles"] if step else (0, 0)
    share = step["median"] / row["parameter_bytes"] if step else None
    return (
        *(row["backend"], row["optimizer"], str(row["depth"])),
        f"{step['median'] / 1e6:.1f}" if step else "-",
        f"{low / 1e6:.1f}-{high / 1e6:.1f}" if step else "-",
        "-" if first is None else f"{first / 1e6:.1f}",
        f"{row['parameter_bytes'] / 1e6:.1f}",
        f"{row['slot_bytes'] / 1e6:.1f}",
        "-" if share is None else f"{share:.2f}",
        "-" if compiled is None else f"{compiled['temporary'] / 1e6:.1f}",
    )


def panels(rows: list[dict]) -> list[curves.Panel]:
    """One for each backend: bytes of a step over the bytes of weights."""
    found = []
    for backend in output.distinct(rows, "backend"):
        mine = output.find(rows, backend=backend)
        drawn = curves.over(mine, "parameter_bytes", "step", "optimizer")
        if drawn:
            found.append(
                curves.Panel(
                    backend,
                    "bytes of all weights [MB]",
                    "peak memory of a step [MB]",
                    [curves.scaled(curve, 1e-6, 1e-6) for curve in drawn],
                )
            )
    return found
