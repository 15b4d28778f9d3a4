"""The time that counting visits and the callbacks add to a `fit` step.

Three kinds of epochs take turns in one process, so that all see the same
machine:

    plain      a model that does not count, without callbacks
    counted    the same model, and its layer counts the visits of its leaves
    callbacks  that model, with `GateEntropy` and `PathUtilization`
"""

import argparse

import numpy as np

from benchmarks import frameworks
from benchmarks.harness import models, options, plots, tables
from benchmarks.harness.benchmark import CaseBenchmark
from benchmarks.harness.models import Case
from keras_treegate import callbacks

KINDS = ("plain", "counted", "callbacks")
SECONDS = 1.0  # of an epoch, about
MIN_STEPS, MAX_STEPS = 8, 512  # in an epoch

LEGEND = """\
plain      ms of a `fit` step of a model that does not count visits
counted    its layer counts the visits of its leaves: median over rounds of the
           time over that of `plain` in the same round, and quartiles
callbacks  and `GateEntropy` and `PathUtilization` read them at the end of the
           epoch, likewise
"""


def measure(case: Case, given: argparse.Namespace) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    plain = models.build_for_fit(case, count_visits=False)
    counted = models.build_for_fit(case, count_visits=True)
    by_kind = {"plain": plain, "counted": counted, "callbacks": counted}

    def seconds_of(kind: str, steps: int, epochs: int = 1) -> list[float]:
        inputs, goals = models.draw_for_fit(case, steps)
        data = {"x": inputs, "y": goals, "batch_size": case.batch}
        both = (callbacks.GateEntropy(), callbacks.PathUtilization())
        return models.epoch_seconds(
            by_kind[kind], data, epochs, both if kind == "callbacks" else ()
        )

    steps = given.steps or models.affordable_steps(
        lambda steps: seconds_of("plain", steps, 2),
        *(SECONDS, MIN_STEPS, MAX_STEPS),
    )
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(given.rounds + 1):  # the first one compiles
        # Each kind is as often first, second and last.
        for place in range(len(KINDS)):
            kind = KINDS[(turn + place) % len(KINDS)]
            seconds[kind] += seconds_of(kind, steps)
    times = {kind: np.array(seconds[kind][1:]) for kind in KINDS}
    over_plain = {
        kind: tables.spread(times[kind] / times["plain"]) for kind in KINDS[1:]
    }
    return case._asdict() | {
        "rounds": given.rounds,
        "steps": steps,
        "ms": {
            kind: float(np.median(of_kind) / steps * 1e3)
            for kind, of_kind in times.items()
        },
        "over_plain": over_plain,
        "callbacks_over_counted": tables.spread(
            times["callbacks"] / times["counted"]
        ),
        **frameworks.about(),
    }


def panels(rows: list[dict]) -> list[plots.Panel]:
    """Returns one for each backend: ratios to a plain step, by depth."""
    axes = plots.Axes(
        *("depth", "ratio", "depth of the trees"),
        "time of a fit step over a plain one",
        by="kind",
    )
    kinds = [
        row | {"kind": kind, "ratio": ratio}
        for row in rows
        for kind, ratio in row["over_plain"].items()
    ]
    return plots.panels(kinds, axes)


def _ratio(row: dict, kind: str) -> str:
    return tables.spread_text(row["over_plain"][kind], ".3f")


BENCHMARK = CaseBenchmark(
    name="callbacks",
    help="what counting visits and the callbacks add to a `fit` step",
    options=options.BACKENDS
    | options.sizes(
        depths=[4, 10],
        batch=256,
        units=64,
        trees=64,
        rounds=9,
        steps=None,
    ),
    cases=models.cases_for_fit,
    measure=measure,
    summary=lambda row: f"{_ratio(row, 'callbacks')} of plain",
    columns={
        "backend": "backend",
        "depth": "depth",
        "steps": "steps",
        "plain": lambda row: f"{row['ms']['plain']:.2f}",
        "counted": lambda row: _ratio(row, "counted"),
        "callbacks": lambda row: _ratio(row, "callbacks"),
    },
    legend=LEGEND,
    panels=panels,
)
