"""A picture of the visits of all leaves."""

from typing import TYPE_CHECKING

import numpy as np

from keras_treegate.core import routing_metrics as measures
from keras_treegate.plotting import canvas
from keras_treegate.plotting.sources import (
    LayerOrVisits,
    check_visited,
    visits_of,
)

if TYPE_CHECKING:  # matplotlib may not be installed
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

MAX_COLUMNS = 512


def utilization(source: LayerOrVisits) -> "Figure":
    """Draws the visits of all leaves, trees by leaves, as a heat map.

    The colour tells how often a leaf is visited relative to an even share, on a
    logarithmic scale: 1 is even, 2 twice as often. Leaves without a visit are
    white. Where a tree has more than 512 leaves, neighbours, which share all
    but the last bits, are drawn as one with the mean of their visits.

    Args:
        source: A `TreeGatedDense`, of which the `leaf_visits` are drawn, or an
            array of visits (G, 2^D).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: For another `source`, or one without any visit.
        ImportError: Where matplotlib is not installed.

    Example:

    >>> import keras_treegate
    >>> visits = [[4, 0, 2, 2], [1, 1, 3, 3]]
    >>> figure = keras_treegate.plotting.utilization(visits)
    >>> figure.axes[0].get_ylabel()
    'tree'
    """
    visits, name = visits_of(source)
    check_visited(visits, name)
    trees, leaves = visits.shape
    group = max(1, leaves // MAX_COLUMNS)
    relative = measures.shares(visits) * leaves
    relative = relative.reshape(trees, -1, group).mean(axis=-1)
    height = min(2.2 + 0.16 * trees, 7.0)
    figure = canvas.figure(8.0, height)
    axes = figure.add_subplot()
    image = axes.imshow(
        np.ma.masked_equal(relative, 0),
        aspect="auto",
        interpolation="nearest",
        cmap=canvas.COLOR_MAP,
        norm=_norm(relative),
        extent=(-0.5, leaves - 0.5, trees - 0.5, -0.5),
    )
    axes.set_facecolor(canvas.NOTHING)
    bar = figure.colorbar(image, ax=axes, label="visits over an even share")
    bar.set_ticks(_ticks(image.norm.vmax), labels=_tick_labels(image.norm.vmax))
    bar.minorticks_off()
    in_groups = f", {group} drawn as one" if group > 1 else ""
    axes.set(
        xlabel=f"leaf code (of {leaves}{in_groups})",
        ylabel="tree",
        title=f"{name}: {_summary(visits)}",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    figure.text(0.01, 0.01, "white: no visit", fontsize=8)
    return figure


def _norm(relative: np.ndarray) -> "LogNorm":
    """Makes a logarithmic scale with 1 in its middle."""
    from matplotlib.colors import LogNorm

    seen = np.log2(relative[relative > 0])
    reach = 2.0 ** max(1.0, float(np.ceil(np.abs(seen).max())))
    return LogNorm(1 / reach, reach)


def _ticks(reach: float) -> list[float]:
    """Returns at most nine powers of two from `1 / reach` to `reach`."""
    most = int(np.log2(reach))
    step = -(-most // 4)
    powers = range(-(most // step) * step, most + 1, step)
    return [2.0**power for power in powers]


def _tick_labels(reach: float) -> list[str]:
    return [
        f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"
        for tick in _ticks(reach)
    ]


def _summary(visits: np.ndarray) -> str:
    used = measures.path_utilizations(visits).mean()
    text = f"{used:.1%} of {visits.size:,} leaves visited"
    if visits.shape[1] > 1:
        entropy = measures.gate_entropies(visits).mean()
        text += f", gate entropy {entropy:.2f}"
    return text
