"""The command line of `quality`, and its run."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_treegate import backend
from keras_treegate.benchmarks import (
    picture,
    quality,
    quality_grid,
    quality_picture,
    quality_report,
    quality_tasks,
)

MINUTES = {"quick": 5.0, "full": 60.0}


def add_options(parser: argparse.ArgumentParser, positive: Any) -> None:
    """Adds the options of `quality`."""
    add = parser.add_argument
    add(
        "--tasks",
        nargs="+",
        choices=quality_tasks.TASKS,
        default=list(quality_tasks.TASKS),
        help="what to learn",
    )
    add("--quick", action="store_true", help="few networks, a tenth the steps")
    add(
        "--minutes",
        type=positive,
        help="training that would not end in time is not begun "
        "(default: 60, and 5 with --quick)",
    )
    add(
        "--cases",
        nargs="+",
        metavar="TEXT",
        help="only networks whose name contains one of these",
    )
    add("--seeds", type=positive, default=3, help="seeds of each network")
    add(
        "--steps",
        type=positive,
        help="of training for bytes (default: 3000); those for digits are in "
        "proportion",
    )
    add(
        "--optimizer",
        choices=quality.OPTIMIZERS,
        default=quality.OPTIMIZERS[0],
        help="Adam is Keras's own",
    )
    add(
        "--resume",
        action="store_true",
        help="keep the results in the output folder and add what is missing",
    )
    add(
        "--output",
        type=Path,
        default=Path("benchmarks"),
        help="folder for quality.json, .txt and .png",
    )


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after the first training."""
    picture.figure_class()
    if not list(_plan(options)):
        raise ValueError(
            "`--cases` must be part of the name of a network, e.g. 'Dense' or "
            f"'depth 4'. Received: {options.cases}. Without it all are trained."
        )
    known = _known(options)["data"]
    for name in options.tasks:
        data = quality_tasks.load(name, seed=0, steps=1).about
        if known.get(name, data) != data:
            raise ValueError(
                "`--resume` adds to results on the same data only. Received: "
                f"results on {known[name]}, where the data now is {data}. "
                "Leave `--resume` out, or choose another `--output`."
            )


def run(
    options: argparse.Namespace,
    command: str,
    about: Callable[[str, list[dict]], dict],
) -> int:
    """Trains every network, and prints and writes what was found."""
    framework = {
        "backend": backend.NAME,
        "backend_version": sys.modules[backend.NAME].__version__,
    }
    known = _known(options)
    found = about(command, [framework]) | {
        "commands": [*known["commands"], command],
        "data": known["data"],
        "rows": known["rows"],
        "cut": [],
    }
    minutes = options.minutes or MINUTES["quick" if options.quick else "full"]
    deadline = time.perf_counter() + minutes * 60
    task: Any = None
    loaded: Any = None
    for case, seed, steps in _plan(options):
        if _find(found["rows"], case, steps, seed):
            continue
        before = _find(found["rows"], case, steps)
        expected = before[0]["seconds"] if before else 0
        if time.perf_counter() + expected > deadline:
            found["cut"].append(f"{case.task}: {case.name}, seed {seed}")
            continue
        if loaded != (case.task, seed, steps):
            loaded = (case.task, seed, steps)
            task = quality_tasks.load(*loaded)
            found["data"][task.name] = task.about
        row = quality.measure(case, task, seed)
        found["rows"].append(row)
        print(
            f"{case.task}: {case.name}, seed {seed}: {row['bits']:.3f} bits, "
            f"{row['seconds']:.0f} s",
            flush=True,
        )
        quality_report.write(found, options.output)
    print(f"\n{quality_report.text(found)}")
    quality_report.write(found, options.output)
    quality_picture.write(found, options.output)
    print(f"\nWrote {options.output / 'quality'}.json, .txt and .png")
    return 0


def _plan(
    options: argparse.Namespace,
) -> Iterator[tuple[quality.Case, int, int]]:
    """Yields cases, seeds and steps: all cases once, then the next seed."""
    grid = quality_grid.quick if options.quick else quality_grid.full
    for seed in range(options.seeds):
        for name in dict.fromkeys(options.tasks):
            for case in grid(name):
                case = case._replace(optimizer=options.optimizer)
                wanted = options.cases or [""]
                if any(text in case.name for text in wanted):
                    yield case, seed, _steps(options, name)


def _steps(options: argparse.Namespace, task: str) -> int:
    standard = quality_grid.STEPS
    steps = options.steps or standard["bytes"] // (10 if options.quick else 1)
    return max(1, standard[task] * steps // standard["bytes"])


def _known(options: argparse.Namespace) -> dict:
    """The results of an earlier run to add to, if that is wanted."""
    path = options.output / "quality.json"
    if options.resume and path.is_file():
        return json.loads(path.read_text())
    return {"data": {}, "rows": [], "commands": []}


def _find(
    rows: list[dict], case: quality.Case, steps: int, seed: int | None = None
) -> list[dict]:
    return [
        row
        for row in rows
        if all(row[name] == value for name, value in case._asdict().items())
        and row["steps"] == steps
        and seed in (None, row["seed"])
    ]
