"""A picture of the steps since the rows of a layer were last written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers.row_state import idle_steps
from keras_treegate.plotting import canvas

if TYPE_CHECKING:  # matplotlib may not be installed
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def row_ages(source: TreeGatedDense | Sequence[ArrayLike]) -> "Figure":
    """Draws for each level which share of its rows is older than some steps.

    The age of a row is the number of steps since a batch last touched it. A
    curve that falls at once is a level that every batch visits nearly in full;
    one that stays up has rows that training no longer reaches. A row that was
    never touched is as old as the training.

    Args:
        source: A `TreeGatedDense` that was trained with a step-aware optimizer
            which keeps the step of the last write of each row, `StepAwareAdam`
            or `StepAwareSGD` with momentum; or a list of arrays of ages in
            steps, one for each level.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: For another `source`, or a layer without such an optimizer.
        ImportError: Where matplotlib is not installed.

    Example:

    >>> import keras_treegate
    >>> figure = keras_treegate.plotting.row_ages([[0], [0, 7], [0, 3, 9, 9]])
    >>> figure.axes[0].get_xlabel()
    'age [steps since the last write]'
    """
    ages, name = _ages_of(source)
    figure = canvas.figure(7.0, 4.2)
    axes = figure.add_subplot()
    deepest = max(ages)
    for level, level_ages in ages.items():
        _draw_level(axes, level_ages, level, deepest)
    oldest = max(int(level_ages.max()) for level_ages in ages.values())
    axes.set_xscale("symlog", linthresh=1)
    canvas.tidy(
        axes,
        xlim=(0, max(oldest, 1) * 1.1),
        ylim=(-1, 101),
        xlabel="age [steps since the last write]",
        ylabel="rows older than that [%]",
        title=f"{name}: ages of {sum(map(len, ages.values())):,} rows",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(linewidth=0.5, alpha=0.4)
    figure.legend(title="level", loc="outside right upper", fontsize=8, ncols=1)
    return figure


def _draw_level(
    axes: "Axes", ages: np.ndarray, level: int, deepest: int
) -> None:
    from matplotlib import colormaps

    values, counts = np.unique(ages, return_counts=True)
    older = 100 * (1 - np.cumsum(counts) / len(ages))
    # The map's last tenth is too light for a line.
    shade = colormaps[canvas.COLOR_MAP](0.9 * level / max(deepest, 1))
    axes.step(
        [0, *values] if values[0] > 0 else values,
        [100, *older] if values[0] > 0 else older,
        where="post",
        color=shade,
        marker=canvas.MARKERS[level % len(canvas.MARKERS)],
        markersize=4,
        markevery=0.2,
        label=f"{level} ({len(ages):,} rows)",
    )


def _ages_of(
    source: TreeGatedDense | Sequence[ArrayLike],
) -> tuple[dict[int, np.ndarray], str]:
    """Returns the ages of the rows by level, and a name for them."""
    if isinstance(source, TreeGatedDense):
        all_ages = [idle_steps(level) for level in source.tree_levels]
        known = [ages for ages in all_ages if ages is not None]
        if not known or len(known) < len(all_ages):
            raise ValueError(
                f"`source` must be a layer whose optimizer keeps the ages of "
                f"its rows. Received: the layer {source.name!r}, which no such "
                "optimizer has trained. Use `StepAwareAdam`, or `StepAwareSGD` "
                "with momentum, or pass the ages as arrays."
            )
        return dict(zip(source.levels, known, strict=True)), source.name
    try:
        ages = [np.asarray(level_ages).ravel() for level_ages in source]
    except TypeError:
        ages = []
    if not ages or any(
        level_ages.size == 0 or level_ages.dtype.kind not in "iuf"
        for level_ages in ages
    ):
        raise ValueError(
            "`source` must be a TreeGatedDense layer or a list of arrays of "
            f"ages, one for each level. Received: {source!r} (of type "
            f"{type(source).__name__}). Pass e.g. `[[0], [0, 3]]`."
        )
    return dict(enumerate(ages)), "rows"
