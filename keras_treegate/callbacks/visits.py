"""The visits of leaves that callbacks read: of training, or of given data."""

import weakref
from typing import Any

import numpy as np

from keras_treegate.callbacks import held_out


class TrainingVisits:
    """The visits of the training steps since an epoch began."""

    prefix = ""

    def __init__(self) -> None:
        # The keys are the layers, because a new layer may get the id of one
        # that is gone.
        self._before: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def begin(self, layers: dict) -> None:
        """Begins an epoch. A layer that is not built has no visits yet."""
        self._before = weakref.WeakKeyDictionary(
            {
                layer: (layer.leaf_visits, layer.visits.resets)
                for layer in layers.values()
                if layer.count_visits
            }
        )

    def of(self, model: Any, layers: dict) -> dict[str, np.ndarray]:
        """Returns the visits (G, L) of each layer that counts them.

        Some are negative where weights, and the counts with them, were put back
        to what they were before the epoch.
        """
        return {
            name: self._since(layer)
            for name, layer in layers.items()
            if layer.count_visits
        }

    def _since(self, layer: Any) -> np.ndarray:
        visits = layer.leaf_visits
        before, resets = self._before.get(layer, (None, 0))
        if before is None or resets != layer.visits.resets:
            return visits
        return visits - before


class HeldOutVisits:
    """The visits of given data, routed as at inference."""

    prefix = "val_"

    def __init__(self, data: Any, batch_size: int) -> None:
        self.data, self.batch_size = data, batch_size

    def begin(self, layers: dict) -> None:
        """Does nothing, because there is nothing to remember."""

    def of(self, model: Any, layers: dict) -> dict[str, np.ndarray]:
        """Returns the visits (G, L) of each layer."""
        visits = {
            name: np.zeros((layer.num_trees, 2**layer.depth), "int64")
            for name, layer in layers.items()
        }

        def count(name: str, codes: np.ndarray) -> None:
            codes = codes[codes[:, 0] != held_out.MASKED]
            trees = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
            np.add.at(visits[name], (trees, codes), 1)

        held_out.route(model, layers, self.data, self.batch_size, count)
        return visits
