"""The command line of the benchmarks, run from a checkout.

python -m benchmarks step-time --backend jax --depths 4 8
"""

import argparse
import shlex
import sys
from typing import Any

from benchmarks import (
    callbacks,
    credit,
    inference,
    levels,
    memory,
    peers,
    serving,
    step_time,
    training,
    transforms,
)
from benchmarks.quality import search
from keras_treegate.plotting import canvas

PROGRAM = "python -m benchmarks"
BENCHMARKS: tuple[Any, ...] = (
    step_time,
    inference,
    training,
    peers,
    serving,
    memory,
    levels,
    callbacks,
    credit,
    transforms,
    search,
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
        canvas.figure(1, 1)  # tells at once that matplotlib is missing
    except (ImportError, ValueError) as error:
        parsers[given.name].error(str(error))
    return chosen.run(given, shlex.join([*PROGRAM.split(), *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
