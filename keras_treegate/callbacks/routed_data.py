"""The data that callbacks measure: visits of leaves, and changes of paths."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_treegate.trees.find import TreeLayer, find_tree_layers
from keras_treegate.types import Tensor

# Called with the name of a layer and the leaf codes (B, G) of a batch.
UseCodes: TypeAlias = Callable[[str, np.ndarray], None]

# The leaf code of an example or time step that a mask leaves out.
MASKED = -1

# The `cardinality()` of a `tf.data.Dataset` without an end.
INFINITE = -1


def check_data(name: str, data: object) -> None:
    """Refuses what cannot be gone through anew, to its end, at every epoch."""
    if not _is_arrays(data) and (
        not isinstance(data, Iterable) or iter(data) is data
    ):
        raise ValueError(
            f"`{name}` must be an array, a list or dictionary of arrays (the "
            "inputs of the model), a tuple (inputs, targets) of them, or a "
            "data set of batches that can be gone through more than once. "
            f"Received: {name}={data!r} (of type {type(data).__name__}). Put "
            "what a generator yields into a `keras.utils.PyDataset`."
        )
    if _is_endless(data):
        raise ValueError(
            f"`{name}` must come to an end: all of it is routed at the end of "
            f"an epoch. Received: {name}={data!r}, which goes on for ever. "
            "Take a number of its batches, e.g. with `.take(10)`, or give it a "
            "`num_batches`."
        )


def _is_endless(data: object) -> bool:
    """Returns whether a data set says that it has no end."""
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    cardinality = getattr(data, "cardinality", None)
    return callable(cardinality) and int(cardinality()) == INFINITE


def _is_arrays(data: object) -> bool:
    return isinstance(data, list | tuple | dict) or hasattr(data, "shape")


def input_batches(data: object, batch_size: int) -> Iterator[Tensor]:
    """Yields the inputs of batches; targets and weights are passed over."""
    if isinstance(data, keras.utils.PyDataset):
        for number in range(data.num_batches):
            yield keras.utils.unpack_x_y_sample_weight(data[number])[0]
    elif _is_arrays(data):
        if isinstance(data, tuple):
            data = keras.utils.unpack_x_y_sample_weight(data)[0]
        size = len(keras.tree.flatten(data)[0])
        for start in range(0, size, batch_size):
            yield keras.tree.map_structure(
                lambda array, at=start: array[at : at + batch_size], data
            )
    elif isinstance(data, Iterable):
        for batch in data:
            yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def route_data(
    model: keras.Model,
    layers: dict[str, TreeLayer],
    data: object,
    batch_size: int,
    use: UseCodes,
) -> None:
    """Calls `use(name, codes)` for each layer and batch; codes are (B, G).

    What a mask leaves out has the code `MASKED` in every tree. The model is
    called as at inference, whatever it does by default, and learns nothing.
    """
    listeners = {}
    try:
        for name, layer in layers.items():
            listeners[name] = layer.visits.listener
            layer.visits.listener = _listener(name, use)
        for batch in input_batches(data, batch_size):
            batch = keras.tree.map_structure(ops.convert_to_tensor, batch)
            model(batch, training=False)
    finally:
        for name, listener in listeners.items():
            layers[name].visits.listener = listener


def _listener(
    name: str, use: UseCodes
) -> Callable[[Tensor, Tensor | None], None]:
    def listen(codes: Tensor, mask: Tensor | None) -> None:
        codes = np.array(ops.convert_to_numpy(codes))
        if mask is not None:
            codes[~ops.convert_to_numpy(mask)] = MASKED
        use(name, codes.reshape(-1, codes.shape[-1]))

    return listen


class TrainingVisits:
    """The visits of the training steps since an epoch began."""

    prefix = ""

    def __init__(self) -> None:
        # The keys are the layers, because a new layer may get the id of one
        # that is gone.
        self._before: weakref.WeakKeyDictionary[
            TreeLayer, tuple[np.ndarray, int]
        ] = weakref.WeakKeyDictionary()

    def begin(self, layers: dict[str, TreeLayer]) -> None:
        """Begins an epoch. A layer that is not built has no visits yet."""
        self._before = weakref.WeakKeyDictionary(
            {
                layer: (layer.leaf_visits, layer.visits.resets)
                for layer in layers.values()
                if layer.count_visits
            }
        )

    def of(
        self, model: keras.Model, layers: dict[str, TreeLayer]
    ) -> dict[str, np.ndarray]:
        """Returns the visits (G, L) of each layer that counts them.

        Some are negative where weights, and the counts with them, were put back
        to what they were before the epoch.
        """
        return {
            name: self._since(layer)
            for name, layer in layers.items()
            if layer.count_visits
        }

    def _since(self, layer: TreeLayer) -> np.ndarray:
        visits = layer.leaf_visits
        before, resets = self._before.get(layer, (None, 0))
        if before is None or resets != layer.visits.resets:
            return visits
        return visits - before


class HeldOutVisits:
    """The visits of given data, routed as at inference."""

    prefix = "val_"

    def __init__(self, data: object, batch_size: int) -> None:
        self.data, self.batch_size = data, batch_size

    def begin(self, layers: dict[str, TreeLayer]) -> None:
        """Does nothing, because there is nothing to remember."""

    def of(
        self, model: keras.Model, layers: dict[str, TreeLayer]
    ) -> dict[str, np.ndarray]:
        """Returns the visits (G, L) of each layer."""
        visits = {
            name: np.zeros((layer.num_trees, 2**layer.depth), "int64")
            for name, layer in layers.items()
        }

        def count(name: str, codes: np.ndarray) -> None:
            codes = codes[codes[:, 0] != MASKED]
            trees = np.broadcast_to(np.arange(codes.shape[1]), codes.shape)
            np.add.at(visits[name], (trees, codes), 1)

        route_data(model, layers, self.data, self.batch_size, count)
        return visits


class RoutingChurn:
    """The share of the paths of a probe batch that change from time to time.

    The probe is routed again and again, and its paths are compared.
    """

    def __init__(self, probe: object, batch_size: int) -> None:
        self.probe, self.batch_size = probe, batch_size
        self._codes: dict[str, np.ndarray] = {}

    def forget(self) -> None:
        """Forgets all paths, because another `fit` or model begins."""
        self._codes = {}

    def start(self, model: keras.Model) -> None:
        """Routes the probe for the first time, if that has not been done."""
        if not self._codes:
            if not find_tree_layers(model):  # the model is built by a call
                self._route(model, {})
            self._codes = self._route(model, find_tree_layers(model))

    def changed(
        self, model: keras.Model, layers: dict[str, TreeLayer]
    ) -> dict[str, float]:
        """Returns each layer's share of paths that changed since last time."""
        before, self._codes = self._codes, self._route(model, layers)
        shares = {}
        for name, codes in self._codes.items():
            if name not in before or before[name].shape != codes.shape:
                continue
            in_both = np.minimum(codes, before[name]) != MASKED
            if in_both.any():
                changed = codes[in_both] != before[name][in_both]
                shares[name] = float(np.mean(changed))
        return shares

    def _route(
        self, model: keras.Model, layers: dict[str, TreeLayer]
    ) -> dict[str, np.ndarray]:
        batches: dict[str, list[np.ndarray]] = {name: [] for name in layers}
        route_data(
            model,
            layers,
            self.probe,
            self.batch_size,
            lambda name, codes: batches[name].append(codes),
        )
        return {
            name: np.concatenate(codes)
            for name, codes in batches.items()
            if codes
        }
