"""The command line of `step-time`, and what it prints and writes."""

import argparse
from pathlib import Path

from benchmarks import step_time_picture as picture
from benchmarks import step_time_report as report
from benchmarks.harness import tables as output
from benchmarks.harness.options import (
    add_backends,
    check_backends,
    positive,
)
from benchmarks.step_time import OPTIMIZERS, Case
from benchmarks.step_time import run as run_case

NAME = "step-time"
HELP = "time, memory and touched bytes of a `fit` step"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    add = parser.add_argument
    add_backends(parser)
    add(
        "--depths",
        nargs="+",
        type=positive,
        default=[4, 6, 8, 10, 12, 14],
        help="depths of the trees",
    )
    add("--batch", type=positive, default=256, help="examples in a batch")
    add("--units", type=positive, default=64, help="inputs, and output units")
    add("--trees", type=positive, default=64, help="trees of the layer")
    add(
        "--optimizers",
        nargs="+",
        choices=OPTIMIZERS,
        default=list(OPTIMIZERS),
        help="Adam is Keras's own",
    )
    add(
        "--steps",
        type=positive,
        help="steps of an epoch; by default what a few seconds allow",
    )
    add(
        "--output",
        type=Path,
        default=Path("benchmarks/output"),
        help="folder for step-time.json, .txt and .png",
    )


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    for name in ("depths", "trees"):
        given = getattr(options, name)
        most = given if name == "trees" else max(given)
        if most > options.units:
            raise ValueError(
                f"`--{name}` must be at most `--units`, {options.units}. "
                f"Received: {most}. Lower it, or use more units."
            )
    check_backends(options.backend)


def run(options: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows: list[dict] = []
    failures: list[str] = []
    for case in _cases(options):
        start = f"{case.backend} {case.optimizer} depth {case.depth}: "
        print(start, end="", flush=True)
        try:
            rows.append(run_case(case))
            print(f"{rows[-1]['ms']:.2f} ms", flush=True)
        except RuntimeError as error:
            failures.append(str(error))
            print("failed", flush=True)
    versions = {row["backend"]: row["backend_version"] for row in rows}
    about = output.about(command, versions)
    found = report.results(about, rows, failures)
    print(f"\n{report.text(found)}")
    report.write(found, options.output)
    if rows:
        picture.write(found["machine"], rows, options.output)
    print(f"\nWrote {options.output / 'step-time'}.json, .txt and .png")
    return 1 if failures else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    return [
        Case(
            backend,
            optimizer,
            depth,
            options.batch,
            options.units,
            options.trees,
            options.steps,
        )
        for backend in dict.fromkeys(options.backend)
        for depth in sorted(set(options.depths))
        for optimizer in dict.fromkeys(options.optimizers)
    ]
