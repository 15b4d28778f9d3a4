"""The options that benchmarks share, and what they refuse."""

import argparse
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.harness.models import STEP_AWARE, Case

# The arguments of `add_argument`, by the name of the option.
Options = dict[str, dict[str, Any]]

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


def pattern(text: str) -> str:
    """Returns a regular expression as it stands."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"must be regular expressions. Received: {text!r}, where {error}"
        ) from error
    return text


def option(name: str, text: str, **settings: Any) -> Options:
    """Returns an option with this help."""
    return {name: settings | {"help": text}}


def sizes(helps: dict[str, str] = HELPS, **defaults: Any) -> Options:
    """Returns `--units`, `--trees` and more with these defaults.

    A list for a default takes several.
    """
    found: Options = {}
    for name, default in defaults.items():
        several = "+" if isinstance(default, list) else None
        settings = {"type": positive, "default": default, "nargs": several}
        found |= option(name, helps[name], **settings)
    return found


def choices(
    name: str, of: Iterable[str], text: str, default: Iterable[str] = ()
) -> Options:
    """Returns an option that takes some of these, by default all."""
    of = list(of)
    usual = list(default) or of
    return option(name, text, nargs="+", choices=of, default=usual)


BACKENDS = choices(
    *("backend", ("jax", "torch", "tensorflow")),
    "each is measured in processes of its own",
)
TURNS: Options = (
    sizes(rounds=9)
    | option(
        *("seconds", "length of a turn, about"),
        type=positive_float,
        default=0.25,
    )
    | option(
        "targets",
        "measure the sizes that targets are set for, whatever others say",
        action="store_true",
    )
)


def engines(*default: str) -> Options:
    """Returns `--backend`, each with or without a compiler."""
    text = (
        "frameworks, and what compiles there: by itself `torch` is eager and "
        "`tensorflow` is a graph"
    )
    return choices("backend", ENGINES, text, default)


def optimizers(*default: str) -> Options:
    """Returns `--optimizers`, by default all."""
    names = (*STEP_AWARE, "Adam")
    return choices("optimizers", names, "Adam is Keras's own", default)


def output(name: str) -> Options:
    """Returns `--output`."""
    text = f"folder for {name}.json, .txt and .png"
    return option("output", text, type=Path, default=Path("benchmarks/output"))


def check_backends(names: Iterable[str]) -> None:
    """Refuses backends that are not installed."""
    for name in names:
        package = ENGINES[name][0]
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"`--backend` must name installed backends. Received: "
                f"{name}, which is not. Install it with: "
                f'pip install -e ".[{package}]"'
            )


def check_trees(given: argparse.Namespace, cases: Iterable[Case]) -> None:
    """Refuses more trees than a layer has inputs, and too deep ones."""
    depth = "depths" if "depths" in given else "depth"
    for case in cases:
        limits = [(depth, case.depth, "units"), ("trees", case.trees, "units")]
        if case.hidden:
            limits.append(("trees", case.trees, "hidden"))
        for name, value, width in limits:
            if value > (limit := getattr(case, width)):
                raise ValueError(
                    f"`--{name}` must be at most `--{width}`, {limit}. "
                    f"Received: {value}. Lower it, or raise `--{width}`."
                )
