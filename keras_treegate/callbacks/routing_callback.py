"""The base of the callbacks that measure routing."""

import sys
import warnings
import weakref
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from keras_treegate.callbacks.event_file import (
    EventFile,
    event_file,
    protocol,
)
from keras_treegate.callbacks.routed_data import (
    HeldOutVisits,
    TrainingVisits,
    check_data,
)
from keras_treegate.core import checks
from keras_treegate.trees.find import TreeLayer, find_tree_layers
from keras_treegate.types import PathLike

# The numbers that Keras hands from one callback to the next.
Logs: TypeAlias = dict[str, float] | None


class Measured(NamedTuple):
    """Measurements of one layer.

    values: the numbers, by key.
    histogram: a name and an array whose distribution is of interest.
    text: what a line in the terminal shows behind the numbers.
    details: the keys that `logs` gets only if it is asked for.
    """

    values: dict[str, float]
    histogram: tuple[str, np.ndarray]
    text: str
    details: tuple[str, ...]


def range_over_trees(values: np.ndarray) -> str:
    """Formats the range of values (G,) over the trees."""
    return f"(trees {values.min():.3f} to {values.max():.3f})"


class RoutingCallback(keras.callbacks.Callback):
    """Base of the callbacks that measure how tree layers route.

    A subclass says what to measure in one layer; this class gets the visits,
    and brings what was measured to `logs`, TensorBoard and the terminal.
    """

    # The code at the end of a batch only copies Python numbers, so that Keras
    # may run it beside the next steps instead of waiting for each.
    async_safe = True

    def __init__(
        self,
        data: object = None,
        batch_size: int = 256,
        every_n_batches: int | None = None,
        log_dir: PathLike | None = None,
        details: bool = False,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        batch_size = checks.integer("batch_size", batch_size, 1)
        if every_n_batches is not None:
            every_n_batches = checks.integer(
                "every_n_batches", every_n_batches, 1
            )
        details = checks.boolean("details", details)
        if not isinstance(verbose, bool):
            verbose = checks.integer("verbose", verbose, 0)
        if log_dir is not None:
            checks.path("log_dir", log_dir)
            protocol()  # says at once what is missing
        self._visits: TrainingVisits | HeldOutVisits = TrainingVisits()
        if data is not None:
            check_data("data", data)
            self._visits = HeldOutVisits(data, batch_size)
        self.batch_size = batch_size
        self.every_n_batches = every_n_batches
        self.log_dir = log_dir
        self.details = details
        self.verbose = verbose
        self._events: EventFile | None = None
        self._lines: list[str] = []
        self._latest: dict[str, float] = {}
        self._batch = 0  # of the epoch
        # The kinds of warnings of each layer. The keys are the layers, because
        # another model may have one of the same name.
        self._warned: weakref.WeakKeyDictionary[TreeLayer, set[str]] = (
            weakref.WeakKeyDictionary()
        )

    def measure(
        self, name: str, layer: TreeLayer, visits: np.ndarray, at_end: bool
    ) -> Measured:
        """Measures a layer, at the end of an epoch or before it."""
        raise TypeError("A RoutingCallback is used through its subclasses.")

    def begin_training(self) -> None:
        """Prepares for a `fit` that begins, of this model or another one.

        Does nothing by default, as the next two.
        """

    def begin_epoch(self, model: keras.Model) -> None:
        """Prepares for an epoch that begins; the model may not be built yet."""

    def end_epoch(
        self, model: keras.Model, layers: dict[str, TreeLayer]
    ) -> None:
        """Handles the end of an epoch, before its layers are measured."""

    @property
    def held_out(self) -> bool:
        """True if given data are measured, and not the visits of training."""
        return self._visits.prefix != ""

    def on_train_begin(self, logs: Logs = None) -> None:
        model = self.model
        # Avoids leftovers of a `fit` that was broken off, or of another model.
        self._lines, self._latest, self._batch = [], {}, 0
        self.begin_training()
        if self.log_dir is not None:
            self._events = event_file(self.log_dir)
        if model.built and all(layer.built for layer in model.layers):
            self._gated_layers(model)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._print()
        self._latest, self._batch = {}, 0
        model = self.model
        self.begin_epoch(model)
        self._visits.begin(find_tree_layers(model))

    # Measures when the next batch begins, because at the end Keras would have
    # to wait for every batch, and JAX's state could not be read.
    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        every, before, self._batch = self.every_n_batches, self._batch, batch
        if every is None or batch // every == before // every:
            return
        measured = self._measured(at_end=False)
        self._latest = self._to_log(measured)
        iterations = self.model.optimizer.iterations
        step = int(ops.convert_to_numpy(iterations))
        self._write(measured, "batch_", step)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if logs is not None:
            logs.update(self._latest)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        measured = self._measured(at_end=True)
        if logs is not None:
            logs.update(self._to_log(measured))
        self._write(measured, "", epoch)
        if self.verbose:
            self._lines += [
                self._line(epoch, name, result)
                for name, result in measured.items()
            ]

    def on_train_end(self, logs: Logs = None) -> None:
        self._print()
        self._events = None

    def _gated_layers(self, model: keras.Model) -> dict[str, TreeLayer]:
        """Finds the layers to measure, which have gates and visits."""
        found = find_tree_layers(model)
        layers = {name: layer for name, layer in found.items() if layer.depth}
        if not layers:
            trees = "no tree layer"
            if found:
                trees = f"{len(found)} tree layer(s), all of depth 0,"
            raise ValueError(
                f"`{type(self).__name__}` must be given to the `fit` of a "
                "model with a TreeGatedDense layer of a depth of at least 1. "
                f"Received: the model {model.name!r} with {trees} among the "
                "layers "
                f"{[layer.name for layer in model.layers]}. Leave the callback "
                "out, or put a `keras_treegate.layers.TreeGatedDense` in."
            )
        if not self.held_out:
            layers = {n: la for n, la in layers.items() if la.count_visits}
        if not layers:
            raise ValueError(
                f"`{type(self).__name__}` must have layers that count visits, "
                "or data to route. Received: data=None, and layers with "
                "count_visits=False only. Pass `data=`, or make the layers "
                "with `count_visits=True`."
            )
        return layers

    def _measured(self, at_end: bool) -> dict[str, Measured]:
        model = self.model  # under JAX, this brings the state of the step here
        layers = self._gated_layers(model)
        if at_end:
            self.end_epoch(model, layers)
        measured = {}
        for name, visits in self._visits.of(model, layers).items():
            layer = layers[name]
            if (visits < 0).any():
                if not at_end:
                    continue
                self._warn_of_lost_visits(name, layer)
                visits = np.full(visits.shape, np.nan)
            if visits.any():  # as NaN is
                measured[name] = self.measure(name, layer, visits, at_end)
            elif at_end:
                self._warn_of_no_visits(name, layer)
        return measured

    def _warn_of_lost_visits(self, name: str, layer: TreeLayer) -> None:
        self.warn_once(
            layer,
            "lost visits",
            f"The visits of the tree layer {name!r} went down in this epoch: "
            "the weights of the model, which these are part of, were put back "
            "to those of an earlier time. The epoch cannot be measured, and "
            f"what {type(self).__name__} reads from visits is NaN. Put it "
            "before the callback that puts weights back, or use `data=`.",
        )

    def _warn_of_no_visits(self, name: str, layer: TreeLayer) -> None:
        self.warn_once(
            layer,
            "no visits",
            f"The tree layer {name!r} routed no example in this epoch: it is "
            "frozen, or not used, or its weights were put back to those that "
            "the epoch began with. It is left out of what "
            f"{type(self).__name__} writes. Use `data=` to measure a layer "
            "that is frozen.",
        )

    def warn_once(self, layer: TreeLayer, kind: str, message: str) -> None:
        """Warns, if it has not yet done so about this of this layer."""
        kinds = self._warned.setdefault(layer, set())
        if kind not in kinds:
            kinds.add(kind)
            warnings.warn(message, stacklevel=2)

    def _keyed(self, measured: dict[str, Measured]) -> dict[str, float]:
        """Returns all numbers: means over the layers, then those of each."""
        keyed: dict[str, float] = {}
        values = [result.values for result in measured.values()]
        for key in dict.fromkeys(key for numbers in values for key in numbers):
            in_layers = [numbers[key] for numbers in values if key in numbers]
            keyed[f"{self._visits.prefix}{key}"] = float(np.mean(in_layers))
        for name, result in measured.items():
            for key, value in result.values.items():
                keyed[f"{self._visits.prefix}{name}/{key}"] = float(value)
        return keyed

    def _to_log(self, measured: dict[str, Measured]) -> dict[str, float]:
        if self.details:
            return self._keyed(measured)
        short = {}
        for name, result in measured.items():
            values = {
                key: value
                for key, value in result.values.items()
                if key not in result.details
            }
            short[name] = result._replace(values=values)
        return self._keyed(short)

    def _write(
        self, measured: dict[str, Measured], prefix: str, step: int
    ) -> None:
        """Writes everything to TensorBoard."""
        if self._events is None:
            return
        for key, value in self._keyed(measured).items():
            self._events.scalar(f"{prefix}{key}", value, step)
        for name, result in measured.items():
            tag, values = result.histogram
            if np.isnan(values).any():
                continue
            tag = f"{prefix}{self._visits.prefix}{name}/{tag}"
            self._events.histogram(tag, values, step)
        self._events.flush()

    def _line(self, epoch: int, name: str, result: Measured) -> str:
        numbers = "  ".join(
            f"{self._visits.prefix}{key} {value:.3f}"
            for key, value in result.values.items()
        )
        return f"epoch {epoch + 1}  {name}  {numbers}  {result.text}"

    # Only when the progress bar has written its line.
    def _print(self) -> None:
        for line in self._lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        self._lines = []
