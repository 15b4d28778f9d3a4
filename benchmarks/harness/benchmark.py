"""The contract of a benchmark, and the kind of it that measures case by case.

`benchmarks.harness.rounds` has the other kind, in which cases take turns.
"""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from benchmarks.harness import options, plots, process, tables
from benchmarks.harness.models import Case


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """A command of `python -m benchmarks`.

    Args:
        name: what the command and its files are called.
        help: what it measures, in a line.
        options: those beside `--output`.
    """

    name: str
    help: str
    options: options.Options

    @abstractmethod
    def check(self, given: argparse.Namespace) -> None:
        """Refuses what would fail only after other cases had been measured."""

    @abstractmethod
    def run(self, given: argparse.Namespace, command: str) -> int:
        """Measures every case, and prints and writes what was found.

        Args:
            given: the options of the command line.
            command: the command line.

        Returns:
            The exit status.
        """


class Finding(NamedTuple):
    """A result of all rows.

    find: returns the results, from the rows.
    sentence: tells one of them, as a format.
    """

    find: Callable[[list[dict]], list[dict]]
    sentence: str


SIZES = "batch {batch}, {units} inputs and units, {trees} trees"


def _nothing(rows: list[dict]) -> list:
    return []


@dataclass(frozen=True, kw_only=True)
class CaseBenchmark(Benchmark):
    """Measures each case in a process of its own.

    Args:
        cases: yields a backend and a case for each measurement.
        measure: returns the row of a case; it runs in the case's process.
        summary: tells a row in a few words, while others are still measured.
        columns: of the table.
        legend: explains the columns.
        preface: returns further lines above the table.
        findings: results of all rows, by their key in the file.
        panels: returns the parts of the picture.
        environment: variables that processes start with.
    """

    cases: Callable[[argparse.Namespace], Iterable[tuple[str, Case]]]
    measure: Callable[[Case, argparse.Namespace], dict]
    summary: Callable[[dict], str]
    columns: tables.Columns
    legend: str
    preface: Callable[[list[dict]], list[str]] = _nothing
    findings: dict[str, Finding] = field(default_factory=dict)
    panels: Callable[[list[dict]], list[plots.Panel]] = _nothing
    environment: dict[str, str] = field(default_factory=dict)

    def check(self, given: argparse.Namespace) -> None:
        options.check_trees(given, (case for _, case in self.cases(given)))
        options.check_backends(given.backend)

    def run(self, given: argparse.Namespace, command: str) -> int:
        rows, failures = process.measure_each(
            [
                (backend, case.name, partial(self.measure, case, given))
                for backend, case in self.cases(given)
            ],
            self.summary,
            self.environment,
        )
        found = tables.about(command, rows) | {"rows": rows}
        title, lines = found["machine"], []
        if rows:
            sizes = SIZES.format(**rows[0])  # which all rows have
            title = f"{title}\n{sizes}"
            table = tables.table(self.columns, rows)
            lines = [*self.preface(rows), sizes, "", *table, "", self.legend]
        for key, finding in self.findings.items():
            found[key] = finding.find(rows)
            lines += [finding.sentence.format(**one) for one in found[key]]
        found["failures"] = failures
        figure = plots.draw(title, self.panels(rows))
        return tables.publish(self.name, found, lines, figure, given.output)
