"""The routes of given data through a model, at inference."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

# The leaf code of an example or time step that a mask leaves out.
MASKED = -1

# The `cardinality()` of a `tf.data.Dataset` without an end.
INFINITE = -1


def check(name: str, data: Any) -> None:
    """Refuses what cannot be gone through anew, to its end, at every epoch."""
    is_arrays = _is_arrays(data)
    if not is_arrays and (not hasattr(data, "__iter__") or iter(data) is data):
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


def _is_endless(data: Any) -> bool:
    """Returns whether a data set says that it has no end."""
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    cardinality = getattr(data, "cardinality", None)
    return callable(cardinality) and int(cardinality()) == INFINITE


def _is_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple | dict) or hasattr(data, "shape")


def batches(data: Any, batch_size: int) -> Iterator[Any]:
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
    else:
        for batch in data:
            yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def route(
    model: keras.Model,
    layers: dict[str, Any],
    data: Any,
    batch_size: int,
    use: Callable,
) -> None:
    """Calls `use(name, codes)` for each layer and batch; codes are (B, G).

    What a mask leaves out has the code `MASKED` in every tree. The model is
    called as at inference, whatever it does by default, and learns nothing.
    """
    names = {}
    try:
        for name, layer in layers.items():
            names[name] = layer.visits.listener
            layer.visits.listener = _listener(name, use)
        for batch in batches(data, batch_size):
            batch = keras.tree.map_structure(ops.convert_to_tensor, batch)
            model(batch, training=False)
    finally:
        for name, listener in names.items():
            layers[name].visits.listener = listener


def _listener(name: str, use: Callable) -> Callable:
    def listen(codes: Any, mask: Any) -> None:
        codes = np.array(ops.convert_to_numpy(codes))
        if mask is not None:
            codes[~ops.convert_to_numpy(mask)] = MASKED
        use(name, codes.reshape(-1, codes.shape[-1]))

    return listen
