"""The share of the leaves that are used at all."""

import numpy as np
from keras import ops

from keras_treegate.callbacks.routing_callback import (
    Measured,
    RoutingCallback,
    range_over_trees,
)
from keras_treegate.core import checks
from keras_treegate.core import routing_metrics as measures
from keras_treegate.trees.find import TreeLayer
from keras_treegate.types import PathLike

# From no visit to at least twice what each leaf would have if all were even.
SHADES = " .:-=+*#%@"
COLUMNS = 32


class PathUtilization(RoutingCallback):
    """Writes the share of leaves in use into `logs` at the end of each epoch.

    A leaf that no example reaches stores weights that are never trained.

        path_utilization = leaves visited at least once in the epoch / (G 2^D)

    `logs` gets

        path_utilization                 mean over the layers
        <layer name>/path_utilization    of each layer

    and, with `details=True`, in the same two forms

        dead_leaves    the share of leaves without a visit since the visits of
                       the layer were last reset (with `data`, of those that
                       none of it reaches)
        decay_debt     the share of itself that a row owes to weight decay, mean
                       over the rows of all levels: what a step-aware optimizer
                       has put off

    A layer that uses few of the leaves that so many examples would reach by
    fair coins, `1 - (1 - 1/L)^n` of `L` leaves for `n` examples, or a single
    leaf in each tree, is warned about once, with what usually helps; one whose
    gate does not move, as a `HashGate`, is not.

    As for `GateEntropy`: the layers count, and not what a mask leaves out;
    callbacks that use a key come after this one; layers of depth 0 are passed
    over; and where weights were put back, the keys that are read from the
    visits of the epoch are NaN.

    Args:
        data: Measure how these are routed at inference, instead of the visits
            of training, and put `val_` before each key: an array, a list or
            dictionary of arrays, a tuple (inputs, targets), or a data set of
            batches that comes to an end. Defaults to `None`.
        batch_size: Integer, for `data` that are arrays. Defaults to `256`.
        every_n_batches: Integer, measure the epoch so far after every so many
            batches, too, and put that into the `logs` of batches. `None` for
            the ends of epochs only. Defaults to `None`.
        log_dir: Folder for TensorBoard: all numbers, and histograms of the
            visits of leaves. Needs the package tensorboard, and not TensorFlow.
            Defaults to `None`.
        details: Boolean, whether `logs` gets the further keys. Defaults to
            `False`.
        verbose: `1` to print a line for each layer and epoch, which ends with
            the load of the leaves, from the most to the least visited: `+` for
            an even share, a blank for none. Defaults to `0`.
        warn_below: Number in [0, 1] or `None` for no warning: the share of the
            utilization by fair coins below which a layer is warned about.
            Defaults to `0.25`.

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
    ...     callbacks=[keras_treegate.callbacks.PathUtilization()],
    ... )
    >>> history.history["tree/path_utilization"]
    [1.0]
    """

    def __init__(
        self,
        data: object = None,
        batch_size: int = 256,
        every_n_batches: int | None = None,
        log_dir: PathLike | None = None,
        details: bool = False,
        verbose: int = 0,
        warn_below: float | None = 0.25,
    ) -> None:
        super().__init__(
            data, batch_size, every_n_batches, log_dir, details, verbose
        )
        if warn_below is not None:
            warn_below = checks.number(
                "warn_below", warn_below, least=0, most=1, or_none=True
            )
        self.warn_below = warn_below

    def measure(
        self, name: str, layer: TreeLayer, visits: np.ndarray, at_end: bool
    ) -> Measured:
        utilizations = measures.path_utilizations(visits)
        utilization = float(utilizations.mean())
        ever = visits if self.held_out else layer.leaf_visits
        if at_end:
            self._warn_if_low(name, layer, visits, utilization)
        load = load_strip(visits)
        return Measured(
            {
                "path_utilization": utilization,
                "dead_leaves": float(np.mean(ever == 0)),
                "decay_debt": decay_debt(layer),
            },
            histogram=("leaf_visits", visits),
            text=f"{range_over_trees(utilizations)}  load [{load}]",
            details=("dead_leaves", "decay_debt"),
        )

    def _warn_if_low(
        self,
        name: str,
        layer: TreeLayer,
        visits: np.ndarray,
        utilization: float,
    ) -> None:
        # A leaf that no context reaches is no fault of a gate that does not
        # move, and learning cannot change it.
        if self.warn_below is None or not layer.gate.moves:
            return
        trees, leaves = visits.shape
        attainable = measures.attainable_utilization(visits)
        several = visits.sum() > trees  # one example has but one path
        single = several and utilization * leaves <= 1
        if single or utilization < self.warn_below * attainable:
            self.warn_once(
                layer,
                "collapse",
                f"The tree layer {name!r} uses {utilization:.1%} of its "
                f"{leaves} leaves in each tree, where fair bits would reach "
                f"{attainable:.1%}: its routing has collapsed. What usually "
                "helps: a gate whose threshold follows its units, "
                '`gate=keras_treegate.gates.SignGate(threshold="running_mean")`'
                "; a normalization before the gate; fewer bits, a lower "
                "`depth`. `warn_below` sets when to warn.",
            )


def decay_debt(layer: TreeLayer) -> float:
    """Returns the mean over all rows of the share of itself that a row owes."""
    shares, rows = 0.0, 0
    for level in layer.tree_levels:
        clock = ops.convert_to_numpy(level.clock).astype("float64")
        stamps = ops.convert_to_numpy(level.stamps).astype("float64")
        log_factors = (clock - stamps).sum(axis=-1)
        negative = ops.convert_to_numpy(level.read_owed()) < 0
        # Exact for a small debt, where 1 - exp(x) would be all rounding.
        share = np.where(
            negative, 1 + np.exp(log_factors), -np.expm1(log_factors)
        )
        shares += float(share.sum())
        rows += len(share)
    return shares / rows


def load_strip(visits: np.ndarray) -> str:
    """Draws the load of leaves as a strip, from the most to the least visited.

    The load is a mean over the trees, each of which is sorted for itself. The
    strip has at most `COLUMNS` characters.
    """
    ordered = -np.sort(-measures.shares(visits), axis=-1)
    relative = ordered.mean(axis=0) * visits.shape[-1]
    relative = np.nan_to_num(relative)  # not known: blank
    parts = np.array_split(relative, min(COLUMNS, len(relative)))
    most = len(SHADES) - 1
    levels = [int(np.ceil(min(part.mean() / 2, 1.0) * most)) for part in parts]
    return "".join(SHADES[level] for level in levels)
