"""The worth of upcycling and growing, against training without them.

KERAS_BACKEND=jax python -m benchmarks transforms
"""

import argparse
import itertools
import math
import statistics

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import options, tables
from benchmarks.harness.benchmark import Benchmark
from benchmarks.quality import tasks
from keras_treegate import grow, layers, optimizers, upcycle
from keras_treegate.gates import SignGate

SCHEDULES = ((0,), (6,), (0, 2, 4, 6))
# The width at which a Dense network runs out of parameters on the digits.
DIGITS_WIDTH = 16


def normalized(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a hidden layer with what follows each of them."""
    return [layer, keras.layers.LayerNormalization(), keras.layers.ReLU()]


def digits(seed: int, steps: int) -> dict:
    """Returns the held-out accuracy of Dense, trained on as is and upcycled."""
    task = tasks.load("digits", seed, 2 * steps)
    first, second = parts(task, 2)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(task.train[0].shape[1:]),
            *normalized(keras.layers.Dense(DIGITS_WIDTH, name="hidden")),
            keras.layers.Dense(task.classes),
        ]
    )

    def accuracy(model: keras.Model, examples: tuple) -> float:
        fit(model, task, examples)
        return model.evaluate(*task.validation, batch_size=512, verbose=0)[1]

    before = accuracy(model, first)
    trees = upcycle(
        model, depth=4, layers="hidden", calibrate=first[0], seed=seed
    )
    return {
        "seed": seed,
        "steps": steps,
        "before": before,
        "upcycled": accuracy(trees, second),
        "dense": accuracy(model, second),  # last, for it changes the model
    }


def grown(seed: int, steps: int, units: int, schedule: tuple) -> dict:
    """Returns the bits per byte where trees have these depths in turn."""
    steps = steps // len(schedule) * len(schedule)
    task = tasks.load("bytes", seed, steps)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(task.train[0].shape[1:], dtype="uint8"),
            keras.layers.Embedding(task.classes, 16),
            keras.layers.Flatten(),
            *normalized(keras.layers.Dense(units)),
            *normalized(
                layers.TreeGatedDense(
                    units,
                    depth=schedule[0],
                    num_trees=min(64, units),
                    gate=SignGate(threshold="running_mean", seed=seed),
                )
            ),
            keras.layers.Dense(task.classes),
        ]
    )
    schedule_parts = parts(task, len(schedule))
    for depth, examples in zip(schedule, schedule_parts, strict=True):
        if depth != schedule[0]:
            sample = examples[0][:1024]
            model = grow(model, depth, calibrate=sample, seed=seed)
        fit(model, task, examples)
    loss, _ = model.evaluate(*task.validation, batch_size=512, verbose=0)
    return {
        "seed": seed,
        "depths": schedule,
        "steps": steps,
        "units": units,
        "bits_per_byte": loss / math.log(2),
    }


def parts(task: tasks.Task, number: int) -> list[tuple]:
    """Returns the training examples in order, in parts of as many batches."""
    # `load` gives whole batches.
    x, y = (np.split(array, number) for array in task.train)
    return list(zip(x, y, strict=True))


def fit(model: keras.Model, task: tasks.Task, examples: tuple) -> None:
    """Makes one pass; a model that is compiled keeps its optimizer."""
    if not model.compiled:
        model.compile(
            optimizers.StepAwareAdam(task.learning_rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    model.fit(*examples, batch_size=task.batch, shuffle=False, verbose=0)


def _bits(row: dict) -> str:
    return f"{row['bits_per_byte']:.3f}"


def _mean(rows: list[dict]) -> dict:
    """Returns the means of what was measured, with the sizes of the first."""
    measured = {"before", "dense", "upcycled", "bits_per_byte"} & rows[0].keys()
    means = {
        name: statistics.mean(row[name] for row in rows) for name in measured
    }
    return rows[0] | means


DIGITS_COLUMNS: tables.Columns = {
    "digits, seed": "seed",
    "before": lambda row: f"{row['before']:.3f}",
    "Dense on": lambda row: f"{row['dense']:.3f}",
    "upcycled": lambda row: f"{row['upcycled']:.3f}",
}
BYTES_COLUMNS: tables.Columns = {
    "bytes, depths": lambda rows: ", ".join(map(str, rows[0]["depths"])),
    "steps": lambda rows: rows[0]["steps"],
    "bits per byte, by seed": lambda rows: " ".join(map(_bits, rows)),
    "mean": lambda rows: _bits(_mean(rows)),
}


def lines(found: dict) -> list[str]:
    """Returns the results as tables."""
    text = []
    if rows := found.get("digits"):
        rows = [*rows, _mean(rows) | {"seed": "mean"}]
        text += [*tables.table(DIGITS_COLUMNS, rows), ""]
    if rows := found.get("bytes"):
        groups = [tables.find(rows, depths=depths) for depths in SCHEDULES]
        text += tables.table(BYTES_COLUMNS, groups)
    return text


class TransformsBenchmark(Benchmark):
    """Trains models that are transformed between two parts of training."""

    def check(self, given: argparse.Namespace) -> None:
        for study in given.studies:
            tasks.load(study, 0, 1)

    def run(self, given: argparse.Namespace, command: str) -> int:
        found = tables.about(command, [frameworks.about()])
        seeds = range(given.seeds)
        if "digits" in given.studies:
            steps = given.digits_steps
            found["digits"] = [digits(seed, steps) for seed in seeds]
        if "bytes" in given.studies:
            found["bytes"] = [
                grown(seed, given.steps, given.units, depths)
                for depths, seed in itertools.product(SCHEDULES, seeds)
            ]
        text = lines(found)
        return tables.publish(self.name, found, text, None, given.output)


BENCHMARK = TransformsBenchmark(
    name="transforms",
    help="accuracy of upcycled digits models, bits per byte of grown ones",
    options=options.choices("studies", ("digits", "bytes"), "what to learn")
    | options.sizes(
        {
            "seeds": "of a run each",
            "digits-steps": "steps before upcycling, and as many after",
            "steps": "of the bytes, in all",
            "units": "hidden units of the bytes",
        },
        **{"seeds": 3, "digits-steps": 800, "steps": 2000, "units": 128},
    ),
)
