"""The command line of the benchmarks.

python -m benchmarks step-time --backend jax --depths 4 8
"""

import argparse
import shlex
import sys
from typing import Any

from benchmarks import (
    callback_report,
    credit_command,
    inference,
    memory,
    peers,
    step_time_command,
    training,
    transforms,
)
from benchmarks import step_time_picture as picture
from benchmarks.quality import search as quality_command

PROGRAM = "python -m benchmarks"
BENCHMARKS: tuple[Any, ...] = (
    step_time_command,
    inference,
    training,
    peers,
    memory,
    callback_report,
    credit_command,
    transforms,
    quality_command,
)


def main(arguments: list[str]) -> int:
    """Runs the benchmark that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    parsers = {}
    for benchmark in BENCHMARKS:
        parsers[benchmark.NAME] = names.add_parser(
            benchmark.NAME,
            help=benchmark.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        benchmark.add_options(parsers[benchmark.NAME])
    given = parser.parse_args(arguments)
    (chosen,) = [one for one in BENCHMARKS if given.name == one.NAME]
    try:
        chosen.check(given)
        picture.figure_class()
    except (ImportError, ValueError) as error:
        parsers[given.name].error(str(error))
    return chosen.run(given, shlex.join([*PROGRAM.split(), *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
