"""Contestants that take turns, so that noise of the machine hits all alike."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

from benchmarks.harness.models import ENGINES, Contestant
from benchmarks.harness.tables import spread

# A contestant that has taken so many times its share has no more turns, but
# two at least.
PATIENCE = 20


class Host:
    """The near end of a `benchmarks.harness.worker`."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", "benchmarks.harness.worker"]
        self._process = subprocess.Popen(
            [*command, engine],
            env={"TF_CPP_MIN_LOG_LEVEL": "2"}
            | os.environ
            | {"KERAS_BACKEND": ENGINES[engine][0]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ask(self, question: str, **arguments: Any) -> dict:
        """The answer of the worker; `RuntimeError` where it has none."""
        line = json.dumps({"ask": question} | arguments)
        try:
            print(line, file=self._process.stdin, flush=True)
            answer = (self._process.stdout or sys.stdin).readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(self._last_words())
        found = json.loads(answer)
        if "error" in found:
            raise RuntimeError(found["error"])
        return found

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["no message"]
        return f"the process ended with status {status}: {lines[-1]}"


class Entry(NamedTuple):
    """A contestant, and where it runs."""

    host: Host
    contestant: Contestant


def hold(
    entries: list[Entry], rounds: int, seconds: float
) -> tuple[list[dict], list[str]]:
    """Lets every contestant have a turn in every round.

    Args:
        entries: of names that differ.
        rounds: how many.
        seconds: of a turn, about; a call that takes longer is a turn.

    Returns:
        A row for each contestant, with the milliseconds of a call in each of
        its turns, and the failures. A plain copy of memory has turns as well,
        in the process of the first.
    """
    failures: list[str] = []
    rows: list[dict] = []
    live: list[tuple[dict, Host]] = []
    for host, contestant in entries:
        row = contestant._asdict() | {"engine": host.engine, "turns": []}
        row["copies"] = []
        try:
            row |= host.ask("build", contestant=contestant, seconds=seconds)
        except RuntimeError as error:
            failures.append(_told(row, error))
            continue
        rows.append(row)
        live.append((row, host))
    for number in range(rounds):
        # Each round begins with another one.
        shift = number % max(1, len(live))
        for row, host in live[shift:] + live[:shift]:
            if _has_had_enough(row, seconds):
                continue
            try:
                turn = host.ask("turn", name=row["name"], seconds=seconds)
                row["turns"].append(turn["ms"])
            except RuntimeError as error:
                failures.append(_told(row, error))
                live = [one for one in live if one[0] is not row]
        _copy(live)
    for host in {id(host): host for host, _ in entries}.values():
        _forget(host)
    return [finished(row) for row in rows if row["turns"]], failures


def _has_had_enough(row: dict, seconds: float) -> bool:
    taken = sum(row["turns"]) / 1e3
    return len(row["turns"]) >= 2 and taken > PATIENCE * seconds


def _copy(live: list[tuple[dict, Host]]) -> None:
    if not live:
        return
    copied = live[0][1].ask("copy")["copied"]
    for row, _ in live:
        row["copies"].append(copied)


def _forget(host: Host) -> None:
    try:
        host.ask("clear")
    except RuntimeError:
        return  # it has ended, and that was told before


def _told(row: dict, error: Exception) -> str:
    what = "{engine} {name}, {work}, batch {batch}, depth {depth}".format
    return f"{what(**row)}: {error}"


def finished(row: dict) -> dict:
    """The row with its statistics."""
    row["ms"] = spread(row["turns"])
    row["limit"] = None
    if row["touched_bytes"] and row["optimizer"].startswith("StepAware"):
        row["limit"] = spread(
            row["touched_bytes"] / (ms / 1e3) / copied
            for ms, copied in zip(row["turns"], row["copies"], strict=False)
        )
    return row


def ratio(row: dict, base: dict) -> dict:
    """The time of one over that of another, round by round."""
    both = zip(row["turns"], base["turns"], strict=False)
    return spread(mine / other for mine, other in both)
