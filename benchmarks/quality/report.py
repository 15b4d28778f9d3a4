"""The results of `quality`: means over seeds, a table, JSON."""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.quality.networks import Case

LEGEND = """\
bits      of the held-out labels, given the inputs: mean and sample standard
          deviation over the seeds (- for one seed)
rate      the learning rate that was best for the first seed, of those tried
tried     how many learning rates were
at 1      bits at the learning rate of the task, the same for all: mean, and
          deviation over the seeds that were trained at it
params    numbers that are trained
work      multiply-adds per example, with the additions along the paths
folded    the same with the sums of all paths stored
The best rate is that of the lowest bits of the held-out labels, and that very
seed counts in the mean: this flatters, and more so the more were tried.
"""
HEADINGS = (
    *("bits", "+-", "rate", "tried", "at 1", "+-"),
    *("accuracy", "params", "work", "folded", "seeds"),
)


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


def best_rate(rows: list[dict], case: Case, steps: int) -> float | None:
    """The rate with the lowest bits for the first seed, if there is a row."""
    wanted = case._asdict() | {"steps": steps, "seed": 0}
    del wanted["rate"]
    bits = {
        row["rate"]: row["bits"]
        for row in rows
        if all(row[name] == value for name, value in wanted.items())
    }
    return min(bits, key=bits.__getitem__, default=None)


def best(rows: list[dict]) -> list[dict]:
    """Of the summary, each network at its best rate.

    With the bits and their spread `at_one`, the learning rate of the task, and
    the number of `rates` that were tried.
    """
    networks: dict[Any, dict] = {}
    for row in summary(rows):
        case = Case(*(row[field] for field in Case._fields))
        network = case._replace(rate=1.0), row["steps"]
        networks.setdefault(network, {})[case.rate] = row
    found = []
    for (case, steps), by_rate in networks.items():
        first = next(iter(by_rate.values()))
        at_one = by_rate.get(1.0, {})
        tried = {
            "at_one": at_one.get("bits"),
            "at_one_spread": at_one.get("bits_spread"),
            "rates": len(by_rate),
        }
        # The first seed may have been broken off, and another not.
        row = by_rate.get(best_rate(rows, case, steps), first)
        found.append(row | tried)
    return found


def text(found: dict) -> str:
    """The results for people, the best last."""
    versions = [f"{name} {v}" for name, v in found["versions"].items()]
    lines = [found["machine"], ", ".join(versions)]
    means = best(found["rows"])
    for task in found["data"]:
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
    template = "  ".join(
        [
            *("{:{}}", "{:>6} {:>6}", "{:>6} {:>5}", "{:>6} {:>6}"),
            *("{:>8}", "{:>11}", "{:>10}", "{:>9}", "{:>5}"),
        ]
    )
    lines = [template.format("network", width, *HEADINGS)]
    for row in means:
        lines.append(
            template.format(
                *(row["name"], width, f"{row['bits']:.3f}"),
                _or_dash(row["bits_spread"]),
                f"{row['learning_rate']:g}",
                row["rates"],
                _or_dash(row["at_one"]),
                _or_dash(row["at_one_spread"]),
                f"{row['accuracy']:.2%}",
                f"{row['parameters']:,}",
                f"{row['multiply_adds']:,}",
                f"{row['folded']:,}",
                len(row["seeds"]),
            )
        )
    return lines


def _or_dash(bits: float | None) -> str:
    return "-" if bits is None else f"{bits:.3f}"


def write(found: dict, folder: Path) -> None:
    """Writes `quality.json` and `quality.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = found | {"summary": summary(found["rows"])}
    as_json = json.dumps(found, indent=1) + "\n"
    (folder / "quality.json").write_text(as_json)
    (folder / "quality.txt").write_text(text(found) + "\n")
