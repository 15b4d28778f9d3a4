"""The table, the files and the picture of contests."""

from pathlib import Path
from typing import Any

from benchmarks.harness import plots as curves
from benchmarks.harness import tables as output
from benchmarks.harness import targets
from benchmarks.harness.rounds import ratio

LEGEND = """\
ms      time of a call: median over the turns, and quartiles. A call is waited
        for. Contestants take turns in rounds; each brings batches of its own
over    its time over that of {base} in the same round: median, quartiles
params  numbers in all trainable weights
"""


def with_ratios(rows: list[dict], base: str) -> list[dict]:
    """The rows of one contest, each with its ratio to that of a name."""
    bases = output.find(rows, name=base)
    for row in rows:
        row["over"] = ratio(row, bases[0]) if bases else None
    return rows


def table(rows: list[dict], extra: dict[str, Any] | None = None) -> list[str]:
    """The rows as lines; `extra` has a function of a row for each heading."""
    extra = extra or {}
    headings = (
        *("backend", "contestant", "work", "units", "depth", "batch"),
        *("ms", "quartiles", "over", "quartiles", "params", *extra),
    )
    cells = [
        (
            *(row["engine"], row["name"], row["work"], str(row["units"])),
            *(str(row["depth"]), str(row["batch"])),
            *output.spread_text(row["ms"], ".4g"),
            *output.spread_text(row["over"]),
            f"{row['parameters']:,}",
            *(cell(row) for cell in extra.values()),
        )
        for row in rows
    ]
    return output.aligned([headings, *cells], left=3)


def text(found: dict, legend: str, extra: dict | None = None) -> str:
    """The results for people."""
    lines = output.heading(found)
    lines += [f"{name}: {where}" for name, where in found["devices"].items()]
    rows = found["rows"]
    if rows:
        lines += ["", *table(rows, extra), "", legend.rstrip()]
    lines += targets.lines(found["targets"])
    return "\n".join([*lines, *found["left_out"], *found["failures"]])


def about_hosts(told: dict[str, dict]) -> tuple[dict, dict]:
    """The versions and the devices of frameworks, from what workers told."""
    versions = {one["framework"]: one["version"] for one in told.values()}
    devices = {engine: one["device"] for engine, one in told.items()}
    return versions, devices


def publish(
    name: str,
    found: dict,
    folder: Path,
    told: str,
    panels: list[curves.Panel],
) -> int:
    """Prints and writes all; returns the exit status."""
    panels = [panel for panel in panels if panel.curves]
    print(f"\n{told}")
    output.write(name, found, told, folder)
    if panels:
        curves.draw(found["machine"], panels).savefig(
            folder / f"{name}.png", dpi=150
        )
    picture = " and .png" if panels else ", and no picture of nothing"
    print(f"\nWrote {folder / name}.json, .txt{picture}")
    return 1 if found["failures"] else 0
