"""The sources of pictures: arrays, layers or histories."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_treegate.layers import TreeGatedDense

LayerOrVisits: TypeAlias = TreeGatedDense | ArrayLike
History: TypeAlias = Mapping[str, Sequence[float]]
HistoryLike: TypeAlias = keras.callbacks.History | History


def visits_of(source: LayerOrVisits) -> tuple[np.ndarray, str]:
    """Returns the visits (G, L) of a layer or array, and a name for them."""
    if isinstance(source, TreeGatedDense):
        return source.leaf_visits, source.name
    try:
        visits = np.asarray(source)
    except Exception:  # rows of different lengths, or no array at all
        visits = np.empty(0)
    leaves = visits.shape[1] if visits.ndim == 2 else 0
    counts = visits.dtype.kind in "iuf" and bool(np.all(visits >= 0))
    whole = leaves >= 1 and not leaves & (leaves - 1) and visits.shape[0] >= 1
    if not (counts and whole and np.all(np.isfinite(visits))):
        raise ValueError(
            "`source` must be a TreeGatedDense layer, or an array of visits of "
            "shape (num_trees, 2**depth), none of them negative. Received: "
            f"{type(source).__name__} of shape {visits.shape} and dtype "
            f"{visits.dtype}. Pass e.g. the `leaf_visits` of a layer."
        )
    return visits, "visits"


def check_visited(visits: np.ndarray, name: str) -> None:
    """Refuses visits that are all zero, of which there is nothing to see."""
    if not visits.any():
        raise ValueError(
            "`source` must have visits. Received: no visit of any leaf in "
            f"{name!r}. Train the layer first, or pass the visits of an epoch."
        )


def history_of(source: HistoryLike) -> History:
    """Returns the numbers of each epoch, by key."""
    history = getattr(source, "history", source)
    if (
        not isinstance(history, dict)
        or not history
        or not all(isinstance(name, str) for name in history)
        or not all(np.ndim(values) == 1 for values in history.values())
    ):
        raise ValueError(
            "`source` must be what `fit` returns, or its `history`, with at "
            f"least one epoch. Received: {source!r} (of type "
            f"{type(source).__name__}). Write e.g. "
            "`history = model.fit(...)` and pass `history`."
        )
    return history
