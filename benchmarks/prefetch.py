"""Rows in the memory of the host, fetched before a step or beside it.

The paths of a hash gate depend on tokens alone, so the rows of the next batch
are known while a step still runs. Here a network for bytes makes its steps,
with all rows in its own memory. The same rows of three tables on the host, as
Adam has them, are gathered and written back: between the steps, or by a thread
beside them. Steps run on the cores of the host, or a wait of their length
stands for a device that needs none of these.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import options, tables
from benchmarks.harness.benchmark import CaseBenchmark
from benchmarks.harness.models import Case
from benchmarks.harness.tables import number
from keras_treegate.gates import HashGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tutorials.tfds_builders import source_text

CONTEXT = 16  # bytes
TABLES = 3  # nodes and two slots
TURNS = 5
WAYS = "step", "fetch", "between", "beside", "elsewhere"

LEGEND = """\
rows       distinct leaves of a batch, and their MB in all three tables
common     of the rows of a batch, those that the one before had, too
step       milliseconds of a training step, with all rows in its memory
fetch      those to gather the rows and to write them back, by one thread
between    a step with the rows fetched before it and written after it
beside     a step with the rows of the next fetched beside it, and its own
           written beside the next, on the same cores; what two batches have in
           common goes from one to the other
elsewhere  the same, with a wait of the step's length in its place. As fast as
           can be: the larger of step and fetch
