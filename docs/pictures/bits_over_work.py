"""Draws `bits-over-work.png`: what Dense layers and trees reach, at which work.

PYTHONPATH=. python docs/pictures/bits_over_work.py

The numbers are those of `python -m benchmarks quality --tasks context`, as they
are stored with the benchmarks: each network at the learning rate that was best
for its first seed on text for choosing, mean over the seeds on other text.
"""

import json
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.quality import report

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "benchmarks/results/context-3000-steps/quality.json"
DENSE = ("Dense 128", "Dense 256", "Dense 512", "Dense 1152")
N_GRAMS = {
    "Dense 128 and n-grams of 1,2,3": "concatenated",
    "Dense 128 and added n-grams of 2,3": "added",
}
TREES = {
    "hash, depth 7, 16 trees, orders 2, levels ends": "depth 7",
    "hash, depth 9, 16 trees, orders 1,2,3, levels 0,3,6,9": "depth 9",
}
BLACK, ORANGE, BLUE = "#000000", "#D55E00", "#0072B2"


def draw():
    """Returns the figure."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    found = {row["name"]: row for row in report.best(rows)}
    figure = Figure(figsize=(8, 4.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    draw_group(
        axes,
        found,
        {name: name.removeprefix("Dense ") for name in DENSE},
        label="Dense, by width",
        color=BLACK,
        fmt="o-",
    )
    draw_group(
        axes,
        found,
        N_GRAMS,
        label="Dense 128 and tables of n-grams",
        color=ORANGE,
        fmt="^",
    )
    draw_group(
        axes,
        found,
        TREES,
        label="trees in place of one Dense layer of Dense 128, folded",
        color=BLUE,
        fmt="s",
    )
    axes.set_xscale("log")
    axes.set_xticks(*[[100, 200, 400, 800, 1600]] * 2)
    axes.minorticks_off()
    axes.set_xlim(90, 3200)
    axes.set_xlabel("multiply-adds per byte, in thousands")
    axes.legend(loc="upper right", fontsize=9)
    name(axes)
    return figure


def name(axes):
    """Says what is drawn, where the pictures of this study agree."""
    axes.set_ylabel("bits per byte of unseen files (lower is better)")
    axes.set_title(
        "Python source text, 3,000 steps, each network at its best learning "
        "rate",
        fontsize=10,
    )
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)


def draw_group(axes, found, names, **style):
    """Draws networks as points with their spread, and what each is called."""
    rows = [found[name] for name in names]
    work = [row["folded"] / 1000 for row in rows]
    bits = [row["bits"] for row in rows]
    spread = [row["bits_spread"] or 0 for row in rows]
    axes.errorbar(work, bits, spread, markersize=7, linewidth=1.2, **style)
    for text, x, y in zip(names.values(), work, bits, strict=True):
        axes.annotate(
            text,
            (x, y),
            (9, 3),
            textcoords="offset points",
            fontsize=8.5,
            color=style["color"],
        )


if __name__ == "__main__":
    draw().savefig(HERE / "bits-over-work.png")
