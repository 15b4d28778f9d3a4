"""The results of `callbacks`: a table, a picture, and both as JSON."""

import argparse
from pathlib import Path
from typing import Any

from benchmarks import step_time_command
from benchmarks.callbacks import KINDS, Case
from benchmarks.callbacks import run as run_case
from benchmarks.harness import tables as output
from benchmarks.harness.options import add_backends, positive
from benchmarks.step_time_picture import figure_class

NAME = "callbacks"
HELP = "what counting visits and the callbacks add to a `fit` step"

LEGEND = """\
plain      ms of a `fit` step of a model that does not count visits
counted    its layer counts the visits of its leaves: median over rounds of the
           time over that of `plain` in the same round, and quartiles
callbacks  and `GateEntropy` and `PathUtilization` read them at the end of the
           epoch, likewise
"""
COLORS = {"counted": ("#0072B2", "o"), "callbacks": ("#D55E00", "s")}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the benchmark."""
    add = parser.add_argument
    add_backends(parser)
    add("--depths", nargs="+", type=positive, default=[4, 10])
    add("--batch", type=positive, default=256, help="examples in a batch")
    add("--units", type=positive, default=64, help="inputs, and output units")
    add("--trees", type=positive, default=64, help="trees of the layer")
    add("--rounds", type=positive, default=9, help="epochs of each kind")
    add(
        "--steps",
        type=positive,
        help="steps of an epoch; by default what a second allows",
    )
    add(
        "--output",
        type=Path,
        default=Path("benchmarks/output"),
        help="folder for callbacks.json, .txt and .png",
    )


def check(options: argparse.Namespace) -> None:
    """Refuses what would fail only after other cases had been measured."""
    step_time_command.check(options)


def run(options: argparse.Namespace, command: str) -> int:
    """Measures every case, and prints and writes what was found."""
    rows: list[dict] = []
    failures: list[str] = []
    for case in _cases(options):
        print(f"{case.backend} depth {case.depth}: ", end="", flush=True)
        try:
            rows.append(run_case(case))
            ratio = rows[-1]["over_plain"]["callbacks"][0]
            print(f"{ratio:.3f} of a plain step", flush=True)
        except RuntimeError as error:
            failures.append(str(error))
            print("failed", flush=True)
    versions = {row["backend"]: row["backend_version"] for row in rows}
    found = output.about(command, versions)
    found |= {"rows": rows, "failures": failures}
    print(f"\n{text(found)}")
    write(found, options.output)
    print(f"\nWrote {options.output / 'callbacks'}.json, .txt and .png")
    return 1 if failures else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    sizes = (options.batch, options.units, options.trees)
    return [
        Case(backend, depth, *sizes, options.rounds, options.steps)
        for backend in dict.fromkeys(options.backend)
        for depth in sorted(set(options.depths))
    ]


def text(found: dict) -> str:
    """The results for people."""
    lines = [*output.heading(found), "", LEGEND]
    form = "{:<11}{:>5}{:>6}{:>9}   {:<20}   {:<20}"
    headings = ("backend", "depth", "steps", "plain", *KINDS[1:])
    lines.append(form.format(*headings).rstrip())
    for row in found["rows"]:
        ratios = (
            "{:.3f} ({:.3f} to {:.3f})".format(*row["over_plain"][kind])
            for kind in KINDS[1:]
        )
        numbers = (row["depth"], row["steps"], f"{row['ms']['plain']:.2f}")
        lines.append(form.format(row["backend"], *numbers, *ratios).rstrip())
    lines += [f"failed: {failure}" for failure in found["failures"]]
    return "\n".join(lines)


def draw(found: dict) -> Any:
    """A figure of the ratios, with quartiles."""
    rows = found["rows"]
    figure = figure_class()(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for number, kind in enumerate(KINDS[1:]):
        color, marker = COLORS[kind]
        median, low, high = zip(
            *(row["over_plain"][kind] for row in rows), strict=True
        )
        below = [m - q for m, q in zip(median, low, strict=True)]
        above = [q - m for m, q in zip(median, high, strict=True)]
        places = [place + 0.16 * number - 0.08 for place in range(len(rows))]
        axes.errorbar(
            places,
            median,
            yerr=(below, above),
            color=color,
            marker=marker,
            linestyle="",
            capsize=3,
            label=kind,
        )
    axes.axhline(1.0, color="black", linewidth=0.8)
    labels = [f"{row['backend']}\ndepth {row['depth']}" for row in rows]
    axes.set_xticks(range(len(rows)), labels=labels)
    axes.set(ylabel="time of a fit step over a plain one", xlabel="case")
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(found["machine"], fontsize=10)
    return figure


def write(found: dict, folder: Path) -> None:
    """Writes `callbacks.json`, `.txt` and, if there are rows, `.png`."""
    output.write("callbacks", found, text(found), folder)
    if found["rows"]:
        draw(found).savefig(folder / "callbacks.png", dpi=150)
