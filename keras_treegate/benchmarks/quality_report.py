"""The results of `quality`: means over seeds, a table, JSON."""

import json
import statistics
from pathlib import Path
from typing import Any

from keras_treegate.benchmarks.quality import Case

LEGEND = """\
bits      of the held-out labels, given the inputs: mean and sample standard
          deviation over the seeds (- for one seed)
params    numbers that are trained
work      multiply-adds per example, with the additions along the paths
folded    the same with the sums of all paths stored
All are trained alike, at one learning rate: none has a search of its own.
"""
HEADINGS = ("bits", "+-", "accuracy", "params", "work", "folded", "seeds")


def summary(rows: list[dict]) -> list[dict]:
    """One row for each case and number of steps, in the order of `rows`."""
    groups: dict[Any, list[dict]] = {}
    for row in rows:
        key = (*(row[field] for field in Case._fields), row["steps"])
        groups.setdefault(key, []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: list[dict]) -> dict:
    bits = [row["bits"] for row in group]
    same = {
        name: value
        for name, value in group[0].items()
        if name not in ("seed", "bits", "accuracy", "seconds")
    }
    return same | {
        "seeds": sorted(row["seed"] for row in group),
        "bits": statistics.mean(bits),
        "bits_spread": statistics.stdev(bits) if len(bits) > 1 else None,
        "accuracy": statistics.mean(row["accuracy"] for row in group),
        "seconds": statistics.mean(row["seconds"] for row in group),
    }


def text(found: dict) -> str:
    """The results for people, the best last."""
    versions = [f"{name} {v}" for name, v in found["versions"].items()]
    lines = [found["machine"], ", ".join(versions)]
    means = summary(found["rows"])
    for task in dict.fromkeys(row["task"] for row in means):
        ours = [row for row in means if row["task"] == task]
        ours.sort(key=lambda row: -row["bits"])
        facts = [
            f"{name} {value}" for name, value in found["data"][task].items()
        ]
        lines += ["", f"{task}: {', '.join(facts)}", *_table(ours)]
    lines += ["", LEGEND]
    return "\n".join([*lines, *(f"Not done: {cut}" for cut in found["cut"])])


def _table(means: list[dict]) -> list[str]:
    width = max(len(row["name"]) for row in means)
    template = "{:{}}  {:>6} {:>6}  {:>8}  {:>11}  {:>10}  {:>9}  {:>5}"
    lines = [template.format("network", width, *HEADINGS)]
    for row in means:
        spread = row["bits_spread"]
        lines.append(
            template.format(
                *(row["name"], width, f"{row['bits']:.3f}"),
                "-" if spread is None else f"{spread:.3f}",
                f"{row['accuracy']:.2%}",
                f"{row['parameters']:,}",
                f"{row['multiply_adds']:,}",
                f"{row['folded']:,}",
                len(row["seeds"]),
            )
        )
    return lines


def write(found: dict, folder: Path) -> None:
    """Writes `quality.json` and `quality.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = found | {"summary": summary(found["rows"])}
    as_json = json.dumps(found, indent=1) + "\n"
    (folder / "quality.json").write_text(as_json)
    (folder / "quality.txt").write_text(text(found) + "\n")
