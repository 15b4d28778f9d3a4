"""The models that are timed, their data, and the work that is done."""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks import frameworks
from benchmarks.baselines import peers
from benchmarks.baselines.naive_tree import NaiveTree
from keras_treegate import fold, layers, optimizers

MODELS = ("dense", "naive", "tree", "folded", "int8", "large-dense")
# The dtypes of the tables of folded ones; `None` is that of the layer.
FOLDED = {"folded": None, "int8": "int8"}
STEP_AWARE = ("StepAwareSGD", "StepAwareAdam", "StepAwareAdagrad")


class Case(NamedTuple):
    """A model of given sizes, and what is measured of it.

    name: what it is called in the table.
    batch, units, depth, trees: B, P = Q, D, G.
    model: a name of `MODELS`, or a package of `baselines.peers`.
    work: "forward", "gradients" or "step".
    optimizer: for "step": the class name of one of ours or of Keras.
    hidden: the width between two layers; 0 for one layer alone.
    parameters: for models of a given size: how many it should have.
    batches: distinct batches of data that take turns, so that each example
        brings rows of its own, as in use.
    levels: the levels of a tree that store nodes, "all" or "ends".
    layers: how many layers follow one another.
    """

    name: str
    batch: int
    units: int
    depth: int
    trees: int
    model: str = "tree"
    work: str = "step"
    optimizer: str = "StepAwareSGD"
    hidden: int = 0
    parameters: int = 0
    batches: int = 8
    levels: str = "all"
    layers: int = 1

    @property
    def tree_parameters(self) -> int:
        """The numbers in the nodes of a tree of these sizes; of both layers."""
        leaf = 2 * self.units * self.hidden or self.units**2
        return leaf * (2 ** (self.depth + 1) - 1)

    @classmethod
    def of(cls, given: argparse.Namespace, name: str, **changes: Any) -> "Case":
        """Returns a case of the sizes that options give, but for changes."""
        sizes = {
            size: getattr(given, size)
            for size in ("batch", "units", "depth", "trees", "hidden")
            if size in given
        }
        return cls(**sizes | {"name": name} | changes)


def cases_for_fit(given: argparse.Namespace) -> Iterator[tuple[str, Case]]:
    """Yields a square tree for each backend, depth and optimizer."""
    depths = given.depths if "depths" in given else given.depth
    optimizers = getattr(given, "optimizers", ["StepAwareAdam"])
    for backend, depth, optimizer in itertools.product(
        *(dict.fromkeys(given.backend), sorted(set(depths))),
        dict.fromkeys(optimizers),
    ):
        sizes = {"depth": depth, "optimizer": optimizer}
        yield backend, Case.of(given, f"{optimizer}, depth {depth}", **sizes)


def build_model(case: Case) -> keras.Model:
    """Builds the model, compiled where a step of it is timed.

    Tables are drawn at random: zeros that were never written can share a page.
    """
    inputs = keras.Input((case.units,), batch_size=case.batch)
    if case.hidden or case.model == "large-dense":
        outputs = _two_layers(case, inputs)
    else:
        outputs = _layer(case, case.units)(inputs)
    model = keras.Model(inputs, outputs)
    if case.model in FOLDED:
        model = fold(model, dtype=FOLDED[case.model])
    if case.work == "step":
        model.compile(build_optimizer(case.optimizer), "mse")
    return model


def build_for_fit(case: Case, **options: Any) -> keras.Model:
    """Builds one tree layer as it comes, compiled, with these options."""
    inputs = keras.Input((case.units,), batch_size=case.batch)
    layer = _tree(case, case.units, levels=case.levels, **options)
    model = keras.Sequential([inputs, layer])
    model.compile(build_optimizer(case.optimizer), "mse")
    return model


def build_layer(case: Case) -> keras.layers.Layer:
    """Builds one layer as it comes."""
    if case.model == "dense":
        return keras.layers.Dense(case.units)
    return _tree(case, case.units, levels=case.levels)


def _tree(case: Case, units: int, **options: Any) -> layers.TreeGatedDense:
    sizes = {"depth": case.depth, "num_trees": case.trees}
    return layers.TreeGatedDense(units, seed=0, **sizes, **options)


def _layer(case: Case, units: int) -> keras.layers.Layer:
    if case.model in ("dense", "large-dense"):
        return keras.layers.Dense(units)
    if case.model == "naive":
        leaves_only = case.work == "forward"
        return NaiveTree(units, case.depth, case.trees, leaves_only=leaves_only)
    nodes = keras.initializers.RandomUniform(seed=1)
    return _tree(case, units, node_initializer=nodes)


def _two_layers(case: Case, inputs: Any) -> Any:
    """Returns outputs of two layers whose gates both read the inputs."""
    hidden = case.hidden
    if case.model == "large-dense":
        hidden = max(1, round(case.parameters / (2 * case.units)))
    first, second = _layer(case, hidden), _layer(case, case.units)
    active = keras.layers.ReLU()(first(inputs))
    if case.model == "tree" or case.model in FOLDED:
        return second(active, gate_inputs=inputs)
    return second(active)


def build_optimizer(name: str) -> keras.optimizers.Optimizer:
    """Builds one of ours, or else Keras's own of that name."""
    found = getattr(optimizers, name, None) or getattr(keras.optimizers, name)
    return found()


