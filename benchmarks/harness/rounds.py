"""Contests: cases take turns, so that noise of the machine hits all alike.

`hold_all` runs here; `build`, `turn`, `copy` and `clear` run in the processes
of the cases.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from benchmarks import frameworks
from benchmarks.baselines import peers
from benchmarks.harness import machine, models, plots, tables, targets
from benchmarks.harness.models import STEP_AWARE, Case, Work
from benchmarks.harness.options import ENGINES
from benchmarks.harness.process import Process

# A case that has taken so many times its share has no more turns, but two at
# least.
PATIENCE = 20
MOST_CALLS = 10_000  # in a turn

_works: dict[str, tuple[Work, float]] = {}  # with the seconds of a call


def build(case: Case, compiler: str | None, seconds: float) -> dict:
    """Builds a case; tells its size, what a step moves, and a first call."""
    work = models.build(case, compiler)
    sizes = {"parameters": work.parameters, **_moved(work, case)}
    start = time.perf_counter()
    frameworks.wait(work.call())  # compiles
    first = time.perf_counter() - start
    calls = 1 if first > 4 * seconds else 2
    _works[case.name] = work, min(_timed(work.call, 1) for _ in range(calls))
    return sizes | {"first_seconds": first}


def turn(name: str, seconds: float) -> float:
    """Returns the milliseconds of a call, of as many as fit into `seconds`."""
    work, expected = _works[name]
    if expected < seconds:
        frameworks.wait(work.call())  # drops what others left in the caches
    calls = max(1, min(int(seconds / expected), MOST_CALLS))
    return _timed(work.call, calls) / calls * 1e3


def copy() -> float:
    """Returns the bytes per second of a plain copy: read, and written."""
    return machine.copy_bandwidth(repeats=3)


def clear() -> None:
    """Forgets all cases."""
    _works.clear()


def _timed(call: Callable, calls: int) -> float:
    """The seconds of these calls, each of which is waited for."""
    start = time.perf_counter()
    for _ in range(calls):
        frameworks.wait(call())
    return time.perf_counter() - start


def _moved(work: Work, case: Case) -> dict:
    """The bytes that a step touches and moves, of a single tree layer."""
    sizes: dict[str, float | None] = {
        "touched_bytes": None,
        "moved_bytes": None,
    }
    if case.model == "tree" and not case.hidden:
        layer = work.model.layers[-1]
        inputs, _ = models.draw_data(case)
        touched = models.touched_bytes(layer, inputs)
        sizes["touched_bytes"] = touched
        if case.work == "step" and case.optimizer in STEP_AWARE:
            moves = targets.moves_of_a_row(work.model.optimizer)
            sizes["moved_bytes"] = moves * touched
    return sizes


class Entry(NamedTuple):
    """A case, and where it runs."""

    process: Any
    engine: str
    case: Case


class Contest(NamedTuple):
    """Cases that take turns.

    cases: of names that differ.
    base: the name of the one that the others are compared with.
    left_out: a line for each that memory does not allow.
    """

    cases: list[Case]
    base: str
    left_out: list[str]


def without_naive(cases: list[Case], base: str, kernels: int) -> Contest:
    """Returns a contest without naive models for which memory is short.

    Args:
        cases: all of them.
        base: the name of the one that the others are compared with.
        kernels: how many arrays (B, P, Q) the naive model holds at once.
    """
    found, left_out = [], []
    for case in cases:
        needed = kernels * 4 * case.batch * case.units**2
        room = machine.available_memory()
        if case.model == "naive" and room is not None and needed > room / 2:
            left_out.append(
                f"left out: {case.name} at batch {case.batch}, {case.units} "
                f"units: it needs {needed / 2**30:.1f} GiB of "
                f"{room / 2**30:.1f}"
            )
        else:
            found.append(case)
    return Contest(found, base, left_out)


def hold_all(
    name: str,
    given: argparse.Namespace,
    contests: Callable[[argparse.Namespace], Iterable[Contest]],
    apart: bool = False,
) -> dict:
    """Holds all contests on each backend.

    Args:
        name: the name of the benchmark, for its targets.
        given: the options of the command line.
        contests: a function of the options.
        apart: whether each case has a process of its own; else the cases of a
            backend share one.

    Returns:
        The rows, the targets, who was left out, and the failures.
    """
    found: dict = {"rows": [], "targets": [], "left_out": [], "failures": []}
    for engine in dict.fromkeys(given.backend):
        with ExitStack() as stack:
            processes: dict[tuple, Process] = {}
            for contest in contests(given):
                entries = []
                for case in contest.cases:
                    own = (
                        peers.ENGINE if case.model in peers.PACKAGES else engine
                    )
                    key = own, case.name if apart else ""
                    if key not in processes:
                        process = Process(ENGINES[own][0])
                        processes[key] = stack.enter_context(process)
                    entries.append(Entry(processes[key], own, case))
                for _, own, case in entries[:1]:  # whose sizes others have
                    row = case._asdict() | {"engine": own}
                    print(_sizes(row), flush=True)
                rows, failures = hold(entries, given.rounds, given.seconds)
                with_ratios(rows, contest.base)
                rows = [row | {"beside": engine} for row in rows]
                found["rows"] += rows
                found["left_out"] += contest.left_out
                found["failures"] += failures
                found["targets"] += targets.reached(name, rows, engine)
    return found


def hold(
    entries: list[Entry], rounds: int, seconds: float
) -> tuple[list[dict], list[str]]:
    """Lets every case have a turn in every round.

    Args:
        entries: of names that differ.
        rounds: how many.
        seconds: of a turn, about; a call that takes longer is a turn.

    Returns:
        A row for each case, with the milliseconds of a call in each of its
        turns, and the failures. A plain copy of memory has turns as well, in
        the process of the first.
    """
    failures: list[str] = []
    rows: list[dict] = []
    live: list[tuple[dict, Process]] = []
    for process, engine, case in entries:
        row: dict = case._asdict() | {"engine": engine}
        row |= {"turns": [], "copies": []}
        try:
            row |= process.call(build, case, ENGINES[engine][1], seconds)
            row |= process.call(frameworks.about)
        except RuntimeError as error:
            failures.append(f"{_sizes(row)}: {error}")
            continue
        rows.append(row)
        live.append((row, process))
    for number in range(rounds):
        # Each round begins with another one.
        shift = number % max(1, len(live))
        for row, process in live[shift:] + live[:shift]:
            taken = sum(row["turns"]) / 1e3
            if len(row["turns"]) >= 2 and taken > PATIENCE * seconds:
                continue
            try:
                row["turns"].append(process.call(turn, row["name"], seconds))
            except RuntimeError as error:
                failures.append(f"{_sizes(row)}: {error}")
                live = [one for one in live if one[0] is not row]
        if live:
            copied = live[0][1].call(copy)
            for row, _ in live:
                row["copies"].append(copied)
    for process in {id(one.process): one.process for one in entries}.values():
        with suppress(RuntimeError):  # it has ended, which was told before
            process.call(clear)
    return [_finished(row) for row in rows if row["turns"]], failures


def _sizes(row: dict) -> str:
    text = (
        "{engine} {name}, {work}, batch {batch}, {units} units, depth {depth}"
    )
    return text.format(**row)


def _finished(row: dict) -> dict:
    """The row with its statistics."""
    row["ms"] = tables.spread(row["turns"])
    row["limit"] = None
    if row["moved_bytes"] is not None:
        row["limit"] = tables.spread(
            targets.limit(row["moved_bytes"], ms, bandwidth)
            for ms, bandwidth in zip(row["turns"], row["copies"], strict=False)
        )
    return row


def with_ratios(rows: list[dict], base: str) -> None:
    """Adds to each row its ratio to that of a name, round by round."""
    bases = tables.find(rows, name=base)
    for row in rows:
        row["over"] = tables.ratio(row, bases[0]) if bases else None


LEGEND = """\
ms      time of a call: median over the turns, and quartiles. A call is waited
        for. Contestants take turns in rounds; each brings batches of its own
