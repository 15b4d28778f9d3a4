"""Draws `bits-over-depth.png`: deeper trees predict better at the same work.

PYTHONPATH=. python docs/pictures/bits_over_depth.py

The numbers are from the same file as those of `bits_over_work.py`.
"""

import json

from matplotlib.figure import Figure

from benchmarks.quality import report
from docs.pictures.bits_over_work import BLACK, BLUE, HERE, RESULTS, name

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
    for network in DENSE:
        row = found[network]
        axes.axhline(row["bits"], color=BLACK, linewidth=1, linestyle=":")
        work = row["folded"] / found["Dense 128"]["folded"]
        text = "" if network == "Dense 128" else f", {work:.0f} times the work"
        axes.annotate(
            f"{network}{text}",
            (14.9, row["bits"]),
            (0, 3),
            textcoords="offset points",
            fontsize=8.5,
            ha="right",
        )
    axes.set_xticks(range(2, 15, 2))
    axes.set_xlim(1.4, 15)
    axes.set_xlabel("depth of the trees (beside each point: all parameters)")
    axes.legend(loc=(0.24, 0.72), fontsize=9)
    name(axes)
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "bits-over-depth.png")
