"""Panels of curves on logarithmic axes, for the pictures of benchmarks."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.harness.tables import distinct, find
from keras_treegate.plotting import canvas


class Axes(NamedTuple):
    """The columns that are drawn, and how.

    x: the column of numbers.
    y: the column of spreads.
    x_label, y_label: of these two.
    by: the column whose values are the labels of curves.
    x_unit, y_unit: divide the numbers.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    by: str = "name"
    x_unit: float = 1
    y_unit: float = 1


class Curve(NamedTuple):
    """Medians, and the quartiles around them, over x.

    Without quartiles, a line that only guides the eye.
    """

    label: str
    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


class Panel(NamedTuple):
    """Curves that share axes; `top` labels values of x above them."""

    title: str
    axes: Axes
    curves: list[Curve]
    top: dict[float, str] = {}  # noqa: RUF012
    top_label: str = ""


def panels(
    rows: list[dict], axes: Axes, apart: tuple[str, ...] = ("backend",)
) -> list[Panel]:
    """Returns a panel for each combination of the values of some columns."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        title = ", ".join(row[name] for name in apart)
        groups.setdefault(title, []).append(row)
    return [
        Panel(title, axes, curves(group, axes))
        for title, group in groups.items()
    ]


def curves(rows: list[dict], axes: Axes) -> list[Curve]:
    """Returns a curve for each label, of the rows with y above zero."""
    x, y = axes.x, axes.y
    found = []
    for label in distinct(rows, axes.by):
        mine = [row for row in find(rows, **{axes.by: label}) if row[y]]
        mine = [row for row in mine if row[y]["median"] > 0]
        mine.sort(key=lambda row: row[x])
        if mine:
            low, high = zip(*(row[y]["quartiles"] for row in mine), strict=True)
            found.append(
                Curve(
                    label,
                    x=[row[x] / axes.x_unit for row in mine],
                    y=[row[y]["median"] / axes.y_unit for row in mine],
                    low=[value / axes.y_unit for value in low],
                    high=[value / axes.y_unit for value in high],
                )
            )
    return found


def draw(title: str, panels: Iterable[Panel]) -> Any:
    """Returns a figure of panels side by side, `None` if all are empty."""
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        return None
    figure = canvas.figure(4.2 * len(panels) + 1.2, 5.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    labels = dict.fromkeys(
        c.label for panel in panels for c in panel.curves if c.low
    )
    styles = {label: canvas.style(n) for n, label in enumerate(labels)}
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
        xlabel=panel.axes.x_label,
        ylabel=panel.axes.y_label,
        xscale="log",
        yscale="log",
    )
    axis.grid(linewidth=0.5, alpha=0.4)
    ticks = sorted({x for curve in panel.curves for x in curve.x})
    axis.set_xticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    for label, x, y, low, high in panel.curves:
        if not low:
            axis.plot(x, y, color="black", ls="--", lw=0.8, label=label)
            continue
        axis.plot(x, y, label=label, **styles[label])
        axis.fill_between(x, low, high, color=styles[label]["color"], alpha=0.2)
    if panel.top:
        above = axis.secondary_xaxis("top")
        above.set_xticks(list(panel.top), labels=list(panel.top.values()))
        above.minorticks_off()
        above.set_xlabel(panel.top_label)
