"""Training and inference beside published layers, each in its own process."""

import argparse
from collections.abc import Iterator

from benchmarks.baselines.peers import PACKAGES
from benchmarks.harness import options, plots, rounds
from benchmarks.harness.models import Case

OURS = ("tree", "folded", "dense", "large-dense")
BASES = {"step": "tree", "forward": "folded"}

LEGEND = """\
All map P inputs to P outputs, and train by plain gradient descent.
tree, folded        two layers of trees, P -> hidden -> P, whose gates read the
                    inputs; so a leaf has the widths of one of fastfeedforward
dense               two Dense layers of these widths: equal work
large-dense         two Dense layers, wide enough for the tree's parameters
fastfeedforward     FFF with as many leaves of the same widths
product-key-memory  PKM with as many parameters as the tree, other arguments as
                    they come
mixture-of-experts  MoE with as many parameters as the tree, in experts of the
                    widths of a leaf, without the second expert: top 1. Examples
                    beyond an expert's capacity are dropped, as it comes
"""


def contests(given: argparse.Namespace) -> Iterator[rounds.Contest]:
    """Yields who takes part, for each work and depth."""
    depths = [10] if given.targets else sorted(set(given.depth))
    for work in dict.fromkeys(given.work):
        for depth in depths:
            cases = [
                Case.of(
                    *(given, name),
                    depth=depth,
                    model=name,
                    work=work,
                    optimizer="StepAwareSGD" if name == "tree" else "SGD",
                )
                for name in dict.fromkeys(given.peers)
                if (name, work) != ("folded", "step")  # it is not trained
            ]
            cases = [
                case._replace(parameters=case.tree_parameters) for case in cases
            ]
            yield rounds.Contest(cases, BASES[work], left_out=[])


BENCHMARK = rounds.ContestBenchmark(
    name="peers",
    help="training and inference beside fastfeedforward and other packages",
    options=options.engines("torch")
    | options.sizes(
        batch=256, units=64, hidden=32, depth=[4, 6, 8, 10], trees=32
    )
    | options.choices(
        *("peers", [*OURS, *PACKAGES]),
        "who takes part; ratios need tree and folded. --backend is for ours, "
        "the packages run on PyTorch",
    )
    | options.choices("work", BASES, "training steps, inference or both")
    | options.TURNS,
    contests=contests,
    legend=LEGEND,
    axes=plots.Axes("depth", "ms", "depth (2^depth leaves)", "time [ms]"),
    apart=True,
)
