"""What upcycling and growing are worth, against training without them.

KERAS_BACKEND=jax python -m benchmarks transforms
"""

import argparse
import json
import math
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.harness import machine
from benchmarks.quality import tasks as quality_tasks
from benchmarks.quality.tasks import Task
from keras_treegate import layers, optimizers
from keras_treegate.gates import SignGate
from keras_treegate.transforms import grow, upcycle

NAME = "transforms"
HELP = "accuracy of upcycled digits models, bits per byte of grown ones"
STUDIES = ("digits", "bytes")
SCHEDULES = ((0,), (6,), (0, 2, 4, 6))
# The width at which a Dense network runs out of parameters on the digits.
DIGITS_WIDTH = 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what can be chosen to the command line."""
    add = parser.add_argument
    add("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    add("--seeds", type=int, default=3)
    add(
        "--digits-steps",
        type=int,
        default=800,
        help="steps before upcycling, and as many after",
    )
    add("--steps", type=int, default=2000, help="of the bytes, in all")
    add("--units", type=int, default=128, help="hidden units of the bytes")
    add("--output", type=Path, default=Path("benchmarks/output"))


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after other things had been measured."""
    for name in ("seeds", "digits_steps", "steps", "units"):
        if getattr(options, name) < 1:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be at least 1. Received: "
                f"{getattr(options, name)}. Leave it out."
            )
    for study in options.studies:
        quality_tasks.load(study, 0, 1)


def run(options: argparse.Namespace, command: str) -> int:
    """Trains all models, and prints and writes what was found."""
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "backend": os.environ.get("KERAS_BACKEND", "default backend"),
        "keras": keras.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    seeds = range(options.seeds)
    if "digits" in options.studies:
        found["digits"] = [digits(seed, options.digits_steps) for seed in seeds]
    if "bytes" in options.studies:
        found["bytes"] = [
            grown(seed, options.steps, options.units, schedule)
            for schedule in SCHEDULES
            for seed in seeds
        ]
    print(text(found))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "transforms.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nWrote {path}")
    return 0


def digits(seed: int, steps: int) -> dict:
    """Held-out accuracy of a Dense network, trained on as is and upcycled."""
    task = quality_tasks.load("digits", seed, 2 * steps)
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

    def accuracy(model: Any, examples: tuple) -> float:
        fit(model, task, examples, task.learning_rate)
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
    """Bits per byte of a network whose trees have these depths in turn."""
    steps = steps // len(schedule) * len(schedule)
    task = quality_tasks.load("bytes", seed, steps)
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
        fit(model, task, examples, task.learning_rate)
    loss, _ = model.evaluate(*task.validation, batch_size=512, verbose=0)
    return {
        "seed": seed,
        "depths": schedule,
        "steps": steps,
        "units": units,
        "bits_per_byte": loss / math.log(2),
    }


def parts(task: Task, number: int) -> list[tuple]:
    """The training examples in order, in parts of as many batches."""
    x, y = task.train
    return list(
        zip(np.split(x, number), np.split(y, number), strict=True)
    )  # `load` gives whole batches


def fit(model: Any, task: Task, examples: tuple, rate: float) -> None:
    """One pass over examples; a model that is compiled keeps its optimizer."""
    if not model.compiled:
        model.compile(
            optimizers.StepAwareAdam(rate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    model.fit(*examples, batch_size=task.batch, shuffle=False, verbose=0)


def text(found: dict) -> str:
    """The results as tables."""
    lines = [found["machine"], f"{found['backend']}, keras {found['keras']}"]
    if "digits" in found:
        lines += ["", "| digits, seed | before | Dense on | upcycled |"]
        lines.append("|---|---|---|---|")
        names = ("before", "dense", "upcycled")
        rows = [*found["digits"]]
        rows.append(
            {"seed": "mean"}
            | {n: statistics.mean(row[n] for row in rows) for n in names}
        )
        for row in rows:
            cells = " | ".join(f"{row[name]:.3f}" for name in names)
            lines.append(f"| {row['seed']} | {cells} |")
    if "bytes" in found:
        lines += [
            "",
            "| bytes, depths | steps | bits per byte, by seed | mean |",
            "|---|---|---|---|",
        ]
        for schedule in SCHEDULES:
            rows = [row for row in found["bytes"] if row["depths"] == schedule]
            bits = [row["bits_per_byte"] for row in rows]
            lines.append(
                f"| {', '.join(map(str, schedule))} | {rows[0]['steps']} | "
                f"{' '.join(f'{one:.3f}' for one in bits)} | "
                f"{statistics.mean(bits):.3f} |"
            )
    return "\n".join(lines)