over    its time over that of the contest's base, which has 1, in the same round
params  numbers in all trainable weights
"""

COLUMNS: tables.Columns = {
    "backend": "engine",
    "contestant": "name",
    "work": "work",
    "units": "units",
    "depth": "depth",
    "batch": "batch",
    "ms": lambda row: tables.spread_text(row["ms"], ".4g"),
    "over": lambda row: tables.spread_text(row["over"]),
    "params": lambda row: f"{row['parameters']:,}",
}


def run(
    name: str,
    given: argparse.Namespace,
    command: str,
    contests: Callable[[argparse.Namespace], Iterable[Contest]],
    legend: str,
    x: str,
    y: str,
    labels: tuple[str, str],
    columns: tables.Columns | None = None,
    apart: bool = False,
) -> int:
    """Holds all contests, and prints, draws and writes what was found.

    Args:
        name: the name of the benchmark.
        given: the options of the command line.
        command: the command line.
        contests: a function of the options.
        legend: what the names and the further columns mean.
        x: the column to draw over, in a panel for each backend and work.
        y: the column to draw.
        labels: of these two.
        columns: further columns of the table.
        apart: whether each case has a process of its own.
    """
    found = hold_all(name, given, contests, apart)
    rows = found["rows"]
    found |= tables.about(command, rows)
    lines = found["left_out"]
    if rows:
        lines = [
            *tables.table(COLUMNS | (columns or {}), rows, left=3),
            "",
            LEGEND + legend,
            *targets.lines(found["targets"]),
            *lines,
        ]
    panels = [
        plots.Panel(
            title=f"{engine}, {work}",
            x_label=labels[0],
            y_label=labels[1],
            curves=plots.curves(
                tables.find(rows, beside=engine, work=work), x, y
            ),
        )
        for engine in tables.distinct(rows, "beside")
        for work in tables.distinct(rows, "work")
    ]
    figure = plots.draw(found["machine"], panels)
    return tables.publish(name, found, lines, figure, given.output)
