"""The time of inference over the batch: Dense, naive, tree and folded."""

import argparse
from collections.abc import Iterator

from benchmarks.harness import options, plots, rounds
from benchmarks.harness.models import Case

MODELS = ("dense", "naive", "tree", "folded")
# The gathered kernels, and a copy of them for the product.
NAIVE_KERNELS = 2

LEGEND = """\
naive   gathers a kernel for each example from a table of the sums of all paths,
        such as the folded layer has, and multiplies: (B, P, Q) numbers
"""


def contests(given: argparse.Namespace) -> Iterator[rounds.Contest]:
    """Yields who takes part, for each batch."""
    sizes = [{"batch": batch} for batch in sorted(set(given.batch))]
    if given.targets:  # those of `targets.TARGETS`
        sizes = [
            {"batch": 1, "units": 512, "depth": 8},
            {"batch": 1024, "units": 256, "depth": 4},
        ]
    for size in sizes:
        size["batches"] = max(2, min(256 // size["batch"], 64))
        cases = [
            Case.of(given, model, model=model, work="forward", **size)
            for model in given.models
        ]
        yield rounds.without_naive(cases, "dense", NAIVE_KERNELS)


BENCHMARK = rounds.ContestBenchmark(
    name="inference",
    help="time of a compiled call: Dense, naive, tree and folded, by batch",
    options=options.engines("jax", "torch-compile", "tensorflow")
    | options.sizes(batch=[1, 8, 64, 1024, 8192], units=256, depth=4, trees=64)
    | options.choices("models", MODELS, "which of them; ratios need dense")
    | options.TURNS,
    contests=contests,
    legend=LEGEND,
    axes=plots.Axes(
        *("batch", "over", "examples in a batch", "time over that of Dense")
    ),
)