all        median over turns, and quartiles"""


class Host:
    """Tables of rows in the memory of the host."""

    def __init__(self, num_rows: int, row_size: int) -> None:
        self.tables = [
            np.zeros((num_rows, row_size), "float32") for _ in range(TABLES)
        ]

    def fetch(self, ids: np.ndarray) -> list[np.ndarray]:
        """Returns copies of some rows of all tables."""
        return [np.take(table, ids, axis=0) for table in self.tables]

    def write(self, ids: np.ndarray, rows: list[np.ndarray]) -> None:
        """Writes rows back."""
        for table, new in zip(self.tables, rows, strict=True):
            table[ids] = new


def between(
    host: Host, ids: list[np.ndarray], step: Callable[[int], object]
) -> None:
    """Makes steps, each with its rows fetched before and written after it."""
    for index, wanted in enumerate(ids):
        rows = host.fetch(wanted)
        step(index)
        updated(rows)
        host.write(wanted, rows)


def beside(
    host: Host, ids: list[np.ndarray], step: Callable[[int], object]
) -> None:
    """Makes the same steps, with rows fetched and written by a thread."""
    before = np.array([], ids[0].dtype)
    left = host.fetch(before)  # of the step before, and not on the host yet
    with ThreadPoolExecutor(1) as thread:
        fetched = thread.submit(host.fetch, ids[0])
        for index, wanted in enumerate(ids):
            rows = fetched.result()
            _, here, there = np.intersect1d(
                wanted, before, assume_unique=True, return_indices=True
            )
            for new, old in zip(rows, left, strict=True):
                new[here] = old[there]
            written = thread.submit(host.write, before, left)
            following = ids[min(index + 1, len(ids) - 1)]
            fetched = thread.submit(host.fetch, following)
            step(index)
            updated(rows)
            written.result()
            before, left = wanted, rows
    host.write(before, left)


def updated(rows: list[np.ndarray]) -> None:
    """Stands for the update that a device makes: counts the uses of a row."""
    for row in rows:
        row[:, 0] += 1


def build(case: Case) -> tuple[keras.Model, TreeGatedDense]:
    """Returns a network for bytes, and its layer of trees."""
    tokens = keras.Input((CONTEXT,), dtype="int32")
    z = keras.layers.Flatten()(keras.layers.Embedding(256, 32)(tokens))
    z = keras.layers.Dense(case.units, activation="relu")(z)
    trees = TreeGatedDense(
        case.units,
        depth=case.depth,
        num_trees=case.trees,
        levels=case.levels,
        gate=HashGate(orders=(2,), seed=0),
        activation="relu",
    )
    z = trees(z, gate_inputs=tokens)
    model = keras.Model(tokens, keras.layers.Dense(256)(z))
    model.compile(
        StepAwareAdam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model, trees


def measure(case: Case, given: argparse.Namespace) -> dict:
    """Returns the row of a case; the backend is that of this process."""
    model, trees = build(case)
    x, y = texts(case.batch * given.steps)
    batches = np.split(x, given.steps), np.split(y, given.steps)
    first = np.arange(case.trees) * 2**case.depth
    ids = [
        np.unique(keras.ops.convert_to_numpy(trees.gate(tokens)) + first)
        for tokens in batches[0]
    ]
    nodes = trees.nodes[-1].shape
    host = Host(nodes[0], nodes[1] * nodes[2])

    def step(index: int) -> object:
        return model.train_on_batch(batches[0][index], batches[1][index])

    def steps() -> None:
        for index in range(given.steps):
            step(index)

    def fetches() -> None:
        for wanted in ids:
            host.write(wanted, host.fetch(wanted))

    steps()  # compiles
    turns: dict[str, list[float]] = {}
    ways = {
        "step": steps,
        "fetch": fetches,
        "between": lambda: between(host, ids, step),
        "beside": lambda: beside(host, ids, step),
        "elsewhere": lambda: beside(
            host, ids, lambda _: time.sleep(turns["step"][-1])
        ),
    }
    turns.update({name: [] for name in ways})
    for _ in range(TURNS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            turns[name].append((time.perf_counter() - start) / given.steps)
    check(host, ids)
    rows = float(np.mean([len(wanted) for wanted in ids]))
    row_bytes = TABLES * nodes[1] * nodes[2] * 4
    found = {
        name: tables.spread([1e3 * turn for turn in of_way])
        for name, of_way in turns.items()
    }
    sizes = {"rows": rows, "fetched_bytes": rows * row_bytes}
    sizes["table_bytes"] = nodes[0] * row_bytes
    sizes["common"] = common_share(ids)
    return case._asdict() | sizes | found | frameworks.about()


def common_share(ids: list[np.ndarray]) -> float:
    """Returns the share of the rows of a batch that the one before had, too."""
    common = [len(np.intersect1d(*pair)) for pair in itertools.pairwise(ids)]
    return sum(common) / max(1, sum(map(len, ids[1:])))


def check(host: Host, ids: list[np.ndarray]) -> None:
    """Raises unless all ways, in all turns, counted each use of each row."""
    uses = np.zeros(len(host.tables[0]))
    for wanted in ids:
        uses[wanted] += 3 * TURNS
    for table in host.tables:
        np.testing.assert_array_equal(table[:, 0], uses)


def texts(examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws bytes of source text, and the byte that follows each."""
    text = source_text.read().texts[0]
    places = np.random.default_rng(0).integers(CONTEXT, len(text), examples)
    x = text[places[:, np.newaxis] + np.arange(-CONTEXT, 0)]
    return x.astype("int32"), text[places].astype("int32")


def cases(given: argparse.Namespace) -> Iterator[tuple[str, Case]]:
    """Yields trees of each depth, for each backend."""
    for backend in dict.fromkeys(given.backend):
        for depth in sorted(set(given.depths)):
            case = Case.of(given, f"depth {depth}", depth=depth, levels="ends")
            yield backend, case


def _ms(name: str) -> Callable[[dict], str]:
    return lambda row: tables.spread_text(row[name], ".1f")


BENCHMARK = CaseBenchmark(
    name="prefetch",
    help="rows in the memory of the host, fetched before a step or beside it",
    options=options.BACKENDS
    | options.sizes(
        depths=[10, 12, 14], batch=512, units=128, trees=16, steps=40
    ),
    cases=cases,
    measure=measure,
    summary=lambda row: (
        f"beside a wait {tables.spread_text(row['elsewhere'])} ms"
    ),
    columns={
        "backend": "backend",
        "depth": "depth",
        "table MB": lambda row: number(row["table_bytes"], ".0f", 1e6),
        "rows": lambda row: number(row["rows"], ".0f"),
        "MB": lambda row: number(row["fetched_bytes"], ".1f", 1e6),
        "common": lambda row: number(row["common"], ".0%"),
        **{name: _ms(name) for name in WAYS},
    },
    legend=LEGEND,
)
