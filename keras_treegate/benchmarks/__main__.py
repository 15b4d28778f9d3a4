"""The command line of the benchmarks.

python -m keras_treegate.benchmarks step-time --backend jax --depths 4 8
"""

import argparse
import importlib.util
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np

from keras_treegate.benchmarks import (
    machine,
    picture,
    quality_command,
    report,
)
from keras_treegate.benchmarks.step_time import (
    BACKENDS,
    OPTIMIZERS,
    Case,
    run,
)

PROGRAM = "python -m keras_treegate.benchmarks"


def main(arguments: list[str]) -> int:
    """Runs the benchmark that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    step_time_parser = names.add_parser(
        "step-time",
        help="time, memory and touched bytes of a `fit` step",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_step_time_options(step_time_parser)
    quality_parser = names.add_parser(
        "quality",
        help="how well networks predict, by work and by parameters",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    quality_command.add_options(quality_parser, _positive)
    options = parser.parse_args(arguments)
    command = shlex.join([*PROGRAM.split(), *arguments])
    if options.name == "quality":
        try:
            quality_command.check(options)
        except (ImportError, ValueError) as error:
            quality_parser.error(str(error))
        return quality_command.run(options, command, _about)
    try:
        _check(options)
        picture.figure_class()
    except (ImportError, ValueError) as error:
        step_time_parser.error(str(error))
    return step_time(options, command)


def _add_step_time_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        default=list(BACKENDS),
        help="each is measured in its own processes",
    )
    add(
        "--depths",
        nargs="+",
        type=_positive,
        default=[4, 6, 8, 10, 12, 14],
        help="depths of the trees",
    )
    add("--batch", type=_positive, default=256, help="examples in a batch")
    add("--units", type=_positive, default=64, help="inputs, and output units")
    add("--trees", type=_positive, default=64, help="trees of the layer")
    add(
        "--optimizers",
        nargs="+",
        choices=OPTIMIZERS,
        default=list(OPTIMIZERS),
        help="Adam is Keras's own",
    )
    add(
        "--steps",
        type=_positive,
        help="steps of an epoch; by default what a few seconds allow",
    )
    add(
        "--output",
        type=Path,
        default=Path("benchmarks"),
        help="folder for step-time.json, .txt and .png",
    )


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(
            f"must be integers of at least 1. Received: {text!r}"
        )
    return number


def _check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    for name in ("depths", "trees"):
        given = getattr(options, name)
        most = given if name == "trees" else max(given)
        if most > options.units:
            raise ValueError(
                f"`--{name}` must be at most `--units`, {options.units}. "
                f"Received: {most}. Lower it, or use more units."
            )
    for backend in options.backend:
        if importlib.util.find_spec(backend) is None:
            raise ImportError(
                f"`--backend` must name installed backends. Received: "
                f"{backend}, which is not. Install it with: "
                f'pip install "keras_treegate[{backend}]"'
            )


def step_time(options: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows: list[dict] = []
    failures: list[str] = []
    for case in _cases(options):
        start = f"{case.backend} {case.optimizer} depth {case.depth}: "
        print(start, end="", flush=True)
        try:
            rows.append(run(case))
            print(f"{rows[-1]['ms']:.2f} ms", flush=True)
        except RuntimeError as error:
            failures.append(str(error))
            print("failed", flush=True)
    found = report.results(_about(command, rows), rows, failures)
    print(f"\n{report.text(found)}")
    report.write(found, options.output)
    if rows:
        picture.write(found["machine"], rows, options.output)
    print(f"\nWrote {options.output / 'step-time'}.json, .txt and .png")
    return 1 if failures else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    return [
        Case(
            backend,
            optimizer,
            depth,
            options.batch,
            options.units,
            options.trees,
            options.steps,
        )
        for backend in dict.fromkeys(options.backend)
        for depth in sorted(set(options.depths))
        for optimizer in dict.fromkeys(options.optimizers)
    ]


def _about(command: str, rows: list[dict]) -> dict:
    """What to know of a run besides its results."""
    versions = {
        "keras_treegate": sys.modules["keras_treegate"].__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    for row in rows:
        versions[row["backend"]] = row["backend_version"]
    return {
        "machine": machine.describe(),
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
