"""The options that benchmarks share, and what they refuse."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

BACKENDS = ("jax", "torch", "tensorflow")
# Framework, and what compiles there. `None` is what `fit` does on CPU.
ENGINES: dict[str, tuple[str, str | None]] = {
    "jax": ("jax", None),
    "torch": ("torch", None),
    "torch-compile": ("torch", "compile"),
    "tensorflow": ("tensorflow", None),
    "tensorflow-xla": ("tensorflow", "xla"),
}
HELPS = {
    "batch": "examples in a batch",
    "units": "inputs, and output units",
    "depth": "depth of the trees",
    "depths": "depths of the trees",
    "trees": "trees of a layer",
    "hidden": "width between the two layers: that of a leaf",
    "rounds": "turns of each contestant",
    "steps": "steps of an epoch; by default what a few seconds allow",
}


def positive(text: str) -> int:
    """Returns an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be integers of at least 1. Received: {text!r}"
        )
    return int(text)


def positive_float(text: str) -> float:
    """Returns a number above 0."""
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
    """Adds `--units`, `--trees` and more with these defaults.

    A list for a default takes several.
    """
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name}",
            type=positive,
            default=default,
            nargs="+" if isinstance(default, list) else None,
            help=HELPS[name],
        )


def add_choices(
    parser: argparse.ArgumentParser,
    name: str,
    choices: Any,
    text: str,
    default: Any = None,
) -> None:
    """Adds an option that takes some of these, by default all."""
    choices = list(choices)
    parser.add_argument(
        f"--{name}",
        nargs="+",
        choices=choices,
        default=default or choices,
        help=text,
    )


def add_backends(parser: argparse.ArgumentParser) -> None:
    """Adds `--backend`, each as it comes."""
    text = "each is measured in processes of its own"
    add_choices(parser, "backend", BACKENDS, text)


def add_engines(parser: argparse.ArgumentParser, default: list) -> None:
    """Adds `--backend`, each with or without a compiler."""
    text = (
        "frameworks, and what compiles there: by itself `torch` is eager and "
        "`tensorflow` is a graph"
    )
    add_choices(parser, "backend", ENGINES, text, default)


def add_turns(parser: argparse.ArgumentParser) -> None:
    """Adds `--rounds`, `--seconds` and `--targets`."""
    add_sizes(parser, rounds=9)
    add = parser.add_argument
    text = "length of a turn, about"
    add("--seconds", type=positive_float, default=0.25, help=text)
    add(
        "--targets",
        action="store_true",
        help="measure the sizes that targets are set for, whatever others say",
    )


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds `--output`."""
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


def check_trees(
    trees: int, depth: int, depth_option: str = "depth", **widths: int
) -> None:
    """Refuses more trees than the width of an option, and too deep ones.

    The first of the widths is that of the gate source.
    """
    source, *_ = widths
    limits = [("trees", trees, option) for option in widths]
    for name, given, option in [(depth_option, depth, source), *limits]:
        if given > widths[option]:
            raise ValueError(
                f"`--{name}` must be at most `--{option}`, {widths[option]}. "
                f"Received: {given}. Lower it, or raise `--{option}`."
            )
