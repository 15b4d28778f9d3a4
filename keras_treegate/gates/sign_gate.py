"""A gate that reads the path from sign bits of hidden units."""

import random
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_treegate import backend
from keras_treegate.core import checks, masks
from keras_treegate.core.numerics import (
    at_least_float32,
    without_subnormals,
)
from keras_treegate.core.saving import register
from keras_treegate.gates.base import Gate
from keras_treegate.types import Config, Shape, Tensor

THRESHOLDS = ("zero", "running_mean")


@register
class SignGate(Gate):
    """Reads `depth` sign bits for each tree from units of the gate source.

    The gate of a `TreeGatedDense`, which builds it with its number of trees
    and depth. Bit `l` = 1..D of tree `g` is

        b(g, l) = 1 if z[units[g, l - 1]] > threshold[g, l - 1] else 0

    where `z` is the gate source as it was handed to the layer, before any cast
    to the compute dtype: bits do not depend on the precision of the product.
    NaN reads as bit 0. Numbers nearer to 0 than 2^-126, the smallest normal
    number of float32, count as 0 in `z` and in the threshold, in every dtype:
    backends differ in whether they compute with smaller ones, and the same
    input takes the same path on each.

    With `threshold="running_mean"` the threshold is a moving mean of each gate
    unit, so that units which are hardly ever 0 or less still split in halves.
    It is kept in float32. Only finite values enter it, and none that a mask
    leaves out. A training step updates it first and then uses it:

        rate = max(1 - momentum, 1 / (updates + 1))
        moving_mean += rate * (mean over the batch - moving_mean)

    so it is the plain mean of the first `1 / (1 - momentum)` batches and from
    then on moves as the one of `keras.layers.BatchNormalization` does. It is
    not updated outside training nor while the layer is not trainable.

    Reference: K. Cho and Y. Bengio, arXiv 1406.7362, section 3 (sign bits). The
    moving mean is ours.

    Args:
        units: Integer array (num_trees, depth), the units of the gate source
            that each tree reads, in order, the first deciding at the root.
            `None` draws them for each tree without replacement. Defaults to
            `None`.
        threshold: `"zero"` or `"running_mean"`. Defaults to `"zero"`.
        momentum: Float in [0, 1), of the moving mean. Defaults to `0.99`.
        seed: Integer or `None`, for drawing the units. Defaults to `None`.
        **kwargs: Keyword arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: The gate source (..., S), of a floating dtype.
        training: Boolean. Updates the moving mean when true.
        mask: Booleans (...), false where a value must not enter the moving
            mean, as in padding. Keras fills in the mask of `inputs`. Defaults
            to `None`.

    Output shape:
        (..., num_trees), int32: the leaf code of each tree,
        `sum over l of b(g, l) * 2^(depth - l)`.

    Raises:
        ValueError: At construction for an unknown `threshold`, a `momentum`
            outside [0, 1) or `units` that are no 2-D integer array; when built,
            for units of another shape than (num_trees, depth) or out of range,
            and for a `depth` above the number of units there are.

    Example:

    >>> import numpy as np
    >>> import keras_treegate
    >>> gate = keras_treegate.gates.SignGate(units=[[0, 1], [2, 0]])
    >>> codes = gate(np.array([[1.0, -1.0, 3.0]], dtype="float32"))
    >>> np.array(codes).tolist()
    [[2, 3]]
    """

    def __init__(
        self,
        units: ArrayLike | None = None,
        threshold: str = "zero",
        momentum: float = 0.99,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(threshold, str) or threshold not in THRESHOLDS:
            raise ValueError(
                "`threshold` must be 'zero' or 'running_mean'. Received: "
                f"threshold={threshold!r}. Use 'running_mean' where nearly "
                "all of the gate source is above zero."
            )
        momentum = checks.number("momentum", momentum, least=0, below=1)
        seed = checks.optional_seed(seed)
        self._given_units = None if units is None else _unit_array(units)
        super().__init__(**kwargs)
        self.threshold = threshold
        self.momentum = momentum
        self.seed = seed
        self._draw_seed = random.randrange(2**31) if seed is None else seed
        self._units: Any = None
        self.moving_mean: Any = None
        self.updates: Any = None
        if self._given_units is not None:
            self.num_trees, self.depth = self._given_units.shape

    @property
    def units(self) -> np.ndarray:
        """The units each tree reads, an integer array (num_trees, depth)."""
        if self._units is not None:
            return np.array(ops.convert_to_numpy(self._units))
        if self._given_units is None:
            raise ValueError(
                "The units of a gate are drawn when its layer is built. Build "
                "the layer first, e.g. by calling it on a batch."
            )
        return self._given_units.copy()

    def check(
        self, source_shape: Shape, num_trees: int | None, depth: int | None
    ) -> int:
        if not self.built and (num_trees is None or depth is None):
            raise ValueError(
                "A gate without `units` is built by its TreeGatedDense, which "
                "knows the number of trees and the depth. Received: units=None."
                " Pass `units=` to use a gate by itself."
            )
        num_sources = super().check(source_shape, num_trees, depth)
        units = self._given_units
        if units is not None and units.shape != (num_trees, depth):
            raise ValueError(
                "`units` must have the shape (num_trees, depth) = "
                f"{(num_trees, depth)}. Received: an array of shape "
                f"{units.shape}. Change `units`, `num_trees` or `depth`."
            )
        if units is not None and units.size and units.max() >= num_sources:
            raise ValueError(
                "`units` must be indices into the gate source, which has "
                f"{num_sources} units. Received: a largest index of "
                f"{units.max()}. Use indices of 0 to {num_sources - 1}."
            )
        if units is None and (depth or 0) > num_sources:
            raise ValueError(
                f"`depth` must be at most the number of gate source units, "
                f"{num_sources}: each bit of a tree is read from a unit of its "
                f"own. Received: depth={depth}. Lower `depth`, pass wider "
                "`gate_inputs`, or give the gate its `units`."
            )
        return num_sources

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        num_sources = self.input_spec.axes[-1]
        shape = (self.num_trees, self.depth)
        self._units = self.add_weight(
            name="units",
            shape=shape,
            dtype="int32",
            # Without units PyTorch would make a tensor that no file can hold.
            initializer=lambda shape, dtype=None: (
                ops.convert_to_tensor(self._draw(num_sources), dtype="int32")
                if self.depth
                else ops.zeros(shape, "int32")
            ),
            trainable=False,
            autocast=False,
        )
        if self.threshold == "running_mean":
            self.moving_mean = self.add_weight(
                name="moving_mean",
                shape=shape,
                dtype="float32",
                initializer="zeros",
                trainable=False,
                autocast=False,
            )
            self.updates = self.add_weight(
                name="updates",
                shape=(),
                dtype="float32",
                initializer="zeros",
                trainable=False,
                autocast=False,
            )

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        thresholds = self._thresholds(inputs, training, mask)
        # Plain integers: a shape object of TensorFlow would be traced anew.
        trees, depth = self._units.shape
        return backend.sign_codes(
            inputs, self._units.value, thresholds, (trees, depth)
        )

    def activations(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns by how much units exceed their thresholds (..., G, D)."""
        thresholds = self._thresholds(inputs, training, mask)
        source, thresholds = _compared(inputs, self._units.value, thresholds)
        return without_subnormals(source - thresholds)

    def _thresholds(
        self, inputs: Tensor, training: bool | None, mask: Tensor | None
    ) -> Tensor | None:
        """Returns the thresholds (G, D); `None` where they are zero."""
        if self.moving_mean is None:
            return None
        if training and self.trainable:
            if not backend.can_assign(self.moving_mean, inputs):
                raise ValueError(
                    "`threshold` must be 'zero' in training inside of what JAX "
                    "traces apart, as the cell of a keras.layers.RNN, a scan, "
                    "an inner jit or a vmap: a running mean cannot leave it. "
                    "Received: threshold='running_mean'. Use `SignGate()`, set "
                    "`gate.trainable = False`, or make the RNN with "
                    "`unroll=True`."
                )
            source = _gate_units(inputs, self._units.value)
            source = ops.cast(source, at_least_float32(source))
            if mask is not None:
                mask = masks.covering("mask", mask, inputs)
            self._update_moving_mean(ops.stop_gradient(source), mask)
        return ops.convert_to_tensor(self.moving_mean.value)

    def _update_moving_mean(self, source: Tensor, mask: Tensor | None) -> None:
        used = ops.isfinite(source)  # (..., G, D)
        if mask is not None:
            used = ops.logical_and(used, mask[..., None, None])
        axes = tuple(range(len(source.shape) - 2))
        count = ops.sum(ops.cast(used, source.dtype), axis=axes)
        # The mean of a process may be a fraction.
        count = backend.mean_of_processes(self.moving_mean, count)
        # Divides before it sums, because a sum of large values
        # may overflow.
        shares = ops.where(used, source, 0) / ops.where(count > 0, count, 1)
        mean = ops.cast(ops.sum(shares, axis=axes), "float32")
        mean = backend.mean_of_processes(self.moving_mean, mean)
        mean = ops.where(count > 0, mean, self.moving_mean.value)
        rate = ops.maximum(1 - self.momentum, 1 / (self.updates.value + 1))
        self.moving_mean.assign(
            self.moving_mean.value + rate * (mean - self.moving_mean.value)
        )
        # A step in which no value was used is not counted. Past
        # 1 / (1 - momentum) the count no longer matters.
        seen = ops.cast(ops.any(count > 0), "float32")
        self.updates.assign(ops.minimum(self.updates.value + seen, 2.0**24))

    def _draw(self, num_sources: int) -> np.ndarray:
        """Returns units (G, D), drawn without replacement in each tree."""
        if self._given_units is not None:
            return self._given_units
        generator = np.random.default_rng(self._draw_seed)
        order = [
            generator.permutation(num_sources)[: self.depth]
            for _ in range(self.num_trees or 0)
        ]
        return np.stack(order)

    def with_depth(self, depth: int, generator: np.random.Generator) -> Gate:
        units = self.units[:, :depth]
        sources = np.arange(self.input_spec.axes[-1])
        if depth > len(sources):
            raise ValueError(
                "`depth` must be at most the number of units that the gates "
                f"can read. Received: depth={depth}, for a gate that reads "
                f"{len(sources)}. Lower it."
            )
        more = depth - units.shape[1]
        if more:  # They are drawn without replacement in each tree.
            rest = [np.setdiff1d(sources, tree) for tree in units]
            drawn = [generator.permutation(left)[:more] for left in rest]
            units = np.concatenate([units, drawn], axis=1)
        config = self.get_config() | {"units": units.tolist()}
        return type(self).from_config(config)

    def take_over(self, old: Gate) -> None:
        """Copies the moving means, those of new units from other trees.

        A unit that no tree has read starts at the average of all means.
        """
        if self.moving_mean is None:
            return
        means = ops.convert_to_numpy(old.moving_mean)
        known = dict(zip(old.units.flat, means.flat, strict=True))
        average = float(np.mean(means)) if means.size else 0.0
        units = self.units
        found = np.array([known.get(unit, average) for unit in units.flat])
        found = found.reshape(units.shape)
        kept = min(means.shape[1], units.shape[1])
        found[:, :kept] = means[:, :kept]
        self.moving_mean.assign(found)
        self.updates.assign(ops.copy(ops.convert_to_tensor(old.updates)))

    @property
    def needs_means(self) -> bool:
        return self.moving_mean is not None

    def set_means(
        self, means: np.ndarray, batches: int, first: int = 0
    ) -> None:
        values = means[self.units]
        if float(ops.convert_to_numpy(self.updates)):
            learned = ops.convert_to_numpy(self.moving_mean)
            values[:, :first] = learned[:, :first]
        else:
            self.updates.assign(batches)
        self.moving_mean.assign(values)

    def get_config(self) -> Config:
        config = super().get_config()
        units = self._given_units
        config.update(
            units=None if units is None else units.tolist(),
            threshold=self.threshold,
            momentum=self.momentum,
            seed=self.seed,
        )
        return config


def _gate_units(inputs: Tensor, units: Tensor) -> Tensor:
    """Returns the units (G, D) of inputs (..., S), as (..., G, D)."""
    source = backend.gather(inputs, ops.reshape(units, (-1,)), -1)
    return ops.reshape(source, (*ops.shape(inputs)[:-1], *units.shape))


def _compared(
    inputs: Tensor, units: Tensor, thresholds: Tensor | None
) -> tuple[Tensor, Tensor | int]:
    """Returns gate units (..., G, D) and thresholds, ready to be compared."""
    source = _gate_units(inputs, units)
    dtype = at_least_float32(source)
    source = without_subnormals(ops.cast(source, dtype))
    if thresholds is None:
        return source, 0
    return source, without_subnormals(ops.cast(thresholds, dtype))


def _unit_array(units: object) -> np.ndarray:
    try:
        array = np.asarray(units)
    except Exception:  # Rows have different lengths, or it is no array.
        array = np.empty(0)
    valid = array.ndim == 2 and (
        array.size == 0
        or (
            np.issubdtype(array.dtype, np.integer)
            and array.min() >= 0
            and array.max() <= checks.MAX_INTEGER
        )
    )
    if not valid:
        raise ValueError(
            "`units` must be an array of integers of at least 0, indices of "
            "units, of shape (num_trees, depth). Received: "
            f"units={checks.shown(units)}. Write e.g. "
            "`units=[[0, 3], [2, 1]]` for two trees of depth 2."
        )
    return array.astype("int32")
