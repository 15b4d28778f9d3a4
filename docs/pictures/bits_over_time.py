"""Draws `bits-over-time.png`: bits over the time of training, and of a byte.

PYTHONPATH=. python docs/pictures/bits_over_time.py

The numbers are those of `python -m benchmarks quality --tasks context` with 300
to 10,000 steps, each network at the learning rate that was best for it with as
many, and of `python -m benchmarks serving --kinds bytes`, under JAX.
"""

import json

from matplotlib.figure import Figure

from benchmarks.harness import tables
from benchmarks.quality import report
from docs.pictures.bits_over_work import BLACK, BLUE, HERE, ORANGE, RESULTS

FOLDER = HERE.parents[1] / "benchmarks/results"
SHALLOW = "hash, depth 6, 16 trees, orders 2, levels ends"
DEEP = "hash, depth 9, 16 trees, orders 1,2,3, levels 0,3,6,9"
TRAINED = {
    "Dense 128": {"color": BLACK, "fmt": "o:"},
    "Dense 512": {"color": BLACK, "fmt": "o--"},
    "Dense 1152": {"color": BLACK, "fmt": "o-"},
    "Dense 128 and added n-grams of 2,3": {"color": ORANGE, "fmt": "^-"},
    SHALLOW: {"color": BLUE, "fmt": "s--"},
    DEEP: {"color": BLUE, "fmt": "s-"},
}
LABELS = {
    "Dense 128 and added n-grams of 2,3": "Dense 128 and tables of n-grams",
    SHALLOW: "trees, depth 6, root and leaves",
    DEEP: "trees, depth 9, four levels",
}
# The label of a point and the network that was trained, by the network that is
# timed for a byte.
DENSE = {
    (width, "dense"): (f"Dense {width}",) * 2 for width in (128, 512, 1152)
}
FOLDED = {
    (512, "float32"): (
        "depth 6, four levels",
        "hash, depth 6, 16 trees, orders 1,2,3, levels 0,2,4,6",
    ),
    (1152, "float32"): ("depth 9", DEEP),
}


def draw():
    """Returns the figure."""
    rows = read(RESULTS) + read(FOLDER / "context-by-time/quality.json")
    figure = Figure(figsize=(10, 5), dpi=160, layout="constrained")
    training, serving = figure.subplots(1, 2, sharey=True)
    draw_training(training, rows)
    draw_serving(serving, rows)
    lines = training.get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=3, fontsize=8.5)
    return figure


def read(path):
    """Returns the rows of a benchmark's results."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def draw_training(axes, rows):
    """Draws bits over seconds: steps times what a step took."""
    found = report.best(rows)
    for network, style in TRAINED.items():
        points = tables.find(found, name=network)
        points = sorted(points, key=lambda row: row["steps"])
        # The runs of 3,000 steps are older, and not timed by the step.
        timed = [row["step_ms"] for row in points if "step_ms" in row]
        axes.errorbar(
            [
                row["steps"] * row.get("step_ms", sum(timed) / len(timed)) / 1e3
                for row in points
            ],
            [row["bits"] for row in points],
            [row["bits_spread"] or 0 for row in points],
            label=LABELS.get(network, network),
            markersize=5,
            linewidth=1.2,
            **style,
        )
    label_axes(
        axes, "seconds of training on one core", [1, 3, 10, 30, 100, 300]
    )
    axes.set_ylabel("bits per byte of unseen files (lower is better)")
    axes.set_title("300 to 10,000 steps, each at its best rate", fontsize=10)


def draw_serving(axes, rows):
    """Draws bits over the microseconds of a byte, with trees folded."""
    timed = tables.find(
        read(FOLDER / "serving-bytes/serving.json"), engine="jax"
    )
    trained = {
        row["name"]: row for row in report.best(tables.find(rows, steps=3000))
    }
    for points, style in ((DENSE, "o-"), (FOLDED, "s")):
        color = BLACK if points is DENSE else BLUE
        times, bits, spreads = [], [], []
        for (units, form), (text, network) in points.items():
            (row,) = tables.find(timed, units=units, name=form)
            times.append(row["us"]["median"])
            bits.append(trained[network]["bits"])
            spreads.append(trained[network]["bits_spread"])
            axes.annotate(
                text,
                (times[-1], bits[-1]),
                (9, 3),
                textcoords="offset points",
                fontsize=8.5,
                color=color,
            )
        axes.errorbar(
            times,
            bits,
            spreads,
            fmt=style,
            color=color,
            markersize=7,
            linewidth=1.2,
        )
    label_axes(
        axes, "microseconds for one byte, trees folded", [20, 50, 100, 200, 500]
    )
    axes.set_xlim(15, 900)
    axes.set_title("3,000 steps, each at its best rate", fontsize=10)


def label_axes(axes, text, ticks):
    """Makes the horizontal axis logarithmic, with these numbers on it."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, ticks)
    axes.minorticks_off()
    axes.set_xlabel(text)
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw().savefig(HERE / "bits-over-time.png")
