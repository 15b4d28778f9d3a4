"""The time of a `fit` step of an embedding, by the rows of its table."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import (
    machine,
    models,
    options,
    plots,
    process,
    tables,
)
from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.tables import distinct, find, number
from keras_treegate.layers import SparseEmbedding
from keras_treegate.optimizers import StepAwareAdam

BACKENDS = ("jax", "torch", "tensorflow")

# Optimizers, and their backends: under TensorFlow Keras's own gradient is
# sparse; PyTorch's own optimizer runs in a loop of PyTorch, not in `fit`.
CONTESTANTS = {
    "StepAwareAdam": BACKENDS,
    "Adam": BACKENDS,
    "SparseAdam": ("torch",),
}
SECONDS = 8.0  # of timed steps, about
MAX_STEPS = 128  # in an epoch
DECAY = 0.01
TABLES = 3  # the embeddings and their two slots
BASE_ROWS = 10**5  # from where growth is told

AXES = plots.Axes(
    *("table_rows", "ms", "rows of the table", "time of a step [ms]"),
    by="contestant",
)

LEGEND = """\
StepAwareAdam  SparseEmbedding, with weight decay
Adam           keras.layers.Embedding and Keras's own Adam, without
SparseAdam     torch.nn.Embedding(sparse=True) in a loop of PyTorch, without
ms             time of a step: median over epochs, and quartiles
peak           main memory, from before the model is built to after the last
               step; tables: the embeddings and the two slots of each
"""

COLUMNS: tables.Columns = {
    "backend": "backend",
    "contestant": "contestant",
    "rows": lambda row: f"{row['table_rows']:,}",
    "ms": lambda row: tables.spread_text(row["ms"], ".2f"),
    "peak MB": lambda row: number(row["peak_bytes"], ".0f", 1e6),
    "tables MB": lambda row: number(row["table_bytes"], ".0f", 1e6),
}


class Case(NamedTuple):
    """A table of a size, and what trains it."""

    contestant: str
    table_rows: int
    units: int
    batch: int

    @property
    def table_bytes(self) -> int:
        """The bytes of the embeddings and their slots."""
        return TABLES * self.table_rows * self.units * 4

    def data(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws ids, any of which is as likely as another, and targets."""
        draw = np.random.default_rng(0)
        count = steps * self.batch
        ids = draw.integers(0, self.table_rows, (count, 1), "int32")
        targets = draw.standard_normal((count, 1, self.units), "float32")
        return ids, targets


@dataclass(frozen=True, kw_only=True)
class EmbeddingBenchmark(Benchmark):
    """Measures each size of a table, and each that trains it."""

    def check(self, given: argparse.Namespace) -> None:
        options.check_backends(given.backend)

    def run(self, given: argparse.Namespace, command: str) -> int:
        rows, failures = process.measure_each(
            measurements(given),
            lambda row: tables.spread_text(row["ms"]) + " ms",
        )
        found = tables.about(command, rows)
        found |= {"rows": rows, "ratios": ratios(rows), "failures": failures}
        figure = plots.draw(found["machine"], plots.panels(rows, AXES))
        text = lines(found)
        return tables.publish(self.name, found, text, figure, given.output)


def measurements(given: argparse.Namespace) -> Iterator[tuple]:
    """Yields what to measure; leaves out what would not fit into memory."""
    for backend in dict.fromkeys(given.backend):
        for rows in sorted(set(given.rows)):
            for contestant in dict.fromkeys(given.contestants):
                case = Case(contestant, rows, given.units, given.batch)
                free = machine.available_memory()
                # A dense step has a gradient as well, and what it computes.
                if free is not None and 2 * case.table_bytes > free:
                    print(f"{contestant}, {rows:,} rows: left out, too large")
                elif backend in CONTESTANTS[contestant]:
                    name = f"{contestant}, {rows:,} rows"
                    yield backend, name, partial(measure, case, given.steps)


