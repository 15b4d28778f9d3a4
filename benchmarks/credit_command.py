"""The command line of `credit`, and what it prints and writes."""

import argparse
from pathlib import Path

from benchmarks import credit as credit_study
from benchmarks import credit_report
from benchmarks.harness import tables as output
from benchmarks.harness.options import (
    add_backends,
    check_backends,
    positive,
)

NAME = "credit"
HELP = "what credit assignments cost, and what they bring"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    add = parser.add_argument
    add_backends(parser)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of a run each")
    add("--steps", type=positive, default=3000, help="of training")
    add("--hidden", type=positive, default=256, help="units")
    add("--depth", type=positive, default=4, help="of the trees")
    add("--trees", type=positive, default=64, help="trees of the layer")
    add("--batch", type=positive, default=512, help="examples in a batch")
    add(
        "--output",
        type=Path,
        default=Path("benchmarks/output"),
        help="folder for credit.json and .txt",
    )


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    check_backends(options.backend)


def run(options: argparse.Namespace, command: str) -> int:
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
    versions = {s["study"]["backend"]: s["backend_version"] for s in studies}
    found = output.about(command, versions)
    found |= {"studies": studies, "failures": failures}
    text = credit_report.text(found)
    print(f"\n{text}")
    output.write("credit", found, text, options.output)
    print(f"\nWrote {options.output / 'credit'}.json and .txt")
    return 1 if failures else 0
