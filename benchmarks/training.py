"""The time of training steps: Dense, naive, ours and stock optimizers."""

import argparse
import itertools
from collections.abc import Iterator

from benchmarks.harness import options, plots, rounds, targets
from benchmarks.harness.models import Case
from benchmarks.harness.tables import number

# The models and optimizers of a step, and of gradients alone.
CONTESTANTS = {
    "gradients": {model: (model, "") for model in ("dense", "naive", "tree")},
    "step": {
        "dense SGD": ("dense", "SGD"),
        "dense Adam": ("dense", "Adam"),
        "naive SGD": ("naive", "SGD"),
        "naive Adam": ("naive", "Adam"),
        "tree StepAwareSGD": ("tree", "StepAwareSGD"),
        "tree StepAwareAdam": ("tree", "StepAwareAdam"),
        "tree Adam": ("tree", "Adam"),
    },
}
# The kernels of two levels, their sum, and its gradient.
NAIVE_KERNELS = 4

LEGEND = f"""\
work    gradients: forward and backward, for the inputs and all weights; step:
        what `fit` does with a batch, without the gradient for the inputs
naive   gathers the nodes of each example's paths, sums and multiplies them, by
        automatic differentiation: (B, P, Q) numbers
{targets.LIMIT_LEGEND}"""


def contests(given: argparse.Namespace) -> Iterator[rounds.Contest]:
    """Yields who takes part, for each work, batch and depth."""
    sizes = [
        {"work": work, "batch": batch, "depth": depth}
        for work, batch, depth in itertools.product(
            *(dict.fromkeys(given.work), sorted(set(given.batch))),
            sorted(set(given.depth)),
        )
    ]
    if given.targets:  # those of `targets.TARGETS`
        sizes = [
            {"work": "gradients", "batch": 1024, "units": 256, "depth": 4},
            {"work": "step", "batch": 256, "units": 64, "depth": 12},
        ]
    for size in sizes:
        contestants = CONTESTANTS[size["work"]]
        cases = [
            Case.of(given, name, model=model, optimizer=optimizer, **size)
            for name, (model, optimizer) in contestants.items()
        ]
        yield rounds.without_naive(
            cases, next(iter(contestants)), NAIVE_KERNELS
        )


BENCHMARK = rounds.ContestBenchmark(
    name="training",
    help="time of gradients and of steps: Dense, naive, ours and stock Adam",
    options=options.engines("jax", "torch", "tensorflow")
    | options.sizes(batch=[1024], units=256, depth=[2, 4, 6, 8], trees=64)
    | options.choices(
        "work", CONTESTANTS, "gradients alone, or steps with the update"
    )
    | options.TURNS,
    contests=contests,
    legend=LEGEND,
    axes=plots.Axes("depth", "ms", "depth of the trees", "time [ms]"),
    columns={"touched": lambda row: number(row["touched_bytes"], ".2f", 1e6)}
    | targets.LIMIT_COLUMN,
)
