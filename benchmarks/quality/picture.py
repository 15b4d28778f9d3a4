"""The pictures of `quality`: bits over work and over parameters."""

from pathlib import Path
from typing import Any

from benchmarks.quality.networks import FROZEN
from benchmarks.quality.report import best
from benchmarks.step_time_picture import figure_class

AXES = {
    "multiply_adds": "thousand multiply-adds of an example, as trained",
    "folded": "thousand multiply-adds of an example, folded",
    "parameters": "thousand parameters",
}
# Okabe and Ito's colours, which the colour-blind can tell apart, and markers,
# by family and number of trees.
STYLES = {
    ("dense", 0): ("#000000", "o"),
    ("mixture", 0): ("#D55E00", "D"),
    ("scaled mixture", 0): ("#D55E00", "d"),
    ("tree", 1): ("#CC79A7", "^"),
    ("tree", 16): ("#009E73", "s"),
    ("tree", 64): ("#0072B2", "v"),
    ("tree", None): ("#E69F00", "P"),
}


def family(row: dict) -> str:
    """The line that a network is drawn on."""
    trees = f"{row['trees'] or 'all'} tree" + "s" * (row["trees"] != 1)
    name = {
        "dense": "Dense",
        "mixture": "mixture of experts, top 1",
        "scaled mixture": "scaled mixture, top 1",
        "leaves": f"leaves only, {trees}",
        "roots and leaves": f"roots and leaves, {trees}",
        "tree": trees,
    }[row["family"]]
    if row["weight_decay"]:
        name += f", decay {row['weight_decay']:g}"
    return name + (", Adam" if row["optimizer"] == "Adam" else "")


def style(row: dict) -> dict:
    """How a line is drawn: dotted with decay, hollow with frozen levels."""
    kind = "tree" if row["family"] in FROZEN else row["family"]
    color, marker = STYLES[kind, row["trees"]]
    fill = "left" if row["weight_decay"] else "full"
    fill = {"leaves": "none", "roots and leaves": "bottom"}.get(
        row["family"], fill
    )
    return {
        "color": color,
        "marker": marker,
        "markersize": 6,
        "linewidth": 1.2,
        "linestyle": ":" if row["weight_decay"] else "-",
        "fillstyle": fill,
    }


def draw(found: dict, task: str) -> Any:
    """A figure with a panel for each of `AXES`, one line per family.

    Of the networks whose learning rate was searched, if any was.
    """
    rows = [row for row in best(found["rows"]) if row["task"] == task]
    rows = [row for row in rows if row["rates"] > 1] or rows
    figure = figure_class()(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    names = list(dict.fromkeys(map(family, rows)))
    for panel, (axis, label) in zip(panels, AXES.items(), strict=True):
        panel.set(xlabel=label)
        panel.grid(linewidth=0.5, alpha=0.4)
        for name in names:
            ours = [row for row in rows if family(row) == name]
            ours.sort(key=lambda row: row["parameters"])
            panel.errorbar(
                [row[axis] / 1000 for row in ours],
                [row["bits"] for row in ours],
                [row["bits_spread"] or 0 for row in ours],
                label=name,
                **style(ours[0]),
            )
        # After the error bars: around a single point on axes that are
        # logarithmic before, Matplotlib leaves no space.
        _scale(panel.xaxis, [row[axis] for row in rows])
    what = {"bytes": "bits per byte", "digits": "bits per digit"}[task]
    panels[0].set_ylabel(f"held-out {what}")
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
    )
    tried = _span(rows, "rates")
    rates = (
        "all at one learning rate"
        if tried == "1"
        else f"each at the best of {tried} learning rates"
    )
    figure.suptitle(
        f"{task}: {_span(rows, 'steps')} steps, {rates}; lower is better",
        fontsize=10,
    )
    return figure


def _span(rows: list[dict], name: str) -> str:
    """The values of a column: one number, or the least and the most."""
    values = {row[name] for row in rows}
    return " to ".join(map(str, sorted({min(values), max(values)})))


def _scale(axis: Any, values: list) -> None:
    """Makes an axis logarithmic, with as many numbers as have space."""
    axis.axes.set_xscale("log")
    several_decades = max(values) > 100 * min(values)
    axis.get_major_locator().set_params(
        subs=(1,) if several_decades else (1, 2, 5)
    )
    axis.set_major_formatter("{x:g}")
    axis.axes.minorticks_off()


def write(found: dict, folder: Path) -> None:
    """Writes `quality-bytes.png` and `quality-digits.png`."""
    for task in {row["task"] for row in found["rows"]}:
        draw(found, task).savefig(folder / f"quality-{task}.png", dpi=150)
