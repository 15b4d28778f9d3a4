"""Compares credit assignments by what they cost and bring.

A network reads 16 bytes of the Python standard library's own source and
predicts the next one. Its hidden layer is a `TreeGatedDense` whose gates are
read from what a LayerNormalization makes of the units before their ReLU; the
three credit assignments train it for equally many steps.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import models, options, process, tables
from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.tables import find
from keras_treegate import credit
from keras_treegate.core import routing_metrics
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from tutorials.tfds_builders import source_text

CREDITS: dict[str, Callable] = {
    "straight": lambda seed: credit.Straight(),
    "reinforce": lambda seed: credit.Reinforce(seed=seed),
    "noisy_rectifier": lambda seed: credit.NoisyRectifier(seed=seed),
}
CONTEXT = 16  # bytes
EMBEDDING = 32
VALIDATION_BATCHES = 32
ROUNDS = 5  # of timed epochs, after one that is not
TIMED_STEPS = 8  # in each

LEGEND = """\
ms        time of a `fit` step of the whole network, median of epochs in turns
ratio     over that of straight, median over the turns
bits      per byte of held-out files, mean over the seeds and their spread
entropy   of the leaves that validation visits, over its maximum
used      the fraction of leaves that validation visits
"""


class Study(NamedTuple):
    """The sizes of the network and of its training."""

    seeds: list[int]
    steps: int
    hidden: int
    depth: int
    trees: int
    batch: int


def measure(study: Study) -> dict:
    """Returns the costs of a step, and a row for each credit and seed."""
    training, validation = source_text.read().texts
    costs = step_costs(study, training)
    rows = []
    for seed in study.seeds:
        for name in CREDITS:
            model = build_model(study, name, seed)
            windows = Windows(training, study.batch, study.steps, seed)
            model.fit(windows, verbose=0)
            row = {"credit": name, "seed": seed}
            rows.append(row | evaluate(model, validation, study))
            print(rows[-1], file=sys.stderr, flush=True)
    found = {"study": study._asdict(), "costs": costs, "rows": rows}
    return found | frameworks.about()


class Windows(keras.utils.PyDataset):
    """Random windows of a text, and the byte that comes next."""

    def __init__(
        self, text: np.ndarray, batch: int, steps: int, seed: int
    ) -> None:
        super().__init__()
        self.text, self.batch, self.steps, self.seed = text, batch, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng([self.seed, index])
        starts = draw.integers(len(self.text) - CONTEXT - 1, size=self.batch)
        windows = self.text[starts[:, None] + np.arange(CONTEXT + 1)]
        return windows[:, :-1].astype("int32"), windows[:, -1].astype("int32")


def build_model(study: Study, name: str, seed: int) -> keras.Model:
    """Builds the network with a credit assignment, compiled."""
    keras.utils.set_random_seed(seed)
    context = keras.Input((CONTEXT,), dtype="int32")
    x = keras.layers.Embedding(256, EMBEDDING)(context)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(study.hidden)(x)
    gates = keras.layers.LayerNormalization()(x)
    x = keras.layers.ReLU()(gates)
    x = TreeGatedDense(
        study.hidden,
        depth=study.depth,
        num_trees=study.trees,
        credit=CREDITS[name](seed),
        seed=seed,
        name="tree",
    )(x, gate_inputs=gates)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.ReLU()(x)
    model = keras.Model(context, keras.layers.Dense(256)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, study.steps)
    model.compile(keras.optimizers.Adam(rate), ReinforceLoss(loss))
    return model


def evaluate(model: keras.Model, text: np.ndarray, study: Study) -> dict:
    """Returns bits per byte, and how evenly the leaves of trees are used."""
    batches = Windows(text, study.batch, VALIDATION_BATCHES, 0)
    nats = model.evaluate(batches, verbose=0)
    tree = model.get_layer("tree")
    # The tensors that the layer was called with, the inputs and the gates.
    relu = next(x for x in model.layers if isinstance(x, keras.layers.ReLU))
    routes = keras.Model(model.input, [relu.output, relu.input])
    codes = [
        keras.ops.convert_to_numpy(
            tree.leaf_codes(*routes.predict_on_batch(batches[index][0]))
        )
        for index in range(VALIDATION_BATCHES)
    ]
    return {"bits_per_byte": float(nats / np.log(2))} | leaf_use(
        np.concatenate(codes), study.depth
    )


def leaf_use(codes: np.ndarray, depth: int) -> dict:
    """Returns entropy over its maximum, and leaves used, of codes (N, G)."""
    leaves = 2**depth
    visits = np.stack([np.bincount(tree, minlength=leaves) for tree in codes.T])
    entropies = routing_metrics.gate_entropies(visits)
    utilizations = routing_metrics.path_utilizations(visits)
    return {
        "gate_entropy": float(entropies.mean()),
        "path_utilization": float(utilizations.mean()),
    }


def step_costs(study: Study, text: np.ndarray) -> list[dict]:
    """Returns the time of a step of each, in turns, over that of `straight`."""
    seed = study.seeds[0]
    by_name = {name: build_model(study, name, seed) for name in CREDITS}
    seconds: dict[str, list] = {name: [] for name in CREDITS}
    for _ in range(ROUNDS + 1):
        for name, model in by_name.items():
            windows = Windows(text, study.batch, TIMED_STEPS, 0)
            seconds[name] += models.epoch_seconds(model, {"x": windows})
    ms = {
        name: np.array(values[1:]) / TIMED_STEPS * 1e3
        for name, values in seconds.items()
    }
    return [
        {
            "credit": name,
            "ms": float(np.median(values)),
            "ratio": float(np.median(values / ms["straight"])),
        }
        for name, values in ms.items()
    ]


def _bits(cost: dict) -> str:
    bits = np.array([row["bits_per_byte"] for row in cost["rows"]])
    return f"{bits.mean():.3f} ({bits.min():.3f} to {bits.max():.3f})"


def _mean(cost: dict, name: str) -> str:
    return f"{np.mean([row[name] for row in cost['rows']]):.2f}"


COLUMNS: tables.Columns = {
    "credit": "credit",
    "ms": lambda cost: f"{cost['ms']:.1f}",
    "ratio": lambda cost: f"{cost['ratio']:.2f}",
    "bits": _bits,
    "entropy": lambda cost: _mean(cost, "gate_entropy"),
    "used": lambda cost: _mean(cost, "path_utilization"),
}
SIZES = (
    "{backend}: {steps} steps of {batch}, hidden {hidden}, depth {depth}, "
    "{trees} trees, seeds {seeds}"
)


def lines(studies: list[dict]) -> list[str]:
    """Returns what was found, for people."""
    text = []
    for study in studies:
        costs = [
            cost | {"rows": find(study["rows"], credit=cost["credit"])}
            for cost in study["costs"]
        ]
        sizes = SIZES.format(backend=study["backend"], **study["study"])
        text += [sizes, "", *tables.table(COLUMNS, costs), ""]
    return [*text, LEGEND]


class CreditBenchmark(Benchmark):
    """Studies the credit assignments on each backend, in its own process."""

    def check(self, given: argparse.Namespace) -> None:
        options.check_backends(given.backend)

    def run(self, given: argparse.Namespace, command: str) -> int:
        study = Study(*(getattr(given, field) for field in Study._fields))
        name = f"{len(study.seeds)} seeds"
        studies, failures = process.measure_each(
            [
                (backend, name, partial(measure, study))
                for backend in dict.fromkeys(given.backend)
            ],
            lambda row: "done",
        )
        found = tables.about(command, studies)
        found |= {"studies": studies, "failures": failures}
        text = lines(studies)
        return tables.publish(self.name, found, text, None, given.output)


BENCHMARK = CreditBenchmark(
    name="credit",
    help="what credit assignments cost, and what they bring",
    options=options.BACKENDS
    | options.option(
        *("seeds", "of a run each"), nargs="+", type=int, default=[0, 1, 2]
    )
    | options.sizes(
        {"steps": "of training", "hidden": "units"}, steps=3000, hidden=256
    )
    | options.sizes(depth=4, trees=64, batch=512),
)
