"""Panels of curves on logarithmic axes, for the pictures of benchmarks."""

from typing import Any, NamedTuple

from benchmarks.harness.tables import distinct, find
from benchmarks.step_time_picture import figure_class

# Okabe and Ito's colours, which the colour-blind can tell apart, and markers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vP"


class Curve(NamedTuple):
    """Medians, and the quartiles around them, over x."""

    label: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


class Panel(NamedTuple):
    """Curves that share axes."""

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]


def over(rows: list[dict], x: str, y: str, by: str = "name") -> list[Curve]:
    """A curve for each value of a column, of the rows with a y above zero."""
    found = []
    for label in distinct(rows, by):
        mine = [
            row
            for row in find(rows, **{by: label})
            if row[y] and row[y]["median"] > 0
        ]
        mine.sort(key=lambda row: row[x])
        if mine:
            low, high = zip(*(row[y]["quartiles"] for row in mine), strict=True)
            found.append(
                Curve(
                    label,
                    [row[x] for row in mine],
                    [row[y]["median"] for row in mine],
                    list(low),
                    list(high),
                )
            )
    return found


def scaled(curve: Curve, x: float, y: float) -> Curve:
    """The curve in other units."""
    return Curve(
        curve.label,
        [one * x for one in curve.x],
        *([one * y for one in part] for part in curve[2:]),
    )


def draw(title: str, panels: list[Panel]) -> Any:
    """A figure of the panels side by side."""
    figure = figure_class()(
        figsize=(4.2 * len(panels) + 1.2, 5.2), layout="constrained"
    )
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    labels = list(
        dict.fromkeys(c.label for panel in panels for c in panel.curves)
    )
    styles = {
        label: (COLORS[number % 6], MARKERS[number % 6])
        for number, label in enumerate(labels)
    }
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel, styles)
    lines = {line.get_label(): line for axis in axes for line in axis.lines}
    figure.legend(
        handles=list(lines.values()),
        loc="outside lower center",
        ncols=2 if len(panels) == 1 else 4,
    )
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_panel(axis: Any, panel: Panel, styles: dict) -> None:
    axis.set(
        title=panel.title,
        xlabel=panel.x_label,
        ylabel=panel.y_label,
        xscale="log",
        yscale="log",
    )
    axis.grid(linewidth=0.5, alpha=0.4)
    ticks = sorted({x for curve in panel.curves for x in curve.x})
    axis.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    for label, x, y, low, high in panel.curves:
        color, marker = styles[label]
        axis.plot(x, y, color=color, marker=marker, label=label)
        axis.fill_between(x, low, high, color=color, alpha=0.2)
