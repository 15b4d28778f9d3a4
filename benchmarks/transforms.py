"""What upcycling and growing are worth, against training without them.

KERAS_BACKEND=jax python -m benchmarks transforms
"""

import argparse
import math
import statistics
from typing import Any

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.harness import options, tables
from benchmarks.quality import tasks
from keras_treegate import grow, layers, optimizers, upcycle
from keras_treegate.gates import SignGate

NAME = "transforms"
HELP = "accuracy of upcycled digits models, bits per byte of grown ones"
STUDIES = ("digits", "bytes")
SCHEDULES = ((0,), (6,), (0, 2, 4, 6))
# The width at which a Dense network runs out of parameters on the digits.
DIGITS_WIDTH = 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_choices(parser, "studies", STUDIES, "what to learn")
    for name, default, text in (
        ("seeds", 3, "of a run each"),
        ("digits-steps", 800, "steps before upcycling, and as many after"),
        ("steps", 2000, "of the bytes, in all"),
        ("units", 128, "hidden units of the bytes"),
    ):
        parser.add_argument(
            f"--{name}", type=options.positive, default=default, help=text
        )
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other things had been measured."""
    for study in given.studies:
        tasks.load(study, 0, 1)


def run(given: argparse.Namespace, command: str) -> int:
    """Trains all models, and prints and writes what was found."""
    found: dict[str, Any] = tables.about(command, [frameworks.about()])
    seeds = range(given.seeds)
    if "digits" in given.studies:
        found["digits"] = [digits(seed, given.digits_steps) for seed in seeds]
    if "bytes" in given.studies:
        found["bytes"] = [
            grown(seed, given.steps, given.units, schedule)
            for schedule in SCHEDULES
            for seed in seeds
        ]
    return tables.publish(NAME, found, lines(found), None, given.output)


def digits(seed: int, steps: int) -> dict:
    """Returns the held-out accuracy of Dense, trained on as is and upcycled."""
    task = tasks.load("digits", seed, 2 * steps)
    first, second = parts(task, 2)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(task.train[0].shape[1:]),
            keras.layers.Dense(DIGITS_WIDTH, name="hidden"),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
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
            keras.layers.Dense(units),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            layers.TreeGatedDense(
                units,
                depth=schedule[0],
                num_trees=min(64, units),
                gate=SignGate(threshold="running_mean", seed=seed),
            ),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(task.classes),
        ]
    )
    for depth, examples in zip(
        schedule, parts(task, len(schedule)), strict=True
    ):
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


DIGITS_COLUMNS: tables.Columns = {
    "digits, seed": "seed",
    "before": lambda row: f"{row['before']:.3f}",
    "Dense on": lambda row: f"{row['dense']:.3f}",
    "upcycled": lambda row: f"{row['upcycled']:.3f}",
}
BYTES_COLUMNS: tables.Columns = {
    "bytes, depths": lambda rows: ", ".join(map(str, rows[0]["depths"])),
    "steps": lambda rows: rows[0]["steps"],
    "bits per byte, by seed": lambda rows: " ".join(
        f"{row['bits_per_byte']:.3f}" for row in rows
    ),
    "mean": lambda rows: (
        f"{statistics.mean(row['bits_per_byte'] for row in rows):.3f}"
    ),
}


def lines(found: dict) -> list[str]:
    """Returns the results as tables."""
    text = []
    if "digits" in found:
        rows = found["digits"]
        mean = {
            name: statistics.mean(row[name] for row in rows)
            for name in ("before", "dense", "upcycled")
        }
        rows = [*rows, {"seed": "mean"} | mean]
        text += [*tables.table(DIGITS_COLUMNS, rows, left=1), ""]
    if "bytes" in found:
        groups = [
            tables.find(found["bytes"], depths=schedule)
            for schedule in SCHEDULES
        ]
        text += tables.table(BYTES_COLUMNS, groups, left=1)
    return text
