"""The command line of the benchmarks.

python -m keras_treegate.benchmarks step-time --backend jax --depths 4 8
python -m keras_treegate.benchmarks callbacks --backend jax
python -m keras_treegate.benchmarks credit --backend jax --seeds 0 1 2
"""

import argparse
import importlib.util
import platform
import shlex
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import keras
import numpy as np

from keras_treegate.benchmarks import (
    callback_report,
    credit_report,
    credit_study,
    machine,
    picture,
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
    callbacks_parser = names.add_parser(
        "callbacks",
        help="what counting visits and the callbacks add to a `fit` step",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    callback_report.add_options(callbacks_parser, _positive, BACKENDS)
    credit_parser = names.add_parser(
        "credit",
        help="what credit assignments cost, and what they bring",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_credit_options(credit_parser)
    options = parser.parse_args(arguments)
    command = shlex.join([*PROGRAM.split(), *arguments])
    try:
        _check_backends(options)
        if options.name == "step-time":
            _check(options)
            picture.figure_class()
    except (ImportError, ValueError) as error:
        names.choices[options.name].error(str(error))
    if options.name == "callbacks":
        return callback_report.callback_cost(options, partial(_about, command))
    benchmark = {"step-time": step_time, "credit": credit}[options.name]
    return benchmark(options, command)


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


def _add_credit_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        default=list(BACKENDS),
        help="each is measured in its own process",
    )
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of a run each")
    add("--steps", type=_positive, default=3000, help="of training")
    add("--hidden", type=_positive, default=256, help="units")
    add("--depth", type=_positive, default=4, help="of the trees")
    add("--trees", type=_positive, default=64, help="trees of the layer")
    add("--batch", type=_positive, default=512, help="examples in a batch")
    add(
        "--output",
        type=Path,
        default=Path("benchmarks"),
        help="folder for credit.json and .txt",
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


def _check_backends(options: argparse.Namespace) -> None:
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


def credit(options: argparse.Namespace, command: str) -> int:
    """Studies the credit assignments; prints and writes what was found."""
    studies: list[dict] = []
    failures: list[str] = []
    for backend in dict.fromkeys(options.backend):
        study = credit_study.Study(
            backend,
            options.seeds,
            options.steps,
            options.hidden,
            options.depth,
            options.trees,
            options.batch,
        )
        try:
            studies.append(credit_study.run(study))
        except RuntimeError as error:
            failures.append(str(error))
    costs = [{"backend": s["study"]["backend"]} | s for s in studies]
    found = _about(command, costs) | {
        "studies": studies,
        "failures": failures,
    }
    print(f"\n{credit_report.text(found)}")
    credit_report.write(found, options.output)
    print(f"\nWrote {options.output / 'credit'}.json and .txt")
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
