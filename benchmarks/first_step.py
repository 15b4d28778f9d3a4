"""The wait before the first step, and the steps after it, by layers."""

import argparse
import itertools
import time
from collections.abc import Iterator

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import models, options, tables
from benchmarks.harness.benchmark import CaseBenchmark, Finding
from benchmarks.harness.models import Case
from benchmarks.harness.tables import find, number

BASE = "dense"
SECONDS = 2.0  # of timed steps, about
MAX_STEPS = 256  # in an epoch

LEGEND = """\
fit     processor seconds to the end of the first `fit` step, with tracing and
        compilation; the model is built and compiled before
predict processor seconds of the first `predict`, after that step
ms      time of a later `fit` step: median over epochs, and quartiles
"""


def cases(given: argparse.Namespace) -> Iterator[tuple[str, Case]]:
    """Yields Dense layers, and trees of each depth, for each backend."""
    kinds = [(BASE, 0, "all")]
    kinds += [
        ("tree", depth, levels)
        for depth, levels in itertools.product(
            sorted(set(given.depths)), dict.fromkeys(given.levels)
        )
    ]
    for backend, layers, (model, depth, levels) in itertools.product(
        dict.fromkeys(given.backend), sorted(set(given.layers)), kinds
    ):
        name = f"{layers} layers, {model}"
        if model != BASE:
            name += f" of depth {depth}, levels {levels}"
        sizes = {"depth": depth, "levels": levels, "layers": layers}
        case = Case.of(given, name, model=model, **sizes)
        yield backend, case._replace(optimizer=given.optimizer)


def build(case: Case) -> keras.Model:
    """Builds the layers in a row, compiled; nothing is traced yet."""
    layers = [models.build_layer(case) for _ in range(case.layers)]
    inputs = keras.Input((case.units,), batch_size=case.batch)
    model = keras.Sequential([inputs, *layers])
    optimizer = "Adam" if case.model == BASE else case.optimizer
    model.compile(models.build_optimizer(optimizer), "mse")
    return model


def measure(case: Case, given: argparse.Namespace) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    _warm_up()
    model = build(case)
    x, y = models.draw_for_fit(case, 1)
    start = time.process_time()
    model.fit(x, y, batch_size=case.batch, verbose=0)
    fit = time.process_time() - start
    start = time.process_time()
    model.predict(x, batch_size=case.batch, verbose=0)
    predict = time.process_time() - start
    steps, ms = models.step_ms(
        models.fit_seconds(model, case), given.steps, SECONDS, MAX_STEPS
    )
    return case._asdict() | {
        "fit_seconds": fit,
        "predict_seconds": predict,
        "steps": steps,
        "ms": tables.spread(ms),
        **frameworks.about(),
    }


def _warm_up() -> None:
    """Fits a model, so that what a framework does once is not counted."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.zeros((2, 2), "float32")
    model.fit(x, x[:, :1], verbose=0)
    model.predict(x, verbose=0)


def ratios(rows: list[dict]) -> list[dict]:
    """Returns what trees take over what as many Dense layers do."""
    found = []
    for row in find(rows, model="tree"):
        same = {name: row[name] for name in ("backend", "layers")}
        for base in find(rows, model=BASE, **same):
            over = {
                f"{name}_over": row[key] / max(base[key], 1e-9)
                for name, key in (
                    ("fit", "fit_seconds"),
                    ("predict", "predict_seconds"),
                )
            }
            over["ms_over"] = row["ms"]["median"] / base["ms"]["median"]
            depth = {name: row[name] for name in ("depth", "levels")}
            found.append(same | depth | over)
    return found


BENCHMARK = CaseBenchmark(
    name="first-step",
    help="the wait before the first step, and the time of a step, by layers",
    options=options.BACKENDS
    | options.sizes(
        {**options.HELPS, "layers": "layers in a row"},
        layers=[1, 4, 12],
        depths=[4, 8, 12],
        batch=128,
        units=64,
        trees=64,
        steps=None,
    )
    | options.choices("levels", ("all", "ends"), "which levels store nodes")
    | options.option(
        *("optimizer", "of the trees; Dense layers have Keras's Adam"),
        choices=models.STEP_AWARE,
        default="StepAwareAdam",
    ),
    cases=cases,
    measure=measure,
    summary=lambda row: f"first step {row['fit_seconds']:.1f} s",
    columns={
        "backend": "backend",
        "layers": "layers",
        "kind": "model",
        "depth": "depth",
        "levels": "levels",
        "fit s": lambda row: number(row["fit_seconds"], ".2f"),
        "predict s": lambda row: number(row["predict_seconds"], ".2f"),
        "ms": lambda row: tables.spread_text(row["ms"], ".2f"),
    },
    legend=LEGEND,
    findings={
        "ratios": Finding(
            ratios,
            "{backend}, {layers} layers of depth {depth}, levels {levels}: "
            "first fit step {fit_over:.1f}, first predict {predict_over:.1f}, "
            "later fit steps {ms_over:.1f} times Dense",
        )
    },
)
