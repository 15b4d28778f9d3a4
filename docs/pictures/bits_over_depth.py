"""Draws `bits-over-depth.png`: deeper trees predict better at the same work.

PYTHONPATH=. python docs/pictures/bits_over_depth.py

The numbers are from the same file as those of `bits_over_work.py`.
"""

import json

from matplotlib.figure import Figure

from benchmarks.quality import report
from docs.pictures.bits_over_work import BLACK, BLUE, HERE, RESULTS

TREES = "hash, depth {}, 16 trees, orders 2, levels ends"
DENSE = ("Dense 128", "Dense 512", "Dense 1152")
DEPTHS = range(1, 15)


def draw():
    """Returns the figure."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    found = {row["name"]: row for row in report.best(rows)}
    figure = Figure(figsize=(8, 4.4), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    trees = {depth: found.get(TREES.format(depth)) for depth in DEPTHS}
    trees = {depth: row for depth, row in trees.items() if row}
    axes.errorbar(
        list(trees),
        [row["bits"] for row in trees.values()],
        [row["bits_spread"] or 0 for row in trees.values()],
        label="Dense 128 with trees in one layer, the work of Dense 128",
        markersize=7,
        linewidth=1.2,
        color=BLUE,
        fmt="s-",
    )
    for depth, row in trees.items():
        axes.annotate(
            f"{row['parameters'] / 1e6:.3g} M",
            (depth, row["bits"]),
            (2, 9),
            textcoords="offset points",
            fontsize=8.5,
            color=BLUE,
        )
    for name in DENSE:
        row = found[name]
        axes.axhline(row["bits"], color=BLACK, linewidth=1, linestyle=":")
        work = row["folded"] / found["Dense 128"]["folded"]
        text = "" if name == "Dense 128" else f", {work:.0f} times the work"
        axes.annotate(
            f"{name}{text}",
            (14.9, row["bits"]),
            (0, 3),
            textcoords="offset points",
            fontsize=8.5,
            ha="right",
        )
    axes.set_xticks(range(2, 15, 2))
    axes.set_xlim(1.4, 15)
    axes.set_xlabel("depth of the trees (beside each point: all parameters)")
    axes.set_ylabel("bits per byte of unseen files (lower is better)")
    axes.set_title(
        "Python source text, 3,000 steps, each network at its best learning "
        "rate",
        fontsize=10,
    )
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc=(0.24, 0.72), fontsize=9)
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "bits-over-depth.png")
