"""The time of inference over the batch: Dense, naive, tree and folded."""

import argparse
from collections.abc import Iterator

from benchmarks.harness import options, rounds
from benchmarks.harness.models import Case

NAME = "inference"
HELP = "time of a compiled call: Dense, naive, tree and folded, by batch"
MODELS = ("dense", "naive", "tree", "folded")
BASE = "dense"
# What is gathered, and a copy of it for the product.
NAIVE_KERNELS = 2

LEGEND = """\
naive   gathers a kernel for each example from a table of the sums of all paths,
        such as the folded layer has, and multiplies: (B, P, Q) numbers
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_engines(parser, ["jax", "torch-compile", "tensorflow"])
    batches = [1, 8, 64, 1024, 8192]
    options.add_sizes(parser, batch=batches, units=256, depth=4, trees=64)
    text = "which of them; ratios need dense"
    options.add_choices(parser, "models", MODELS, text)
    options.add_turns(parser)
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    options.check_backends(given.backend)
    for contest in contests(given):
        for case in contest.cases:
            options.check_trees(given.trees, case.depth, units=case.units)


def contests(given: argparse.Namespace) -> Iterator[rounds.Contest]:
    """Yields who takes part, in each of the sizes to measure."""
    sizes = [
        (batch, given.units, given.depth) for batch in sorted(set(given.batch))
    ]
    if given.targets:  # those of `targets.TARGETS`
        sizes = [(1, 512, 8), (1024, 256, 4)]
    for batch, units, depth in sizes:
        cases = [
            Case(
                name=model,
                batch=batch,
                units=units,
                depth=depth,
                trees=given.trees,
                model=model,
                work="forward",
                batches=max(2, min(256 // batch, 64)),
            )
            for model in given.models
        ]
        yield rounds.without_naive(cases, BASE, NAIVE_KERNELS)


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    return rounds.run(
        name=NAME,
        given=given,
        command=command,
        contests=contests,
        legend=LEGEND,
        x="batch",
        y="over",
        labels=("examples in a batch", "time over that of Dense"),
    )
