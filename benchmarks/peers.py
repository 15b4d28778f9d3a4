"""Training and inference beside published layers, each in its own process."""

import argparse
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks.harness import contest_report, options, targets
from benchmarks.harness import plots as curves
from benchmarks.harness import tables as output
from benchmarks.harness.models import Contestant, tree_parameters
from benchmarks.harness.rounds import Entry, Host, hold

NAME = "peers"
HELP = "training and inference beside fastfeedforward and other packages"
OURS = ("tree", "folded", "dense", "large-dense")
# Packages for PyTorch, eager as their authors run them.
PEERS = ("fastfeedforward", "product-key-memory", "mixture-of-experts")
PEERS_ENGINE = "torch"
BASES = {"step": "tree", "forward": "folded"}

LEGEND = (
    contest_report.LEGEND
    + """\
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
over                is told of {base} for forward, and of tree for step
"""
)


class Setting(NamedTuple):
    """The sizes of a contest."""

    work: str
    batch: int
    units: int
    hidden: int
    depth: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    options.add_engines(parser, ["torch"])
    options.add_sizes(
        parser, batch=256, units=64, hidden=32, depth=[4, 6, 8, 10], trees=32
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=[*PEERS, *OURS],
        default=[*OURS, *PEERS],
        help="who takes part; ratios need tree and folded. --backend is for "
        "ours, the packages run on PyTorch",
    )
    parser.add_argument(
        "--work",
        nargs="+",
        choices=list(BASES),
        default=list(BASES),
        help="training steps, inference or both",
    )
    options.add_turns(parser)
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    names = {*given.backend}
    if set(given.peers) & set(PEERS):
        names.add(PEERS_ENGINE)
    options.check_backends(sorted(names))
    for setting in settings(given):
        options.check_trees(
            given.trees,
            setting.depth,
            units=setting.units,
            hidden=setting.hidden,
        )


def settings(given: argparse.Namespace) -> list[Setting]:
    """The sizes to measure."""
    depths = [10] if given.targets else sorted(set(given.depth))
    return [
        Setting(work, given.batch, given.units, given.hidden, depth)
        for work in dict.fromkeys(given.work)
        for depth in depths
    ]


def contestants(
    setting: Setting, names: list[str], trees: int
) -> list[Contestant]:
    """Those of a contest; a fold is not trained."""
    work, batch, units, hidden, depth = setting
    found = []
    for name in dict.fromkeys(names):
        if name == "folded" and work == "step":
            continue
        one = Contestant(
            *(name, name, work, batch, units, units, depth, trees, hidden),
            optimizer="StepAwareSGD" if name == "tree" else "SGD",
        )
        found.append(one._replace(parameters=tree_parameters(one)))
    return found


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    found: dict = {"rows": [], "targets": [], "left_out": [], "failures": []}
    told: dict[str, dict] = {}
    for engine in dict.fromkeys(given.backend):
        with ExitStack() as stack:
            hosts = {
                name: stack.enter_context(
                    Host(PEERS_ENGINE if name in PEERS else engine)
                )
                for name in dict.fromkeys(given.peers)
            }
            for host in hosts.values():
                told[host.engine] = host.ask("about")
            for setting in settings(given):
                print(f"{engine} {setting}", flush=True)
                entered = contestants(setting, given.peers, given.trees)
                rows, failures = hold(
                    [Entry(hosts[one.name], one) for one in entered],
                    given.rounds,
                    given.seconds,
                )
                base = BASES[setting.work]
                rows = contest_report.with_ratios(rows, base)
                found["rows"] += [row | {"beside": engine} for row in rows]
                found["failures"] += failures
                found["targets"] += targets.of_times(
                    targets.PEERS, rows, engine
                )
    versions, found["devices"] = contest_report.about_hosts(told)
    found = output.about(command, versions) | found
    text = contest_report.text(found, LEGEND.format(base="folded"))
    return contest_report.publish(
        NAME, found, given.output, text, panels(found["rows"])
    )


def panels(rows: list[dict]) -> list[curves.Panel]:
    """One for each work and backend of ours: milliseconds by depth."""
    return [
        curves.Panel(
            f"{work}, ours on {engine}",
            "depth (2^depth leaves)",
            "time [ms]",
            curves.over(
                output.find(rows, beside=engine, work=work), "depth", "ms"
            ),
        )
        for engine in output.distinct(rows, "beside")
        for work in output.distinct(rows, "work")
    ]
