"""A picture of routing over the epochs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_treegate.plotting import canvas
from keras_treegate.plotting.sources import History, HistoryLike, history_of

if TYPE_CHECKING:  # matplotlib may not be installed
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {
    "gate_entropy": "gate entropy",
    "path_utilization": "path utilization",
}
MAX_NAMED = len(canvas.COLORS) - 1


def curves(source: HistoryLike) -> "Figure":
    """Draws gate entropy and path utilization over the epochs.

    The mean over the layers is black; each layer has a line of its own, in
    colours as long as there are at most six, else all in grey. What held-out
    data gave (`val_`) is dashed.

    Args:
        source: What `fit` returned with the callbacks
            `keras_treegate.callbacks.GateEntropy` or `PathUtilization`, or its
            dictionary `history`.

    Returns:
        A `matplotlib.figure.Figure`, with a panel for each key that is there.

    Raises:
        ValueError: For another `source`, or one without any of these keys.
        ImportError: Where matplotlib is not installed.

    Example:

    >>> import keras_treegate
    >>> history = {"loss": [2.0, 1.0], "gate_entropy": [0.5, 0.9]}
    >>> figure = keras_treegate.plotting.curves(history)
    >>> figure.axes[0].get_ylabel()
    'gate entropy (1 is even)'
    """
    history = history_of(source)
    drawn = {key: lines for key in PANELS if (lines := _lines_of(history, key))}
    if not drawn:
        raise ValueError(
            "`source` must have the key 'gate_entropy' or 'path_utilization'. "
            f"Received: the keys {sorted(history)}. Give `fit` the callbacks "
            "`keras_treegate.callbacks.GateEntropy()` and `PathUtilization()`."
        )
    figure = canvas.figure(4.6 * len(drawn) + 1.6, 4.0)
    panels = figure.subplots(1, len(drawn), sharex=True, squeeze=False)[0]
    for panel, (key, lines) in zip(panels, drawn.items(), strict=True):
        _draw(panel, lines)
        meaning = "1 is even" if key == "gate_entropy" else "share of leaves"
        canvas.tidy(
            panel,
            xlabel="epoch",
            ylabel=f"{PANELS[key]} ({meaning})",
            ylim=(-0.02, 1.02),
        )
        panel.grid(linewidth=0.5, alpha=0.4)
        panel.get_xaxis().get_major_locator().set_params(integer=True)
    handles = {
        line.get_label(): line
        for panel in panels
        for line in panel.get_lines()
        if not line.get_label().startswith("_")
    }
    figure.legend(handles=list(handles.values()), loc="outside right upper")
    return figure


def _lines_of(
    history: History, key: str
) -> dict[tuple[str, bool], Sequence[float]]:
    """Finds the series of a key, by layer ("": mean) and whether held out."""
    series = {}
    for name, values in history.items():
        bare = name.removeprefix("val_")
        if bare == key:
            series["", bare != name] = values
        elif bare.endswith(f"/{key}"):
            series[bare.removesuffix(f"/{key}"), bare != name] = values
    return series


def _draw(
    panel: "Axes", lines: dict[tuple[str, bool], Sequence[float]]
) -> None:
    layers = list(dict.fromkeys(name for name, _ in lines if name))
    named = len(layers) <= MAX_NAMED
    for (name, held_out), values in lines.items():
        options: dict[str, object] = {
            "linestyle": "--" if held_out else "-",
            "markersize": 4,
        }
        label = name or "mean of layers"
        if not name:
            options |= {"color": "black", "linewidth": 2.2, "zorder": 3}
        elif named:
            options |= canvas.style(layers.index(name))
        else:
            options |= {"color": "#999999", "linewidth": 0.8}
            label = f"each of {len(layers)} layers"
        if held_out:
            label += ", held out"
        panel.plot(range(1, len(values) + 1), values, label=label, **options)