def draw_data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Draws inputs (batches, B, P), whose bits are fair coins, and targets."""
    draw = np.random.default_rng(0)
    shape = (case.batches, case.batch, case.units)
    inputs = draw.standard_normal(shape, "float32")
    targets = draw.standard_normal(shape, "float32")
    return inputs, targets


def draw_for_fit(case: Case, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws inputs and targets for these steps of a square layer."""
    draw = np.random.default_rng(0)
    shape = (2, steps * case.batch, case.units)
    inputs, targets = draw.normal(size=shape).astype("float32")
    return inputs, targets


def touched_bytes(layer: Any, batches: Any) -> float:
    """Counts the bytes of all levels' distinct rows that a step needs.

    The mean over the steps, each with one of the batches of inputs.
    """
    codes = [
        keras.ops.convert_to_numpy(layer.leaf_codes(batch)) for batch in batches
    ]
    return touched_rows(np.stack(codes), layer.levels) * row_bytes(layer)


def touched_rows(codes: np.ndarray, levels: tuple[int, ...]) -> float:
    """Counts the distinct rows of levels that a step needs, on average.

    Args:
        codes: (S, B, G), the leaf codes of S steps.
        levels: the depths that store nodes, the last of which is D.
    """
    depth = levels[-1]
    steps, _, num_trees = codes.shape
    keys = codes + np.arange(num_trees) * 2**depth
    keys = np.sort(keys.reshape(steps, -1), axis=1)
    rows = 0
    for level in levels:
        changes = np.diff(keys >> (depth - level), axis=1)
        rows += steps + np.count_nonzero(changes)
    return rows / steps


def row_bytes(layer: Any) -> int:
    """Returns the bytes of one node (W, Q)."""
    _, width, units = layer.nodes[0].shape
    return width * units * np.dtype(layer.variable_dtype).itemsize


def count_parameters(model: keras.Model) -> int:
    """Counts the numbers in weights, but for records of training."""
    return sum(
        int(np.prod(weight.shape))
        for weight in model.weights
        if not weight.name.startswith(("clock", "stamps", "units", "visits"))
    )


class Work(NamedTuple):
    """A built case: a call of it does its work once."""

    call: Callable[[], Any]
    parameters: int
    model: Any


def build(case: Case, compiler: str | None) -> Work:
    """Builds the work of a case, on the framework of this process."""
    if case.model in MODELS:
        model = build_model(case)
        parameters = count_parameters(model)
        function = getattr(frameworks, case.work)(model, compiler)
    else:
        model, parameters, function = peers.work(case)
    inputs, targets = (
        [frameworks.on_device(batch) for batch in data]
        for data in draw_data(case)
    )
    turns = itertools.cycle(zip(inputs, targets, strict=True))

    def call() -> Any:
        x, y = next(turns)
        return function(x) if case.work == "forward" else function(x, y)

    return Work(call, parameters, model)


def epoch_seconds(
    model: keras.Model, data: dict, epochs: int = 1, callbacks: tuple = ()
) -> list[float]:
    """Times the epochs of a `fit` with these arguments and callbacks."""
    begins: list[float] = []
    ends: list[float] = []

    def note(times: list[float]) -> Callable[..., None]:
        return lambda epoch, logs: times.append(time.perf_counter())

    # Keras waits for the loss before it calls the end of an epoch.
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=note(begins))
    end = keras.callbacks.LambdaCallback(on_epoch_end=note(ends))
    model.fit(
        **data,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[begin, *callbacks, end],
    )
    return [stop - start for start, stop in zip(begins, ends, strict=True)]


def fit_seconds(model: keras.Model, case: Case) -> Callable[..., list[float]]:
    """Returns a function that times epochs of a `fit` of so many steps."""

    def seconds_of(steps: int, epochs: int = 2) -> list[float]:
        data = frameworks.feed(*draw_for_fit(case, steps), case.batch)
        return epoch_seconds(model, data, epochs)

    return seconds_of


def step_ms(
    seconds_of: Callable[..., list[float]],
    steps: int | None,
    budget: float,
    most: int,
    epochs: int = 5,
) -> tuple[int, np.ndarray]:
    """Returns the steps of an epoch, and the milliseconds of one by epoch.

    Args:
        seconds_of: returns the seconds of so many epochs of so many steps.
        steps: of an epoch; `None` for what the budget allows.
        budget: seconds of all epochs.
        most: steps, at most.
        epochs: how many are timed, after one that is not.
    """
    steps = steps or affordable_steps(
        seconds_of, budget / (epochs + 1), 2, most
    )
    return steps, np.array(seconds_of(steps, epochs + 1)[1:]) / steps * 1e3


def affordable_steps(
    seconds_of: Callable[[int], list[float]],
    budget: float,
    least: int,
    most: int,
) -> int:
    """Returns how many steps of an epoch take about `budget` seconds.

    Args:
        seconds_of: the seconds of two epochs of so many steps; the first one
            compiles.
        budget: seconds of an epoch.
        least: steps, at least.
        most: steps, at most.
    """
    step = seconds_of(least)[1] / least
    return min(max(int(budget / step), least), most)
