"""The pictures of `quality`: bits over work and over parameters."""

from pathlib import Path
from typing import Any

from keras_treegate.benchmarks.picture import figure_class
from keras_treegate.benchmarks.quality_report import summary

AXES = {
    "multiply_adds": "multiply-adds of an example, as trained",
    "folded": "multiply-adds of an example, folded",
    "parameters": "parameters",
}
# Okabe and Ito's colours, which the colour-blind can tell apart, and markers.
STYLES = (
    *(("#000000", "o"), ("#D55E00", "D"), ("#CC79A7", "^"), ("#0072B2", "s")),
    *(("#009E73", "v"), ("#56B4E9", "P"), ("#E69F00", "X"), ("#F0E442", "*")),
)


def family(row: dict) -> str:
    """The line that a network is drawn on."""
    trees = f"{row['trees'] or 'all'} tree" + "s" * (row["trees"] != 1)
    name = {
        "dense": "Dense",
        "mixture": "mixture of experts, top 1",
        "leaves": f"leaves only, {trees}",
        "tree": trees,
    }[row["family"]]
    if row["weight_decay"]:
        name += f", decay {row['weight_decay']:g}"
    return name + (", Adam" if row["optimizer"] == "Adam" else "")


def draw(found: dict, task: str) -> Any:
    """A figure with a panel for each of `AXES`, one line per family."""
    rows = [row for row in summary(found["rows"]) if row["task"] == task]
    figure = figure_class()(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    names = list(dict.fromkeys(map(family, rows)))
    for panel, (axis, label) in zip(panels, AXES.items(), strict=True):
        panel.set(xlabel=label, xscale="log")
        panel.grid(linewidth=0.5, alpha=0.4)
        for number, name in enumerate(names):
            ours = [row for row in rows if family(row) == name]
            ours.sort(key=lambda row: row["parameters"])
            color, marker = STYLES[number % len(STYLES)]
            panel.errorbar(
                [row[axis] for row in ours],
                [row["bits"] for row in ours],
                [row["bits_spread"] or 0 for row in ours],
                color=color,
                marker=marker,
                markersize=5,
                linewidth=1.2,
                label=name,
            )
    what = {"bytes": "bits per byte", "digits": "bits per digit"}[task]
    panels[0].set_ylabel(f"held-out {what}")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
    )
    steps = sorted({row["steps"] for row in rows})
    figure.suptitle(
        f"{task}: {', '.join(map(str, steps))} steps, one learning rate for "
        "all; lower is better",
        fontsize=10,
    )
    return figure


def write(found: dict, folder: Path) -> None:
    """Writes `quality-bytes.png` and `quality-digits.png`."""
    for task in {row["task"] for row in found["rows"]}:
        draw(found, task).savefig(folder / f"quality-{task}.png", dpi=150)
