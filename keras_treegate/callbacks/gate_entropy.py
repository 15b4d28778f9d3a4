"""The entropy of the gates: how evenly examples spread over the leaves."""

import keras
import numpy as np

from keras_treegate.callbacks.routed_data import RoutingChurn, check_data
from keras_treegate.callbacks.routing_callback import (
    Measured,
    RoutingCallback,
    range_over_trees,
)
from keras_treegate.core import routing_metrics as measures
from keras_treegate.trees.find import TreeLayer
from keras_treegate.types import PathLike


class GateEntropy(RoutingCallback):
    """Writes the entropy of the gates into `logs` at the end of each epoch.

    Routing that collapses sends all examples the same way, and the loss tells
    of it late or never. With `p(g, c)` the share of the visits of tree `g` that
    leaf `c` had in the epoch,

        gate_entropy = mean over g of -sum over c of p(g, c) log2 p(g, c) / D

    is 1 where every leaf has the same number of visits and 0 where each tree
    uses a single leaf. `logs` gets

        gate_entropy                 mean over the layers
        <layer name>/gate_entropy    of each layer

    and in the same two forms

        routing_churn     with `probe`: the share of the probe's paths that
                          changed since the last epoch, and in the first one
                          since it began; not of gates that do not move
        bit_balance       with `details=True`: mean over all bits of
                          `1 - |2 p - 1|`, p the share of the visits in which
                          the bit is 1: 0 for bits that are constant

    The counting is done by the layers, inside the compiled step; this callback
    reads their `leaf_visits` at the end of an epoch. What a mask leaves out is
    not counted, neither in training nor of `data` and `probe`. Where a callback
    before this one puts earlier weights back, and the visits with them, the
    epoch cannot be measured: its keys are NaN, and a warning says so once.
    Callbacks that use a key,
    e.g. `keras.callbacks.CSVLogger`, come after it in the list of callbacks. A
    layer that has the name of another one is named by its path. Layers of depth
    0 have no gates and are passed over.

    Args:
        data: Measure how these are routed at inference, instead of the visits
            of training, and put `val_` before each key: an array, a list or
            dictionary of arrays, a tuple (inputs, targets), or a data set of
            batches that comes to an end. Defaults to `None`.
        batch_size: Integer, for `data` and `probe` that are arrays. Defaults to
            `256`.
        every_n_batches: Integer, measure the epoch so far after every so many
            batches, too, and put that into the `logs` of batches. `None` for
            the ends of epochs only. Defaults to `None`.
        log_dir: Folder for TensorBoard: all numbers, and histograms of the
            entropies of trees. Needs the package tensorboard, and not
            TensorFlow. Defaults to `None`.
        details: Boolean, whether `logs` gets the further keys. Defaults to
            `False`.
        verbose: `1` to print a line for each layer and epoch. Defaults to `0`.
        probe: Inputs, as for `data`, that are routed at the end of each epoch
            to see which paths change. Defaults to `None`.

    Raises:
        ValueError: At construction for arguments that are none of these; in
            `fit`, for a model without a tree layer, or without one that counts
            visits where `data` is `None`.
        ImportError: For a `log_dir` where tensorboard is not installed.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_treegate
    >>> layer = keras_treegate.layers.TreeGatedDense(4, depth=2, name="tree")
    >>> model = keras.Sequential([keras.Input((8,)), layer])
    >>> model.compile("sgd", "mse")
    >>> x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
    >>> history = model.fit(
    ...     x,
    ...     np.zeros((512, 4)),
    ...     verbose=0,
    ...     callbacks=[keras_treegate.callbacks.GateEntropy()],
    ... )
    >>> history.history["tree/gate_entropy"][-1] > 0.9
    True
    """

    def __init__(
        self,
        data: object = None,
        batch_size: int = 256,
        every_n_batches: int | None = None,
        log_dir: PathLike | None = None,
        details: bool = False,
        verbose: int = 0,
        probe: object = None,
    ) -> None:
        super().__init__(
            data, batch_size, every_n_batches, log_dir, details, verbose
        )
        self._churn: RoutingChurn | None = None
        if probe is not None:
            check_data("probe", probe)
            self._churn = RoutingChurn(probe, self.batch_size)
        self._changed: dict[str, float] = {}

    def begin_training(self) -> None:
        self._changed = {}
        if self._churn is not None:
            self._churn.forget()

    def begin_epoch(self, model: keras.Model) -> None:
        if self._churn is not None:
            self._churn.start(model)

    def end_epoch(
        self, model: keras.Model, layers: dict[str, TreeLayer]
    ) -> None:
        if self._churn is not None:
            self._changed = self._churn.changed(model, layers)

    def measure(
        self, name: str, layer: TreeLayer, visits: np.ndarray, at_end: bool
    ) -> Measured:
        entropies = measures.gate_entropies(visits)
        values = {
            "gate_entropy": float(entropies.mean()),
            "bit_balance": float(measures.bit_balances(visits).mean()),
        }
        if at_end and name in self._changed and layer.gate.moves:
            values["routing_churn"] = self._changed[name]
        return Measured(
            values,
            histogram=("entropy_of_trees", entropies),
            text=range_over_trees(entropies),
            details=("bit_balance",),
        )
