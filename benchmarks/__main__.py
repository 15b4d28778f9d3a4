"""The command line of the benchmarks, run from a checkout.

python -m benchmarks step-time --backend jax --depths 4 8
"""

import argparse
import shlex
import sys

from benchmarks import (
    accelerator,
    callbacks,
    credit,
    embedding,
    first_step,
    inference,
    levels,
    memory,
    peers,
    prefetch,
    scale,
    serving,
    step_time,
    training,
    transforms,
)
from benchmarks.harness import options
from benchmarks.quality import search
from keras_treegate.plotting import canvas

PROGRAM = "python -m benchmarks"
BENCHMARKS = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (
        *(step_time, first_step, inference, training, peers, serving),
        *(memory, levels, accelerator),
        *(callbacks, credit, transforms, embedding, search, scale, prefetch),
    )
}


def main(arguments: list[str]) -> int:
    """Runs the benchmark that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    names = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    parsers = {}
    for name, benchmark in BENCHMARKS.items():
        parsers[name] = names.add_parser(
            name,
            help=benchmark.help,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        every = benchmark.options | options.output(name)
        for option, settings in every.items():
            parsers[name].add_argument(f"--{option}", **settings)
    given = parser.parse_args(arguments)
    benchmark = BENCHMARKS[given.name]
    try:
        benchmark.check(given)
        canvas.figure(1, 1)  # tells at once that matplotlib is missing
    except (ImportError, ValueError) as error:
        parsers[given.name].error(str(error))
    return benchmark.run(given, shlex.join([*PROGRAM.split(), *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
