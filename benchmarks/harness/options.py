"""The options that benchmarks share, and what they refuse."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.harness.models import ENGINES

BACKENDS = ("jax", "torch", "tensorflow")


def positive(text: str) -> int:
    """An integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"must be integers of at least 1. Received: {text!r}"
        )
    return number


def positive_float(text: str) -> float:
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(
            f"must be a number above 0. Received: {text!r}"
        )
    return number


def add_sizes(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """`--units`, `--trees` and more of these defaults; lists take several."""
    helps = {
        "batch": "examples in a batch",
        "units": "inputs, and output units",
        "depth": "depth of the trees",
        "trees": "trees of a layer",
        "hidden": "width between the two layers: that of a leaf",
    }
    for name, default in defaults.items():
        several: dict[str, Any] = (
            {"nargs": "+"} if isinstance(default, list) else {}
        )
        parser.add_argument(
            f"--{name}",
            type=positive,
            default=default,
            help=helps[name],
            **several,
        )


def add_backends(parser: argparse.ArgumentParser) -> None:
    """`--backend`, each as it comes."""
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        default=list(BACKENDS),
        help="each is measured in processes of its own",
    )


def add_engines(parser: argparse.ArgumentParser, default: list) -> None:
    """`--backend`, each with or without a compiler."""
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=list(ENGINES),
        default=default,
        help="frameworks, and what compiles there: by itself `torch` is eager "
        "and `tensorflow` is a graph",
    )


def add_turns(parser: argparse.ArgumentParser) -> None:
    """`--rounds`, `--seconds`, `--targets`."""
    add = parser.add_argument
    add("--rounds", type=positive, default=9, help="turns of each contestant")
    add(
        "--seconds",
        type=positive_float,
        default=0.25,
        help="length of a turn, about",
    )
    add(
        "--targets",
        action="store_true",
        help="measure the sizes that targets are set for, whatever others say",
    )


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """`--output`."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmarks/output"),
        help=f"folder for {name}.json, .txt and .png",
    )


def check_backends(names: list[str]) -> None:
    """Refuses backends that are not installed."""
    for name in names:
        package = ENGINES[name][0]
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"`--backend` must name installed backends. Received: "
                f"{name}, which is not. Install it with: "
                f'pip install "keras_treegate[{package}]"'
            )


def check_trees(trees: int, depth: int, **widths: int) -> None:
    """Refuses more trees than the width of an option, and too deep ones.

    The first of the widths is that of the gate source.
    """
    for option, width in widths.items():
        if trees > width:
            raise ValueError(
                f"`--trees` must be at most `--{option}`, {width}. "
                f"Received: {trees}. Lower it, or raise `--{option}`."
            )
    option, width = next(iter(widths.items()))
    if depth > width:
        raise ValueError(
            f"`--depth` must be at most `--{option}`, {width}. "
            f"Received: {depth}. Lower it, or raise `--{option}`."
        )
