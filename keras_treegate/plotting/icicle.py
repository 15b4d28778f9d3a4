"""A picture of the visits of one tree, level by level."""

from typing import TYPE_CHECKING

import numpy as np

from keras_treegate.core import checks
from keras_treegate.core import routing_metrics as measures
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.plotting import canvas
from keras_treegate.plotting.sources import (
    LayerOrVisits,
    check_visited,
    visits_of,
)

if TYPE_CHECKING:  # matplotlib may not be installed
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LEVELS = 10
ROOT, ZERO, ONE = "#BBBBBB", "#56B4E9", "#E69F00"


def icicle(source: LayerOrVisits, tree: int = 0) -> "Figure":
    """Draws how the visits of one tree split at each bit.

    The root is at the top. Below each node are its two children, as wide as
    their share of the visits: blue for bit 0, orange for bit 1. Gates in
    balance halve every bar; a bit that is constant leaves one colour. At most
    ten levels are drawn.

    Args:
        source: A `TreeGatedDense`, of which the `leaf_visits` are drawn, or an
            array of visits (G, 2^D).
        tree: Integer, which tree to draw. Defaults to `0`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: For another `source`, a tree without any visit, or a `tree`
            that is not there.
        ImportError: Where matplotlib is not installed.

    Example:

    >>> import keras_treegate
    >>> figure = keras_treegate.plotting.icicle([[4, 0, 2, 2]])
    >>> figure.axes[0].get_xlabel()
    'share of the visits of tree 0 [%]'
    """
    visits, name = visits_of(source)
    tree = checks.integer("tree", tree, 0)
    if tree >= len(visits):
        raise ValueError(
            f"`tree` must be below the number of trees, {len(visits)}. "
            f"Received: tree={tree}. The first one is `tree=0`."
        )
    check_visited(visits[tree], name)
    share = measures.shares(visits)[tree]
    depth = measures.depth_of(visits)
    levels = min(depth, MAX_LEVELS)
    figure = canvas.figure(8.0, 1.8 + 0.45 * (levels + 1))
    axes = figure.add_subplot()
    for level in range(levels + 1):
        _draw_level(axes, level, share.reshape(2**level, -1).sum(axis=1))
    unseen = int(np.sum(share == 0))
    canvas.tidy(
        axes,
        xlim=(0, 100),
        ylim=(levels + 0.5, -0.5),
        xlabel=f"share of the visits of tree {tree} [%]",
        ylabel="level",
        yticks=range(levels + 1),
        title=f"{name}, tree {tree}: {visits[tree].sum():,} visits, "
        f"{unseen} of {share.size} leaves without one",
    )
    axes.set_yticklabels(_labels(source, tree, levels))
    _draw_legend(figure)
    return figure


def _draw_level(axes: "Axes", level: int, shares: np.ndarray) -> None:
    widths = 100 * shares
    starts = np.cumsum(widths) - widths
    colors = [ROOT] if level == 0 else [ZERO, ONE] * (len(widths) // 2)
    seen = np.flatnonzero(widths)
    axes.broken_barh(
        [(starts[node], widths[node]) for node in seen],
        (level - 0.45, 0.9),
        facecolors=[colors[node] for node in seen],
        edgecolor="white",
        linewidth=0.8 if level <= 5 else 0.0,
    )
    for node in seen:
        if widths[node] >= 4:
            axes.text(
                starts[node] + widths[node] / 2,
                level,
                f"{widths[node]:.0f}",
                ha="center",
                va="center",
                fontsize=8,
            )


def _labels(source: LayerOrVisits, tree: int, levels: int) -> list[str]:
    """Names the levels, for a layer with the unit whose sign decides there."""
    labels = [str(level) for level in range(levels + 1)]
    if isinstance(source, TreeGatedDense) and isinstance(source.gate, SignGate):
        units = source.gate.units[tree]
        for level in range(1, levels + 1):
            labels[level] = f"{level} (unit {units[level - 1]})"
    return labels


def _draw_legend(figure: "Figure") -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=ZERO, label="bit 0"),
        Patch(color=ONE, label="bit 1"),
    ]
    figure.legend(
        handles=handles, loc="outside lower right", ncols=2, frameon=False
    )
