"""What upcycling and growing are worth, against training without them.

KERAS_BACKEND=jax python -m keras_treegate.benchmarks transforms
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

from keras_treegate import layers, optimizers
from keras_treegate.benchmarks import machine, source_text
from keras_treegate.gates import SignGate
from keras_treegate.transforms import grow, upcycle

NAME = "transforms"
HELP = "accuracy of upcycled digits models, bits per byte of grown ones"
STUDIES = ("digits", "bytes")
CONTEXT = 16  # bytes that the next one is predicted from


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what can be chosen to the command line."""
    add = parser.add_argument
    add("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    add("--seeds", type=int, default=3, help="of the digits")
    add(
        "--epochs", type=int, default=20, help="of the digits, before and after"
    )
    add("--steps", type=int, default=2000, help="of the bytes, in all")
    add("--units", type=int, default=128, help="hidden units of the bytes")
    add("--output", type=Path, default=Path("benchmarks"))


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after other things had been measured."""
    for name in ("seeds", "epochs", "steps", "units"):
        if getattr(options, name) < 1:
            raise ValueError(
                f"`--{name}` must be at least 1. Received: "
                f"{getattr(options, name)}. Leave it out."
            )
    if "digits" in options.studies:
        import sklearn  # noqa: F401


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
    if "digits" in options.studies:
        found["digits"] = [
            digits(seed, options.epochs) for seed in range(options.seeds)
        ]
    if "bytes" in options.studies:
        found["bytes"] = grown_bytes(options.steps, options.units)
    print(text(found))
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "transforms.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"\nWrote {path}")
    return 0


def digits(seed: int, epochs: int) -> dict:
    """Held-out accuracy of a Dense network, trained on as is and upcycled."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    test, train = slice(600), slice(600, None)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(16),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(10),
        ]
    )

    def fit(model: Any) -> float:
        model.compile(
            optimizers.StepAwareAdam(3e-3, weight_decay=0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(x[train], y[train], batch_size=32, epochs=epochs, verbose=0)
        return model.evaluate(x[test], y[test], verbose=0)[1]

    before = fit(model)
    trees = upcycle(model, depth=4, calibrate=x[train], seed=seed)
    return {
        "seed": seed,
        "before": before,
        "upcycled": fit(trees),
        "dense": fit(model),  # last, for it changes the model
    }


def grown_bytes(steps: int, units: int) -> list[dict]:
    """Bits per byte with depth 6 from the start, and grown from 0."""
    texts = source_text.read().texts
    return [
        _train_bytes(*texts, steps, units, schedule)
        for schedule in ((0,), (6,), (0, 2, 4, 6))
    ]


def _train_bytes(
    training: np.ndarray,
    validation: np.ndarray,
    steps: int,
    units: int,
    schedule: tuple,
) -> dict:
    keras.utils.set_random_seed(0)
    draw = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((CONTEXT,), dtype="int32"),
            keras.layers.Embedding(256, 16),
            keras.layers.Flatten(),
            keras.layers.Dense(units),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            layers.TreeGatedDense(
                units,
                depth=schedule[0],
                num_trees=min(64, units),
                gate=SignGate(threshold="running_mean", seed=0),
                name="tree",
            ),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(256),
        ]
    )
    model.compile(
        optimizers.StepAwareAdam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    part = steps // len(schedule)
    for number, depth in enumerate(schedule):
        ends = draw.integers(CONTEXT, len(training), 256 * part)
        start = _windows(training, ends)
        if number:
            model = grow(model, depth, calibrate=start[0][:1024], seed=0)
        model.fit(*start, batch_size=256, shuffle=False, verbose=0)
    draw = np.random.default_rng(1)
    held_out = _windows(
        validation, draw.integers(CONTEXT, len(validation), 2**14)
    )
    loss = model.evaluate(*held_out, batch_size=256, verbose=0)
    return {
        "depths": schedule,
        "steps": part * len(schedule),
        "units": units,
        "bits_per_byte": loss / math.log(2),
    }


def _windows(text: np.ndarray, ends: np.ndarray) -> tuple:
    """The bytes before each end, and the byte there."""
    context = text[ends[:, None] + np.arange(-CONTEXT, 0)]
    return context.astype("int32"), text[ends].astype("int32")


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
            "| bytes, depths | steps | bits per byte |",
            "|---|---|---|",
        ]
        for row in found["bytes"]:
            depths = ", ".join(map(str, row["depths"]))
            bits = row["bits_per_byte"]
            lines.append(f"| {depths} | {row['steps']} | {bits:.3f} |")
    return "\n".join(lines)
