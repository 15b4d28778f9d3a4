"""Training and inference beside published layers, each in its own process."""

import argparse
from collections.abc import Iterator

from benchmarks.baselines.peers import ENGINE, PACKAGES
from benchmarks.harness import options, rounds
from benchmarks.harness.models import Case

NAME = "peers"
HELP = "training and inference beside fastfeedforward and other packages"
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command line."""
    options.add_engines(parser, ["torch"])
    options.add_sizes(
        parser, batch=256, units=64, hidden=32, depth=[4, 6, 8, 10], trees=32
    )
    text = (
        "who takes part; ratios need tree and folded. --backend is for ours, "
        "the packages run on PyTorch"
    )
    options.add_choices(parser, "peers", [*OURS, *PACKAGES], text)
    text = "training steps, inference or both"
    options.add_choices(parser, "work", BASES, text)
    options.add_turns(parser)
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    foreign = {ENGINE} if set(given.peers) & set(PACKAGES) else set()
    options.check_backends(sorted({*given.backend} | foreign))
    for contest in contests(given):
        for case in contest.cases:
            widths = {"units": given.units, "hidden": given.hidden}
            options.check_trees(given.trees, case.depth, **widths)


def contests(given: argparse.Namespace) -> Iterator[rounds.Contest]:
    """Yields who takes part, in each of the sizes to measure."""
    depths = [10] if given.targets else sorted(set(given.depth))
    for work in dict.fromkeys(given.work):
        for depth in depths:
            cases = []
            for name in dict.fromkeys(given.peers):
                if name == "folded" and work == "step":
                    continue  # it is not trained
                case = Case(
                    name=name,
                    batch=given.batch,
                    units=given.units,
                    depth=depth,
                    trees=given.trees,
                    model=name,
                    work=work,
                    optimizer="StepAwareSGD" if name == "tree" else "SGD",
                    hidden=given.hidden,
                )
                cases.append(case._replace(parameters=case.tree_parameters))
            yield rounds.Contest(cases, BASES[work], left_out=[])


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    return rounds.run(
        name=NAME,
        given=given,
        command=command,
        contests=contests,
        legend=LEGEND,
        apart=True,
        x="depth",
        y="ms",
        labels=("depth (2^depth leaves)", "time [ms]"),
    )
