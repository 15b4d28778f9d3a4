"""What the layer should reach, and how far a run got."""

from typing import Any, NamedTuple

from benchmarks.harness.rounds import ratio
from benchmarks.harness.tables import find


class Target(NamedTuple):
    """A bound for a figure of one setting.

    name: what is asked for, in words.
    bound: the figure to reach.
    at_most: whether the figure may be at most the bound, or at least.
    sizes: the columns of the rows that it is for.
    of, over: the contestants whose times are divided.
    """

    name: str
    bound: float
    at_most: bool
    sizes: dict[str, Any]
    of: str
    over: str


def _sizes(work: str, batch: int, units: int, depth: int) -> dict[str, Any]:
    return {
        "work": work,
        "batch": batch,
        "inputs": units,
        "units": units,
        "depth": depth,
    }


INFERENCE = (
    Target(
        "folded over Dense: batch 1, 512 units, depth 8",
        *(1.3, True, _sizes("forward", 1, 512, 8), "folded", "dense"),
    ),
    Target(
        "folded over Dense: batch 1024, 256 units, depth 4",
        *(4.0, True, _sizes("forward", 1024, 256, 4), "folded", "dense"),
    ),
)
TRAINING = (
    Target(
        "forward and backward over Dense: batch 1024, 256 units, depth 4",
        *(10.0, True, _sizes("gradients", 1024, 256, 4), "tree", "dense"),
    ),
    Target(
        "naive over the layer, forward and backward: the same sizes",
        *(10.0, False, _sizes("gradients", 1024, 256, 4), "naive", "tree"),
    ),
)
# This one is no ratio of times, see `limit`.
LIMIT = Target(
    "touched bytes in a StepAwareSGD step over a copy: 64 units, depth 12",
    *(0.25, False, {"inputs": 64, "units": 64, "depth": 12}),
    *("tree StepAwareSGD", ""),
)
PEERS = (
    Target(
        "fastfeedforward over the layer, a training step: 2^10 leaves",
        *(20.0, False, {"work": "step", "depth": 10}),
        *("fastfeedforward", "tree"),
    ),
    Target(
        "fastfeedforward over the layer, inference: 2^10 leaves",
        *(5.0, False, {"work": "forward", "depth": 10}),
        *("fastfeedforward", "folded"),
    ),
)


def of_times(
    targets: tuple[Target, ...], rows: list[dict], engine: str
) -> list[dict]:
    """How far the ratios of times got, where both were measured."""
    found = []
    for target in targets:
        mine = find(rows, name=target.of, **target.sizes)
        other = find(rows, name=target.over, **target.sizes)
        if mine and other:
            reached = ratio(mine[0], other[0])
            found.append(_judged(target, engine, reached))
    return found


def of_limit(rows: list[dict], engine: str) -> list[dict]:
    """How far the share of the limit got."""
    return [
        _judged(LIMIT, engine, row["limit"])
        for row in find(rows, name=LIMIT.of, **LIMIT.sizes)
        if row["limit"] is not None
    ]


def _judged(target: Target, engine: str, reached: dict) -> dict:
    """The target, what was reached, and the factor between the two.

    A factor of 1 or more is what was asked for, or better.
    """
    median = reached["median"]
    factor = target.bound / median if target.at_most else median / target.bound
    return {
        "target": target.name,
        "engine": engine,
        "bound": target.bound,
        "at_most": target.at_most,
        "reached": reached,
        "factor": factor,
        "met": factor >= 1,
    }


def lines(found: list[dict]) -> list[str]:
    """The section of a report; empty where no target's sizes were measured."""
    if not found:
        return []
    told = ["", "targets (the factor is 1 or more where one is met)"]
    for one in found:
        low, high = one["reached"]["quartiles"]
        told.append(
            f"  {'met ' if one['met'] else 'open'} {one['engine']}: "
            f"{one['target']}: {one['reached']['median']:.3g} "
            f"({low:.3g}-{high:.3g}), asked for at "
            f"{'most' if one['at_most'] else 'least'} {one['bound']:g}, "
            f"factor {one['factor']:.2f}"
        )
    return told
