"""Draws `bits-over-work.png`: what Dense layers and trees reach, at which work.

python docs/pictures/bits_over_work.py

The numbers are those of `python -m benchmarks quality` at 3,000 steps, as they
are stored with the benchmarks: each network at the learning rate that was best
for its first seed, mean over the seeds.
"""

import json
import statistics
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "benchmarks/results/quality-3000-steps/quality.json"
WIDTHS = (256, 512, 1024, 1152)
DEPTHS = (2, 4, 6, 8, 10)
BLACK, BLUE = "#000000", "#0072B2"


def networks():
    """Returns {name: the summary of a network at its best learning rate}."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    by_name = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_name[row["name"]][row["rate"]].append(row)
    return {name: best(by_rate) for name, by_rate in by_name.items()}


def best(by_rate):
    """Returns the summary at the rate that is best for the first seed."""
    first = {
        rate: row["bits"]
        for rate, rows in by_rate.items()
        for row in rows
        if row["seed"] == 0
    }
    rows = by_rate[min(first, key=first.__getitem__)]
    bits = [row["bits"] for row in rows]
    return {
        "bits": statistics.mean(bits),
        "spread": statistics.stdev(bits) if len(bits) > 1 else 0,
        "trained": rows[0]["multiply_adds"] / 1000,
        "folded": rows[0]["folded"] / 1000,
    }


def draw():
    """Returns the figure."""
    found = networks()
    figure = Figure(figsize=(8, 4.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    draw_trees(
        axes,
        {depth: found[f"tree, depth {depth}, 64 trees"] for depth in DEPTHS},
    )
    draw_dense(axes, {width: found[f"Dense {width}"] for width in WIDTHS})
    axes.set_xscale("log")
    axes.set_xticks(*[[256, 512, 1024, 2048]] * 2)
    axes.minorticks_off()
    axes.set_xlim(215, 2900)
    axes.set_xlabel("multiply-adds per example, in thousands")
    axes.set_ylabel("held-out bits per byte (lower is better)")
    axes.set_title(
        "Python source text, 3,000 steps, each network at its best learning "
        "rate",
        fontsize=10,
    )
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", fontsize=9)
    return figure


def draw_dense(axes, rows):
    """Draws the line of Dense layers, by width."""
    axes.errorbar(
        [row["folded"] for row in rows.values()],
        [row["bits"] for row in rows.values()],
        [row["spread"] for row in rows.values()],
        color=BLACK,
        marker="o",
        markersize=7,
        linewidth=1.2,
        label="Dense, by width",
        zorder=3,
    )
    for width, row in rows.items():
        left = width == min(rows)
        label(axes, width, row["folded"], row, BLACK, (-29 if left else 9, 4))


def draw_trees(axes, rows):
    """Draws trees folded, and beside that what they cost in training."""
    axes.errorbar(
        [row["folded"] for row in rows.values()],
        [row["bits"] for row in rows.values()],
        [row["spread"] for row in rows.values()],
        color=BLUE,
        marker="s",
        markersize=7,
        linestyle="none",
        label="64 trees in place of Dense 256, folded",
    )
    axes.plot(
        [row["trained"] for row in rows.values()],
        [row["bits"] for row in rows.values()],
        "s",
        color=BLUE,
        markersize=6,
        markerfacecolor="white",
        label="the same, as trained",
    )
    for depth, row in rows.items():
        ends = row["folded"], row["trained"]
        axes.plot(ends, [row["bits"]] * 2, ":", color=BLUE, linewidth=1)
        place = (5, 5) if depth == 8 else (8, -3)
        label(axes, f"depth {depth}", row["trained"], row, BLUE, place)


def label(axes, text, work, row, color, offset):
    axes.annotate(
        text,
        (work, row["bits"]),
        offset,
        textcoords="offset points",
        fontsize=8.5,
        color=color,
    )


if __name__ == "__main__":
    draw().savefig(HERE / "bits-over-work.png")
