"""Prints and writes results: headings, tables, statistics."""

import json
import platform
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_treegate
from benchmarks.harness import machine

# A key of the rows or a function of a row, by the heading of its column.
Columns = dict[str, str | Callable[[Any], Any]]


def about(command: str, rows: Iterable[dict]) -> dict:
    """Returns what to know of a run besides its results.

    Args:
        command: the command line.
        rows: what `frameworks.about` told, among other columns.
    """
    versions = {
        "keras_treegate": keras_treegate.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return {
        "machine": machine.describe(),
        "load_before": machine.LOAD_BEFORE,
        "versions": versions | {r["framework"]: r["version"] for r in rows},
        "devices": {row["framework"]: _device(row) for row in rows},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def _device(row: dict) -> str:
    """Returns where the framework of a row computed, with its name."""
    name = row.get("device_name")
    return f"{row['device']} ({name})" if name else row["device"]


def heading(found: dict) -> list[str]:
    """Returns the machine, the versions, the date, the load, the command."""
    versions = [f"{name} {v}" for name, v in found["versions"].items()]
    devices = [f"{name} on {d}" for name, d in found.get("devices", {}).items()]
    load = found["load_before"]
    return [
        found["machine"],
        ", ".join([*versions, *devices]),
        f"{found['date']}, load before the run: "
        + ("unknown" if load is None else f"{load:.1f}"),
        found["command"],
        "",
    ]


def find(rows: Iterable[dict], **values: Any) -> list[dict]:
    """Finds the rows that have these values."""
    return [
        row
        for row in rows
        if all(row[name] == value for name, value in values.items())
    ]


def distinct(rows: Iterable[dict], name: str) -> list:
    """Returns the values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[name] for row in rows))


def spread(values: Iterable[float]) -> dict:
    """Returns the median, the quartiles and the least of some values."""
    array = np.array(list(values))
    return {
        "median": float(np.median(array)),
        "quartiles": np.quantile(array, [0.25, 0.75]).tolist(),
        "min": float(array.min()),
    }


def ratio(row: dict, base: dict) -> dict:
    """Returns the time of one over that of another, round by round."""
    both = zip(row["turns"], base["turns"], strict=False)
    return spread(mine / other for mine, other in both)


def spread_text(found: dict | None, form: str = ".3g", unit: float = 1) -> str:
    """Returns the median and the quartiles as a cell of a table."""
    if found is None:
        return "-"
    median, low, high = (
        format(value / unit, form)
        for value in (found["median"], *found["quartiles"])
    )
    return f"{median} ({low}-{high})"


def number(value: float | None, form: str, unit: float = 1) -> str:
    """Returns a number as a cell of a table, a dash for none."""
    return "-" if value is None else format(value / unit, form)


def table(columns: Columns, rows: Iterable[Any]) -> list[str]:
    """Returns lines with columns of equal width: words left, numbers right.

    Args:
        columns: what a row shows below each heading.
        rows: what to show.
    """
    rows = list(rows)
    found = []
    for heading, cell in columns.items():
        column = [
            str(row[cell] if isinstance(cell, str) else cell(row))
            for row in rows
        ]
        words = not found or any(text[:1].isalpha() for text in column)
        width = max(map(len, [heading, *column]))
        found.append(
            [
                text.ljust(width) if words else text.rjust(width)
                for text in [heading, *column]
            ]
        )
    return ["  ".join(line).rstrip() for line in zip(*found, strict=True)]


def publish(
    name: str, found: dict, lines: list[str], figure: Any, folder: Path
) -> int:
    """Prints and writes all; returns the exit status.

    Args:
        name: the name of the files.
        found: all results, with those of `about`.
        lines: what people read, below the heading.
        figure: the picture, or `None`.
        folder: where to write.
    """
    failures = found.get("failures", [])
    text = "\n".join([*heading(found), *lines, *failures])
    print(f"\n{text}")
    write(name, found, text, folder)
    if figure is not None:
        figure.savefig(folder / f"{name}.png", dpi=150)
    picture = " and .png" if figure is not None else ""
    print(f"\nWrote {folder / name}.json, .txt{picture}")
    return 1 if failures else 0


def write(name: str, found: dict, text: str, folder: Path) -> None:
    """Writes `<name>.json` and `<name>.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(found, indent=2) + "\n"
    (folder / f"{name}.json").write_text(as_json, encoding="utf-8")
    (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
