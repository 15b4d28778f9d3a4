"""Running means of gates, measured on a sample of data."""

from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from keras_treegate.core import masks
from keras_treegate.layers import TreeGatedDense
from keras_treegate.types import Tensor

BATCH = 256


class SourceMean:
    """The mean of each unit of a gate source, of its finite values."""

    def __init__(self) -> None:
        self.total: np.ndarray | float = 0.0
        self.count: np.ndarray | int = 0
        self.batches = 0

    def add(self, source: Tensor, kept: Tensor | None = None) -> None:
        """Adds the rows of a gate source (..., S) that are kept (...)."""
        values = ops.convert_to_numpy(ops.cast(source, "float32"))
        values = values.reshape(-1, values.shape[-1]).astype("float64")
        if kept is not None:
            values = values[ops.convert_to_numpy(kept).reshape(-1)]
        finite = np.isfinite(values)
        self.total = self.total + np.where(finite, values, 0).sum(axis=0)
        self.count = self.count + finite.sum(axis=0)
        self.batches += 1

    @property
    def mean(self) -> np.ndarray:
        """The means (S,); zero for a unit without a finite value."""
        return self.total / np.maximum(self.count, 1)


def batches(data: object) -> Iterator[Tensor]:
    """Yields the batches of an array or of a structure of arrays."""
    rows = {len(array) for array in keras.tree.flatten(data)}
    if len(rows) != 1 or 0 in rows:
        raise ValueError(
            "The sample of data must be arrays of equal length, as the model "
            f"takes them. Received: lengths {sorted(rows)}. Pass e.g. "
            "`x_train[:1024]`."
        )
    (size,) = rows
    for start in range(0, size, BATCH):
        yield keras.tree.map_structure(
            lambda array, start=start: ops.convert_to_tensor(
                array[start : start + BATCH]
            ),
            data,
        )


def source_means(
    model: keras.Model, layers: list[TreeGatedDense], data: object
) -> list[SourceMean]:
    """Measures the gate sources of some layers while a model sees a sample.

    The layers are those whose gates need means.
    """
    if not layers:
        raise ValueError(
            "`calibrate` must be left out for gates without running means. "
            "Received: a sample, for gates that have none. Leave it out."
        )
    means = [SourceMean() for _ in layers]
    for layer, mean in zip(layers, means, strict=True):
        _listen(layer, mean)
    try:
        for batch in batches(data):
            model(batch, training=False)
    finally:
        for layer in layers:
            del layer.call
    return means


def _listen(layer: keras.layers.Layer, mean: SourceMean) -> None:
    call = layer.call

    def listening(
        inputs: Tensor, gate_inputs: Tensor | None = None, **options: Tensor
    ) -> Tensor:
        mask = options.get("mask")
        mask = options.get("inputs_mask") if mask is None else mask
        kept = masks.combined(
            inputs, mask=mask, gate_inputs_mask=options.get("gate_inputs_mask")
        )
        mean.add(inputs if gate_inputs is None else gate_inputs, kept)
        return call(inputs, gate_inputs=gate_inputs, **options)

    layer.call = listening  # type: ignore[method-assign]
