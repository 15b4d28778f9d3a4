"""What the results of all benchmarks share: headings, tables, statistics."""

import json
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.harness import machine


def about(command: str, frameworks: dict[str, str]) -> dict:
    """What to know of a run besides its results.

    Args:
        command: the command line.
        frameworks: the versions of those that were measured.
    """
    versions = {
        "keras_treegate": sys.modules["keras_treegate"].__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    return {
        "machine": machine.describe(),
        "load_before": machine.LOAD_BEFORE,
        "versions": versions | frameworks,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def heading(found: dict) -> list[str]:
    """The machine, the versions, the date, the load and the command."""
    versions = [f"{name} {v}" for name, v in found["versions"].items()]
    load = found["load_before"]
    return [
        found["machine"],
        ", ".join(versions),
        f"{found['date']}, load before the run: "
        + ("unknown" if load is None else f"{load:.1f}"),
        found["command"],
    ]


def find(rows: Iterable[dict], **values: Any) -> list[dict]:
    """The rows that have these values."""
    return [
        row
        for row in rows
        if all(row[name] == value for name, value in values.items())
    ]


def distinct(rows: Iterable[dict], name: str) -> list:
    """The values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(row[name] for row in rows))


def spread(values: Iterable[float]) -> dict:
    """The median, the quartiles and the least of some values."""
    array = np.array(list(values))
    return {
        "median": float(np.median(array)),
        "quartiles": np.quantile(array, [0.25, 0.75]).tolist(),
        "min": float(array.min()),
    }


def spread_text(found: dict | None, form: str = ".3g") -> tuple[str, str]:
    """The median and the quartiles as two cells of a table."""
    if found is None:
        return "-", "-"
    low, high = found["quartiles"]
    return f"{found['median']:{form}}", f"{low:{form}}-{high:{form}}"


def aligned(rows: list[tuple], left: int = 2) -> list[str]:
    """Columns of equal width; the first ones, which are names, to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(
                zip(row, widths, strict=True)
            )
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def write(name: str, found: dict, text: str, folder: Path) -> None:
    """Writes `<name>.json` and `<name>.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(found, indent=2) + "\n"
    (folder / f"{name}.json").write_text(as_json)
    (folder / f"{name}.txt").write_text(text + "\n")
