"""The time of training steps: Dense, naive, ours and stock optimizers."""

import argparse
from typing import NamedTuple

from benchmarks.harness import contest_report, machine, options, targets
from benchmarks.harness import plots as curves
from benchmarks.harness import tables as output
from benchmarks.harness.models import Contestant
from benchmarks.harness.rounds import Entry, Host, hold

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

LEGEND = (
    contest_report.LEGEND
    + """\
work    gradients: forward and backward, for the inputs and all weights; step:
        what `fit` does with a batch, without the gradient for the inputs
naive   gathers the nodes of each example's paths, sums and multiplies them, by
        automatic differentiation: (B, P, Q) numbers
touched the distinct rows of all levels that a step needs, in MB
limit   the time in which the machine copies as many bytes (read, and written),
        over the time of the step: touched / ms over the bandwidth of a copy,
        measured in the same rounds
"""
)
EXTRA = {
    "touched": lambda row: (
        "-"
        if row["touched_bytes"] is None
        else f"{row['touched_bytes'] / 1e6:.2f}"
    ),
    "limit": lambda row: (
        "-" if row["limit"] is None else f"{row['limit']['median']:.1%}"
    ),
}


class Setting(NamedTuple):
    """The sizes of a contest."""

    work: str
    batch: int
    units: int
    depth: int


# The sizes that `targets.TRAINING` and `targets.LIMIT` are about.
TARGETS = (Setting("gradients", 1024, 256, 4), Setting("step", 256, 64, 12))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command line."""
    options.add_engines(parser, ["jax", "torch", "tensorflow"])
    options.add_sizes(
        parser, batch=[1024], units=256, depth=[2, 4, 6, 8], trees=64
    )
    parser.add_argument(
        "--work",
        nargs="+",
        choices=list(BASES),
        default=list(BASES),
        help="gradients alone, or steps with the update",
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
        Setting(work, batch, given.units, depth)
        for work in dict.fromkeys(given.work)
        for batch in sorted(set(given.batch))
        for depth in sorted(set(given.depth))
    ]


def contestants(
    setting: Setting, trees: int
) -> tuple[list[Contestant], list[str]]:
    """Those of a contest, and a line for each that memory does not allow."""
    work, batch, units, depth = setting
    found, left_out = [], []
    for name, (model, optimizer) in (
        STEPS if work == "step" else GRADIENTS
    ).items():
        # The kernels of two levels, their sum, and its gradient.
        kernels = 4 * 4 * batch * units**2 if model == "naive" else 0
        room = machine.available_memory()
        if room is not None and kernels > room / 2:
            left_out.append(
                f"left out: {name} at batch {batch}, {units} units: it needs "
                f"{kernels / 2**30:.1f} GiB of {room / 2**30:.1f}"
            )
            continue
        found.append(
            Contestant(
                *(name, model, work, batch, units, units, depth, trees),
                optimizer=optimizer,
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
                entered, left_out = contestants(setting, given.trees)
                rows, failures = hold(
                    [Entry(host, one) for one in entered],
                    given.rounds,
                    given.seconds,
                )
                found["rows"] += contest_report.with_ratios(
                    rows, BASES[setting.work]
                )
                found["left_out"] += left_out
                found["failures"] += failures
                found["targets"] += [
                    *targets.of_times(targets.TRAINING, rows, engine),
                    *targets.of_limit(rows, engine),
                ]
    versions, found["devices"] = contest_report.about_hosts(told)
    found = output.about(command, versions) | found
    text = contest_report.text(found, LEGEND.format(base="dense"), EXTRA)
    return contest_report.publish(
        NAME, found, given.output, text, panels(found["rows"])
    )


def panels(rows: list[dict]) -> list[curves.Panel]:
    """One for each backend: milliseconds of a step by depth."""
    found = []
    for engine in output.distinct(rows, "engine"):
        for work in output.distinct(rows, "work"):
            mine = output.find(rows, engine=engine, work=work)
            if mine:
                found.append(
                    curves.Panel(
                        f"{engine}, {work}",
                        "depth of the trees",
                        "time [ms]",
                        curves.over(mine, "depth", "ms"),
                    )
                )
    return found
