"""The command line of `quality`, and its run."""

import argparse
import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import step_time_picture as picture
from benchmarks.harness import process as side_by_side
from benchmarks.harness import tables as output
from benchmarks.harness.options import positive, positive_float
from benchmarks.quality import grid as quality_grid
from benchmarks.quality import networks as quality
from benchmarks.quality import picture as quality_picture
from benchmarks.quality import report as quality_report
from benchmarks.quality import tasks as quality_tasks
from keras_treegate import backend

NAME = "quality"
HELP = "how well networks predict, by work and by parameters"
MINUTES = {"quick": 5.0, "full": 60.0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `quality`."""
    add = parser.add_argument
    add(
        "--tasks",
        nargs="+",
        choices=quality_tasks.TASKS,
        default=list(quality_tasks.TASKS),
        help="what to learn",
    )
    add("--quick", action="store_true", help="few networks, steps and rates")
    add(
        "--minutes",
        type=positive,
        help="training that would not end in time is broken off; 60 unless "
        "given, with --quick 5",
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
        help="steps of training; 500 for bytes and 660 for digits unless "
        "given, with --quick 300 and 66",
    )
    add(
        "--rates",
        nargs="+",
        type=positive_float,
        help="learning rates to search among, times that of the task; four for "
        "bytes and five for digits unless given, with --quick 1",
    )
    add(
        "--jobs",
        type=positive,
        default=1,
        help="networks trained side by side, each on its share of the cores",
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
        default=Path("benchmarks/output"),
        help="folder for quality.json, .txt and .png",
    )


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after the first training."""
    picture.figure_class()
    grid = quality_grid.quick if options.quick else quality_grid.everything
    if not list(_cases(options, grid)):
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


def run(options: argparse.Namespace, command: str) -> int:
    """Trains every network, and prints and writes what was found."""
    framework = {backend.NAME: sys.modules[backend.NAME].__version__}
    known = _known(options)
    found = output.about(command, framework) | {
        "commands": [*known["commands"], command],
        "data": known["data"],
        "rows": known["rows"],
        "cut": [],
    }
    minutes = options.minutes or MINUTES["quick" if options.quick else "full"]
    deadline = time.time() + minutes * 60
    for stage in _plan(options, found["rows"]):
        missing = [
            (case, seed, steps, deadline)
            for case, seed in stage
            if not _is_done(
                found["rows"], case, steps := _steps(options, case.task), seed
            )
        ]
        done = side_by_side.results(measure, missing, options.jobs)
        for (case, seed, *_), (row, about) in zip(missing, done, strict=True):
            name = f"{case.task}: {case.name}, seed {seed}"
            if case.rate != 1:
                name += f", {case.rate:g} times the rate"
            if row is None:
                found["cut"].append(name)
                print(f"{name}: would not end in time", flush=True)
                continue
            found["data"][case.task] = about
            found["rows"].append(row)
            told = f"{row['bits']:.3f} bits, {row['seconds']:.0f} s"
            print(f"{name}: {told}", flush=True)
            quality_report.write(found, options.output)
    print(f"\n{quality_report.text(found)}")
    quality_report.write(found, options.output)
    quality_picture.write(found, options.output)
    print(f"\nWrote {options.output / 'quality'}.json, .txt and .png")
    return 0


def measure(
    case: quality.Case, seed: int, steps: int, deadline: float
) -> tuple[dict | None, dict]:
    """The row of a network, and what is to know of the data.

    No row if the training would not end before `deadline`, a `time.time`, which
    all processes share.
    """
    left = deadline - time.time()
    if left < 0:
        return None, {}
    task = _loaded(case.task, seed, steps)
    ends = time.perf_counter() + left
    return quality.measure(case, task, seed, ends), task.about


# The last task alone: examples take up to a hundred megabytes.
_loaded = functools.lru_cache(maxsize=1)(quality_tasks.load)


def _plan(
    options: argparse.Namespace, rows: list
) -> Iterator[list[tuple[quality.Case, int]]]:
    """Yields stages of cases and seeds; those that take longest come last.

    The learning rate is searched with the first seed, and the other seeds are
    of the best of these rates: the lowest bits among the rows, which a stage
    may add to. What is in one stage can be trained side by side.
    """
    grids = [quality_grid.shallow, quality_grid.deep]
    for grid in [quality_grid.quick] if options.quick else grids:
        cases = list(_cases(options, grid))
        searches = [
            [
                (case._replace(rate=rate), 0)
                for rate in _rates(options, case.task)
            ]
            for case in cases
        ]
        # The first rate of each, then the second of each, and so on.
        in_turn = itertools.chain(*itertools.zip_longest(*searches))
        yield [one for one in in_turn if one is not None]
        later = []
        for seed, case in itertools.product(range(1, options.seeds), cases):
            steps = _steps(options, case.task)
            rates = _rates(options, case.task)
            searched = [row for row in rows if row["rate"] in rates]
            best = quality_report.best_rate(searched, case, steps)
            later.append((case._replace(rate=best or case.rate), seed))
        yield later


def _cases(
    options: argparse.Namespace, grid: Callable
) -> Iterator[quality.Case]:
    wanted = options.cases or [""]
    for name in dict.fromkeys(options.tasks):
        for case in grid(name):
            if any(text in case.name for text in wanted):
                yield case._replace(optimizer=options.optimizer)


def _steps(options: argparse.Namespace, task: str) -> int:
    grid = quality_grid.QUICK_STEPS if options.quick else quality_grid.STEPS
    return options.steps or grid[task]


def _rates(options: argparse.Namespace, task: str) -> tuple[float, ...]:
    usual = quality_grid.RATES[task]
    return tuple(options.rates or (usual[:1] if options.quick else usual))


def _known(options: argparse.Namespace) -> dict:
    """The results of an earlier run to add to, if that is wanted."""
    path = options.output / "quality.json"
    if options.resume and path.is_file():
        return json.loads(path.read_text())
    return {"data": {}, "rows": [], "commands": []}


def _is_done(
    rows: list[dict], case: quality.Case, steps: int, seed: int
) -> bool:
    wanted = case._asdict() | {"steps": steps, "seed": seed}
    return any(
        all(row[name] == value for name, value in wanted.items())
        for row in rows
    )
