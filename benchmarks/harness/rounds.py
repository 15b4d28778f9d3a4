"""Contests: cases take turns, so that noise of the machine hits all alike.

`hold_each` runs here; `build`, `turn`, `copy` and `clear` run in the processes
of the cases.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks import frameworks
from benchmarks.baselines import peers
from benchmarks.harness import machine, models, options, plots, tables, targets
from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.models import STEP_AWARE, Case, Work
from benchmarks.harness.options import ENGINES
from benchmarks.harness.process import Process

# A case that has taken so many times its share has no more turns, but two at
# least.
PATIENCE = 20
MOST_CALLS = 10_000  # in a turn

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
SIZES = "{engine} {name}, {work}, batch {batch}, {units} units, depth {depth}"

_works: dict[str, tuple[Work, float]] = {}  # with the seconds of a call


def build(case: Case, compiler: str | None, seconds: float) -> dict:
    """Builds a case; tells its size, what a step moves, and a first call."""
    work = models.build(case, compiler)
    sizes = {"parameters": work.parameters, **_moved(work, case)}
    first = _timed(work.call, 1)  # compiles
    calls = 1 if first > 4 * seconds else 2
    _works[case.name] = work, min(_timed(work.call, 1) for _ in range(calls))
    return sizes | {"first_seconds": first}


def turn(name: str, seconds: float) -> float:
    """Returns the milliseconds of a call, of as many as fit into `seconds`."""
    work, expected = _works[name]
    if expected < seconds:
        frameworks.wait(work.call())  # drops what others left in the caches
    calls = calls_of_turn(seconds, expected)
    return _timed(work.call, calls) / calls * 1e3


def calls_of_turn(seconds: float, expected: float) -> int:
    """Returns how many calls, each of the expected seconds, are a turn."""
    return max(1, min(int(seconds / expected), MOST_CALLS))


def in_turn(entries: list, number: int) -> list:
    """Returns the entries in the order of a round: each begins with another."""
    shift = number % max(1, len(entries))
    return entries[shift:] + entries[:shift]


def copy() -> float:
    """Returns the bytes per second of a plain copy: read, and written."""
    return frameworks.copy_bandwidth(repeats=3)


def clear() -> None:
    """Forgets all cases."""
    _works.clear()


def _timed(call: Callable, calls: int) -> float:
    """Returns the seconds of these calls, each of which is waited for."""
    start = time.perf_counter()
    for _ in range(calls):
        frameworks.wait(call())
    return time.perf_counter() - start


def _moved(work: Work, case: Case) -> dict:
    """Returns the bytes that a step touches and moves, of one tree layer."""
    touched = moved = None
    if case.model == "tree" and not case.hidden:
        inputs, _ = models.draw_data(case)
        touched = models.touched_bytes(work.model.layers[-1], inputs)
        if case.work == "forward":
            moved = touched
        elif case.work == "step" and case.optimizer in STEP_AWARE:
            moved = touched * targets.moves_of_a_row(work.model.optimizer)
    return {"touched_bytes": touched, "moved_bytes": moved}


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
    contest = Contest([], base, left_out=[])
    for case in cases:
        needed = kernels * 4 * case.batch * case.units**2
        room = machine.available_memory()
        if case.model == "naive" and room is not None and needed > room / 2:
            contest.left_out.append(
                f"left out: {case.name} at batch {case.batch}, {case.units} "
                f"units: it needs {needed / 2**30:.1f} GiB of "
                f"{room / 2**30:.1f}"
            )
        else:
            contest.cases.append(case)
    return contest


class Entry(NamedTuple):
    """A case, and where it runs."""

    process: Process
    engine: str
    case: Case


def hold_each(
    engine: str,
    contests: Iterable[Contest],
    given: argparse.Namespace,
    apart: bool = False,
    end: float = math.inf,
) -> Iterator[tuple[Contest, list[dict], list[str]]]:
    """Yields each contest with its rows and its failures.

    Args:
        engine: the backend, and what compiles there.
        contests: who takes part.
        given: the options of the command line.
        apart: whether each case has a process of its own; else they share one.
        end: the `time.monotonic` after which nothing is begun.
    """
    processes: dict[tuple[str, str], Process] = {}
    with ExitStack() as stack:

        def enter(case: Case) -> Entry:
            own = peers.ENGINE if case.model in peers.PACKAGES else engine
            key = own, case.name if apart else ""
            if key not in processes:
                process = Process(ENGINES[own][0])
                processes[key] = stack.enter_context(process)
            return Entry(processes[key], own, case)

        for contest in contests:
            if time.monotonic() > end:
                return
            entries = [enter(case) for case in contest.cases]
            for _, own, case in entries[:1]:  # whose sizes others have
                sizes = SIZES.format(**case._asdict(), engine=own)
                print(sizes, flush=True)
            rows, failures = hold(entries, given.rounds, given.seconds, end)
            with_ratios(rows, contest.base)
            rows = [row | {"beside": engine} for row in rows]
            yield contest, rows, failures


def hold(
    entries: list[Entry], rounds: int, seconds: float, end: float = math.inf
) -> tuple[list[dict], list[str]]:
    """Lets every case have a turn in every round.

    Args:
        entries: of names that differ.
        rounds: how many.
        seconds: of a turn, about; a call that takes longer is a turn.
        end: the `time.monotonic` after which no case is built, and no round
            begins but the first.

    Returns:
        A row for each case, with the milliseconds of a call in each of its
        turns, and the failures. A plain copy of memory has turns as well, in
        the process of the first.
    """
    failures: list[str] = []
    rows: list[dict] = []
    live: list[tuple[dict, Process]] = []
    for process, engine, case in entries:
        if time.monotonic() > end:
            break
        row: dict = case._asdict() | {"engine": engine}
        row |= {"turns": [], "copies": []}
        try:
            row |= process.call(build, case, ENGINES[engine][1], seconds)
            row |= process.call(frameworks.about)
        except RuntimeError as error:
            failures.append(f"{SIZES.format(**row)}: {error}")
            continue
        rows.append(row)
        live.append((row, process))
    for number in range(rounds):
        if number and time.monotonic() > end:
            break
        for row, process in in_turn(live, number):
            taken = sum(row["turns"]) / 1e3
            if len(row["turns"]) >= 2 and taken > PATIENCE * seconds:
                continue
            try:
                row["turns"].append(process.call(turn, row["name"], seconds))
            except RuntimeError as error:
                failures.append(f"{SIZES.format(**row)}: {error}")
                live = [one for one in live if one[0] is not row]
        if live:
            copied = live[0][1].call(copy)
            for row, _ in live:
                row["copies"].append(copied)
    for process in {id(one.process): one.process for one in entries}.values():
        with suppress(RuntimeError):  # it has ended, which was told before
            process.call(clear)
    return [_finished(row) for row in rows if row["turns"]], failures


def _finished(row: dict) -> dict:
    """Returns the row with its statistics."""
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


@dataclass(frozen=True, kw_only=True)
class ContestBenchmark(Benchmark):
    """Lets cases take turns.

    Args:
        contests: yields who takes part, in each of the sizes to measure.
        legend: what the names and the further columns mean.
        axes: of a panel for each backend and work.
        columns: further columns of the table.
        apart: whether each case has a process of its own.
    """

    contests: Callable[[argparse.Namespace], Iterable[Contest]]
    legend: str
    axes: plots.Axes
    columns: tables.Columns = field(default_factory=dict)
    apart: bool = False

    def check(self, given: argparse.Namespace) -> None:
        cases = [c for contest in self.contests(given) for c in contest.cases]
        foreign = any(case.model in peers.PACKAGES for case in cases)
        options.check_trees(given, cases)
        options.check_backends([*given.backend, *[peers.ENGINE] * foreign])

    def run(self, given: argparse.Namespace, command: str) -> int:
        found: dict = {"rows": [], "targets": [], "left_out": []}
        found["failures"] = []
        engines = list(dict.fromkeys(given.backend))
        end = math.inf
        if "minutes" in given:
            end = time.monotonic() + 60 * given.minutes
        for number, engine in enumerate(engines):
            contests = list(self.contests(given))
            now = time.monotonic()
            own_end = now + (end - now) / (len(engines) - number)
            held = hold_each(engine, contests, given, self.apart, own_end)
            late = len(contests)
            for contest, rows, failures in held:
                late -= 1
                found["rows"] += rows
                found["targets"] += targets.reached(self.name, rows, engine)
                found["left_out"] += contest.left_out
                found["failures"] += failures
            if late:
                found["left_out"].append(
                    f"{engine}: no time for {late} of {len(contests)} sizes"
                )
        rows = found["rows"]
        found |= tables.about(command, rows)
        lines = found["left_out"]
        if rows:
            lines = [
                *tables.table(COLUMNS | self.columns, rows),
                "",
                LEGEND + self.legend,
                *targets.lines(found["targets"]),
                *lines,
            ]
        panels = plots.panels(rows, self.axes, apart=("beside", "work"))
        figure = plots.draw(found["machine"], panels)
        return tables.publish(self.name, found, lines, figure, given.output)
