"""The limit that the machine sets, and the figures that are asked for."""

from typing import Any, NamedTuple

from benchmarks.harness import tables

# The one definition of "limit", for all benchmarks.
LIMIT_LEGEND = """\
touched the distinct rows of all levels that a step needs, in MB
limit   moved bytes per second, over those of a plain copy on one thread, or on
        the accelerator, which count as read and as written. A forward pass
        reads the touched bytes. A step moves touched * (3 + 2 * slots) bytes:
        the layer reads a touched row, the optimizer reads and writes it and
        each of its slots
"""


def moves_of_a_row(optimizer: Any) -> int:
    """Counts how often a step reads or writes a touched row or its slots.

    The layer reads the row; a step-aware optimizer reads and writes the row and
    each of its slots.
    """
    return 3 + 2 * len(optimizer.slot_kinds())


def limit(moved_bytes: float, milliseconds: float, bandwidth: float) -> float:
    """Returns the share of the copy's bandwidth that a step reaches.

    Args:
        moved_bytes: touched bytes times `moves_of_a_row`.
        milliseconds: of the step.
        bandwidth: bytes per second of a copy, read and written.
    """
    return moved_bytes / (milliseconds / 1e3) / bandwidth


def _percent(limit: dict | None) -> str:
    return "-" if limit is None else f"{limit['median']:.1%}"


LIMIT_COLUMN: tables.Columns = {
    "limit (moved/copy)": lambda row: _percent(row["limit"])
}


class Target(NamedTuple):
    """A bound for a figure of some rows.

    name: what is asked for, in words.
    sizes: the columns of the rows that it is for.
    of, over: the names of those whose times are divided; without `over`, the
        figure is the limit.
    at_most, at_least: the bound; one of them.
    """

    name: str
    sizes: dict[str, Any]
    of: str
    over: str = ""
    at_most: float | None = None
    at_least: float | None = None


def _square(work: str, batch: int, units: int, depth: int) -> dict[str, Any]:
    return {"work": work, "batch": batch, "units": units, "depth": depth}


ONE = _square("forward", batch=1, units=512, depth=8)
FORWARD = _square("forward", batch=1024, units=256, depth=4)
GRADIENTS = FORWARD | {"work": "gradients"}
STEP = {"work": "step", "units": 64, "depth": 12}
FFF = "fastfeedforward"
TARGETS = {
    "inference": (
        Target("folded over Dense", ONE, "folded", "dense", at_most=1.3),
        Target("folded over Dense", FORWARD, "folded", "dense", at_most=4.0),
    ),
    "training": (
        Target("tree over Dense", GRADIENTS, "tree", "dense", at_most=10.0),
        Target("naive over tree", GRADIENTS, "naive", "tree", at_least=10.0),
        # A quarter of the speed at which a copy gets through rows; but a step
        # moves each three times, a copy twice.
        Target("limit", STEP, "tree StepAwareSGD", at_least=0.375),
    ),
    "peers": (
        Target(
            "fastfeedforward over tree",
            {"work": "step", "depth": 10},
            FFF,
            "tree",
            at_least=20.0,
        ),
        Target(
            "fastfeedforward over folded",
            {"work": "forward", "depth": 10},
            FFF,
            "folded",
            at_least=5.0,
        ),
    ),
}


def reached(benchmark: str, rows: list[dict], engine: str) -> list[dict]:
    """Tells how far the targets of a benchmark got, where measured."""
    found = []
    for target in TARGETS.get(benchmark, ()):
        mine = tables.find(rows, name=target.of, **target.sizes)
        other = tables.find(rows, name=target.over, **target.sizes)
        if mine and not target.over:
            found.append(judge(target, engine, mine[0]["limit"]))
        elif mine and other:
            figure = tables.ratio(mine[0], other[0])
            found.append(judge(target, engine, figure))
    return found


def judge(target: Target, engine: str, figure: dict) -> dict:
    """Returns the target, what was reached, and the factor between the two.

    A factor of 1 or more is what was asked for, or better.
    """
    if target.at_most is not None:
        factor = target.at_most / figure["median"]
    else:
        factor = figure["median"] / (target.at_least or 1)
    return target._asdict() | {
        "engine": engine,
        "reached": figure,
        "factor": factor,
        "met": factor >= 1,
    }


def lines(found: list[dict]) -> list[str]:
    """Returns the section of a report; empty where no target was measured."""
    if not found:
        return []
    text = ["", "targets (the factor is 1 or more where one is met)"]
    for one in found:
        least = one["at_most"] is None
        bound = one["at_least"] if least else one["at_most"]
        sizes = [f"{name} {size}" for name, size in one["sizes"].items()]
        text.append(
            f"  {'met ' if one['met'] else 'open'} {one['engine']}: "
            f"{one['name']}, {', '.join(sizes)}: "
            f"{tables.spread_text(one['reached'])}, asked for at "
            f"{'least' if least else 'most'} {bound:g}, "
            f"factor {one['factor']:.2f}"
        )
    return text