def measure(case: Case, steps: int | None) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    memory = machine.peak_memory()
    make = _sparse_adam if case.contestant == "SparseAdam" else _fit
    seconds_of = make(case)
    steps, ms = models.step_ms(seconds_of, steps, SECONDS, MAX_STEPS)
    return case._asdict() | {
        "steps": steps,
        "ms": tables.spread(ms),
        "peak_bytes": machine.peak_memory() - memory,
        "table_bytes": case.table_bytes,
        **frameworks.about(),
    }


def _fit(case: Case) -> Any:
    """Returns a function that times epochs of a `fit` of so many steps."""
    # Written, because zeros that never were can share a page; not drawn at
    # random, which takes longer than the steps.
    initializer = keras.initializers.Constant(0.01)
    kind: Any = keras.layers.Embedding
    optimizer: Any = keras.optimizers.Adam()
    if case.contestant == "StepAwareAdam":
        kind, optimizer = SparseEmbedding, StepAwareAdam(weight_decay=DECAY)
    inputs = keras.Input((1,), batch_size=case.batch, dtype="int32")
    model = keras.Sequential(
        [inputs, kind(case.table_rows, case.units, initializer)]
    )
    model.compile(optimizer, "mse")

    def seconds_of(steps: int, epochs: int = 2) -> list[float]:
        data = frameworks.feed(*case.data(steps), case.batch)
        return models.epoch_seconds(model, data, epochs)

    return seconds_of


def _sparse_adam(case: Case) -> Any:
    """Returns the same for PyTorch's own layer and optimizer."""
    import torch

    layer = torch.nn.Embedding(case.table_rows, case.units, sparse=True)
    torch.nn.init.constant_(layer.weight, 0.01)
    optimizer = torch.optim.SparseAdam(layer.parameters())

    def seconds_of(steps: int, epochs: int = 2) -> list[float]:
        batches = [
            [torch.from_numpy(part) for part in parts]
            for parts in zip(
                *(np.split(array, steps) for array in case.data(steps)),
                strict=True,
            )
        ]
        seconds = []
        for _ in range(epochs):
            start = time.perf_counter()
            for ids, targets in batches:
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(layer(ids), targets).backward()
                optimizer.step()
            seconds.append(time.perf_counter() - start)
        return seconds

    return seconds_of


def ratios(rows: list[dict]) -> list[dict]:
    """Returns the growth of the time, and what others take, by backend."""
    found = []
    for backend in distinct(rows, "backend"):
        ours = find(rows, backend=backend, contestant="StepAwareAdam")
        base = find(ours, table_rows=BASE_ROWS) or ours[:1]
        for row in ours:
            ms = row["ms"]["median"]
            same = find(rows, backend=backend, table_rows=row["table_rows"])
            over = {x["contestant"]: x["ms"]["median"] / ms for x in same}
            found.append(
                {
                    "backend": backend,
                    "table_rows": row["table_rows"],
                    "base_rows": base[0]["table_rows"],
                    "growth": ms / base[0]["ms"]["median"],
                    "times": over,
                }
            )
    return found


def lines(found: dict) -> list[str]:
    """Returns the results for people."""
    rows = found["rows"]
    text = [*tables.table(COLUMNS, rows), "", LEGEND] if rows else []
    for one in found["ratios"]:
        others = ", ".join(
            f"{name} {times:.2f} times as long"
            for name, times in one["times"].items()
            if name != "StepAwareAdam"
        )
        text.append(
            f"{one['backend']} {one['table_rows']:,} rows: "
            f"{one['growth']:.2f} of the time at {one['base_rows']:,}; "
            f"{others or 'no other was measured'}"
        )
    return text


BENCHMARK = EmbeddingBenchmark(
    name="embedding",
    help="the cost of a step of a sparse embedding, by the rows of its table",
    options=options.BACKENDS
    | options.sizes(
        {**options.HELPS, "rows": "rows of the table", "units": "of a row"},
        rows=[10**4, 10**5, 10**6, 10**7],
        batch=4096,
        units=64,
        steps=None,
    )
    | options.choices("contestants", CONTESTANTS, "Adam is Keras's own"),
)
