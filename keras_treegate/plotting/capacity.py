"""A picture of the best metric over the capacity of models."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np

from keras_treegate.core import checks
from keras_treegate.plotting import canvas
from keras_treegate.plotting.sources import HistoryLike, history_of

if TYPE_CHECKING:  # matplotlib may not be installed
    from matplotlib.figure import Figure

# A run of `fit`, or its parameters and its value.
Run: TypeAlias = HistoryLike | tuple[float, float]


def capacity(
    histories: Mapping[str, Run | list[Run]], metric: str = "val_accuracy"
) -> "Figure":
    """Draws the best value of a metric over the parameters of models.

    Parameters are the trainable numbers that a model stores, on a logarithmic
    axis. The best epoch counts: the highest value, or the lowest one of a
    metric with `loss` or `error` in its name.

    Args:
        histories: Dictionary of what to draw, by name: what `fit` returned; a
            pair (parameters, value); or a list of these for a line, e.g. one of
            several depths.
        metric: Key of the histories. Defaults to `"val_accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: For other `histories`, or some without the metric.
        ImportError: Where matplotlib is not installed.

    Example:

    >>> import keras_treegate
    >>> runs = {"Dense": (1e4, 0.90), "trees": [(1e4, 0.91), (1e5, 0.95)]}
    >>> figure = keras_treegate.plotting.capacity(runs)
    >>> figure.axes[0].get_ylabel()
    'best val_accuracy'
    """
    if not isinstance(histories, Mapping) or not histories:
        raise ValueError(
            "`histories` must be a dictionary of names and what `fit` "
            f"returned, with at least one entry. Received: {histories!r} (of "
            f"type {type(histories).__name__}). Write e.g. "
            '`{"depth 4": model.fit(...)}`.'
        )
    if not isinstance(metric, str):
        raise ValueError(
            "`metric` must be a key of the histories, a string. Received: "
            f"metric={metric!r}. Leave it out for 'val_accuracy'."
        )
    lines = {
        name: sorted(
            _point(name, one, metric)
            for one in (entry if isinstance(entry, list) else [entry])
        )
        for name, entry in histories.items()
    }
    figure = canvas.figure(6.4, 4.2)
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        sizes, values = zip(*points, strict=True)
        axes.plot(
            sizes, values, label=name, markersize=8, **canvas.style(number)
        )
    canvas.tidy(
        axes,
        xscale="log",
        xlabel="capacity [trainable parameters]",
        ylabel=f"best {metric}",
    )
    axes.grid(linewidth=0.5, alpha=0.4)
    axes.margins(0.12)
    figure.legend(loc="outside right upper")
    return figure


def _point(name: str, entry: Run, metric: str) -> tuple[float, float]:
    """Returns the parameters and the best value of a run."""
    if isinstance(entry, tuple) and len(entry) == 2:
        return (
            checks.number(f"histories[{name!r}]", entry[0], above=0),
            checks.number(f"histories[{name!r}]", entry[1]),
        )
    history, model = history_of(entry), getattr(entry, "model", None)
    if metric not in history:
        raise ValueError(
            f"`metric` must be a key of every history. Received: "
            f"metric={metric!r}, and {name!r} has {sorted(history)}. Choose "
            "one of these, or compile the models with the metric."
        )
    if model is None:
        raise ValueError(
            "`histories` must tell how many parameters each run has. Received: "
            f"{name!r} of type {type(entry).__name__}, which has no model. "
            "Pass what `fit` returned, or a pair (parameters, value)."
        )
    best = np.min if "loss" in metric or "error" in metric else np.max
    return float(parameters(model)), float(best(history[metric]))


def parameters(model: keras.Model) -> int:
    """Counts the trainable numbers of a model, without decay state."""
    return sum(
        int(np.prod(weight.shape))
        for weight in model.trainable_weights
        if not weight.overwrite_with_gradient
    )
