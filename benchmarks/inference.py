"""The time of inference over the batch: Dense, naive, tree and folded."""

import argparse
from typing import NamedTuple

from benchmarks.harness import contest_report, machine, options, targets
from benchmarks.harness import plots as curves
from benchmarks.harness import tables as output
from benchmarks.harness.models import Contestant
from benchmarks.harness.rounds import Entry, Host, hold

NAME = "inference"
HELP = "time of a compiled call: Dense, naive, tree and folded, by batch"
MODELS = ("dense", "naive", "tree", "folded")
BASE = "dense"

LEGEND = (
    contest_report.LEGEND
    + """\
naive   gathers a kernel for each example from a table of the sums of all paths,
        such as the folded layer has, and multiplies: (B, P, Q) numbers
"""
)


class Setting(NamedTuple):
    """The sizes of a contest."""

    batch: int
    units: int
    depth: int


# The sizes that `targets.INFERENCE` is about.
TARGETS = (Setting(1, 512, 8), Setting(1024, 256, 4))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    options.add_engines(parser, ["jax", "torch-compile", "tensorflow"])
    batches = [1, 8, 64, 1024, 8192]
    options.add_sizes(parser, batch=batches, units=256, depth=4, trees=64)
    parser.add_argument(
        "--models",
        nargs="+",
        choices=MODELS,
        default=list(MODELS),
        help="which of them; ratios need dense",
    )
    options.add_turns(parser)
    options.add_output(parser, NAME)


def check(given: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    options.check_backends(given.backend)
    for setting in settings(given):
        options.check_trees(given.trees, setting.depth, units=setting.units)


def settings(given: argparse.Namespace) -> list[Setting]:
    """The sizes to measure."""
    if given.targets:
        return list(TARGETS)
    return [
        Setting(batch, given.units, given.depth)
        for batch in sorted(set(given.batch))
    ]


def contestants(
    setting: Setting, models: list[str], trees: int
) -> tuple[list[Contestant], list[str]]:
    """Those of a contest, and a line for each that memory does not allow."""
    batch, units, depth = setting
    found, left_out = [], []
    for model in models:
        # What is gathered, and a copy of it for the product.
        kernels = 2 * 4 * batch * units**2 if model == "naive" else 0
        room = machine.available_memory()
        if room is not None and kernels > room / 2:
            left_out.append(
                f"left out: naive at batch {batch}, {units} units: it needs "
                f"{kernels / 2**30:.1f} GiB of {room / 2**30:.1f}"
            )
            continue
        batches = max(2, min(256 // batch, 64))
        found.append(
            Contestant(
                *(model, model, "forward", batch, units, units, depth, trees),
                batches=batches,
            )
        )
    return found, left_out


def run(given: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    found: dict = {"rows": [], "targets": [], "left_out": [], "failures": []}
    told = {}
    for engine in dict.fromkeys(given.backend):
        with Host(engine) as host:
            told[engine] = host.ask("about")
            for setting in settings(given):
                print(f"{engine} {setting}", flush=True)
                entered, left_out = contestants(
                    setting, given.models, given.trees
                )
                rows, failures = hold(
                    [Entry(host, one) for one in entered],
                    given.rounds,
                    given.seconds,
                )
                found["rows"] += contest_report.with_ratios(rows, BASE)
                found["left_out"] += left_out
                found["failures"] += failures
                found["targets"] += targets.of_times(
                    targets.INFERENCE, rows, engine
                )
    versions, found["devices"] = contest_report.about_hosts(told)
    found = output.about(command, versions) | found
    text = contest_report.text(found, LEGEND.format(base=BASE))
    return contest_report.publish(
        NAME, found, given.output, text, panels(found["rows"])
    )


def panels(rows: list[dict]) -> list[curves.Panel]:
    """One for each backend: the time over that of Dense."""
    return [
        curves.Panel(
            engine,
            "examples in a batch",
            "time over that of Dense",
            curves.over(output.find(rows, engine=engine), "batch", "over"),
        )
        for engine in output.distinct(rows, "engine")
    ]
