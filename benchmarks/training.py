"""The time of training steps: Dense, naive, ours and stock optimizers."""

import argparse
from collections.abc import Iterator

from benchmarks.harness import options, rounds, tables, targets
from benchmarks.harness.models import Case

NAME = "training"
HELP = "time of gradients and of steps: Dense, naive, ours and stock Adam"

# The models and optimizers of a step, and of gradients alone.
STEPS = {
    "dense SGD": ("dense", "SGD"),
    "dense Adam": ("dense", "Adam"),
    "naive SGD": ("naive", "SGD"),
    "naive Adam": ("naive", "Adam"),
    "tree StepAwareSGD": ("tree", "StepAwareSGD"),
    "tree StepAwareAdam": ("tree", "StepAwareAdam"),
    "tree Adam": ("tree", "Adam"),
}
GRADIENTS = {model: (model, "") for model in ("dense", "naive", "tree")}
BASES = {"gradients": "dense", "step": "dense SGD"}
# The kernels of two levels, their sum, and its gradient.
NAIVE_KERNELS = 4

LEGEND = f"""\
work    gradients: forward and backward, for the inputs and all weights; step:
        what `fit` does with a batch, without the gradient for the inputs
naive   gathers the nodes of each example's paths, sums and multiplies them, by
        automatic differentiation: (B, P, Q) numbers
{targets.LIMIT_LEGEND}"""
EXTRA: tables.Columns = {
    "touched": lambda row: tables.number(row["touched_bytes"], ".2f", 1e6),
    targets.LIMIT_HEADING: lambda row: targets.percent(row["limit"]),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_engines(parser, ["jax", "torch", "tensorflow"])
    options.add_sizes(
        parser, batch=[1024], units=256, depth=[2, 4, 6, 8], trees=64
    )
    text = "gradients alone, or steps with the update"
    options.add_choices(parser, "work", BASES, text)
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
        (work, batch, given.units, depth)
        for work in dict.fromkeys(given.work)
        for batch in sorted(set(given.batch))
        for depth in sorted(set(given.depth))
    ]
    if given.targets:  # those of `targets.TARGETS`
        sizes = [("gradients", 1024, 256, 4), ("step", 256, 64, 12)]
    for work, batch, units, depth in sizes:
        cases = [
            Case(
                name=name,
                batch=batch,
                units=units,
                depth=depth,
                trees=given.trees,
                model=model,
                work=work,
                optimizer=optimizer,
            )
            for name, (model, optimizer) in (
                STEPS if work == "step" else GRADIENTS
            ).items()
        ]
        yield rounds.without_naive(cases, BASES[work], NAIVE_KERNELS)


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    return rounds.run(
        name=NAME,
        given=given,
        command=command,
        contests=contests,
        legend=LEGEND,
        columns=EXTRA,
        x="depth",
        y="ms",
        labels=("depth of the trees", "time [ms]"),
    )
