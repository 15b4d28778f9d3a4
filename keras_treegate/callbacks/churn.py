"""The share of paths of a fixed probe that change while a model trains."""

from typing import Any

import numpy as np

from keras_treegate.callbacks import held_out
from keras_treegate.trees.find import tree_layers


class Churn:
    """Routes a fixed probe batch again and again, and compares the paths."""

    def __init__(self, probe: Any, batch_size: int) -> None:
        self.probe, self.batch_size = probe, batch_size
        self._codes: dict[str, np.ndarray] = {}

    def forget(self) -> None:
        """Forgets all paths, because another `fit` or model begins."""
        self._codes = {}

    def start(self, model: Any) -> None:
        """Routes the probe for the first time, if that has not been done."""
        if not self._codes:
            if not tree_layers(model):  # the model is built by a call
                self._route(model, {})
            self._codes = self._route(model, tree_layers(model))

    def changed(self, model: Any, layers: dict) -> dict[str, float]:
        """Returns each layer's share of paths that changed since last time."""
        before, self._codes = self._codes, self._route(model, layers)
        found = {}
        for name, codes in self._codes.items():
            if name not in before or before[name].shape != codes.shape:
                continue
            both = np.minimum(codes, before[name]) != held_out.MASKED
            if both.any():
                changed = codes[both] != before[name][both]
                found[name] = float(np.mean(changed))
        return found

    def _route(self, model: Any, layers: dict) -> dict[str, np.ndarray]:
        codes: dict[str, list] = {name: [] for name in layers}
        held_out.route(
            model,
            layers,
            self.probe,
            self.batch_size,
            lambda name, of_batch: codes[name].append(of_batch),
        )
        return {
            name: np.concatenate(parts)
            for name, parts in codes.items()
            if parts
        }
