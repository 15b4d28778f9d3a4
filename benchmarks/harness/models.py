"""What takes part in a benchmark: a model, and the work that is timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks import frameworks as timed
from benchmarks.baselines.naive_tree import NaiveTree
from keras_treegate import layers, optimizers

# Framework, and what compiles there. `None` is what `fit` does on CPU.
ENGINES: dict[str, tuple[str, str | None]] = {
    "jax": ("jax", None),
    "torch": ("torch", None),
    "torch-compile": ("torch", "compile"),
    "tensorflow": ("tensorflow", None),
    "tensorflow-xla": ("tensorflow", "xla"),
}
MODELS = ("dense", "naive", "tree", "folded", "large-dense")


class Contestant(NamedTuple):
    """One of those that are timed in turns.

    name: what it is called in the table.
    model: a name of `MODELS`, or of a peer.
    work: "forward", "gradients" or "step".
    batch, inputs, units, depth, trees: B, P, Q, D, G.
    hidden: the width between two layers; 0 for one layer alone.
    optimizer: for "step": the class name of one of ours or of Keras.
    parameters: for models of a given size: how many it should have.
    batches: distinct batches of data that take turns, so that each example
        brings rows of its own, as in use.
    """

    name: str
    model: str
    work: str
    batch: int
    inputs: int
    units: int
    depth: int
    trees: int
    hidden: int = 0
    optimizer: str = "StepAwareSGD"
    parameters: int = 0
    batches: int = 8


def tree_parameters(contestant: Contestant) -> int:
    """The numbers in the nodes of a tree of these sizes; of both layers."""
    inputs, units = contestant.inputs, contestant.units
    leaf = (inputs + units) * contestant.hidden or inputs * units
    return leaf * (2 ** (contestant.depth + 1) - 1)


def build_model(contestant: Contestant) -> keras.Model:
    """The model, compiled where a step of it is timed.

    Tables are drawn at random: zeros that were never written can share a page.
    """
    inputs = keras.Input((contestant.inputs,), batch_size=contestant.batch)
    if contestant.hidden or contestant.model == "large-dense":
        outputs = _block(contestant, inputs)
    else:
        outputs = _layer(contestant, contestant.units)(inputs)
    model = keras.Model(inputs, outputs)
    if contestant.model == "folded":
        from keras_treegate.transforms import fold

        model = fold(model)
    if contestant.work == "step":
        model.compile(build_optimizer(contestant.optimizer), "mse")
    return model


def _layer(contestant: Contestant, units: int) -> Any:
    if contestant.model in ("dense", "large-dense"):
        return keras.layers.Dense(units)
    if contestant.model == "naive":
        return NaiveTree(
            units,
            contestant.depth,
            contestant.trees,
            leaves_only=contestant.work == "forward",
        )
    return layers.TreeGatedDense(
        units,
        depth=contestant.depth,
        num_trees=contestant.trees,
        node_initializer=keras.initializers.RandomUniform(seed=1),
        seed=0,
    )


def _block(contestant: Contestant, inputs: Any) -> Any:
    """Two layers; the gates of both read the inputs."""
    hidden = contestant.hidden
    if contestant.model == "large-dense":
        widths = contestant.inputs + contestant.units
        hidden = max(1, round(contestant.parameters / widths))
    first = _layer(contestant, hidden)
    second = _layer(contestant, contestant.units)
    active = keras.layers.ReLU()(first(inputs))
    if contestant.model in ("tree", "folded"):
        return second(active, gate_inputs=inputs)
    return second(active)


def build_optimizer(name: str) -> Any:
    """One of ours, or else Keras's own of that name."""
    found = getattr(optimizers, name, None) or getattr(keras.optimizers, name)
    return found()


def draw_data(contestant: Contestant) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (batches, B, P), whose bits are fair coins, and targets."""
    draw = np.random.default_rng(0)
    leading = (contestant.batches, contestant.batch)
    inputs = draw.standard_normal((*leading, contestant.inputs), "float32")
    targets = draw.standard_normal((*leading, contestant.units), "float32")
    return inputs, targets


def count_parameters(model: keras.Model) -> int:
    """The numbers in all weights, without what only tells of training."""
    return sum(
        int(np.prod(weight.shape))
        for weight in model.weights
        if not weight.name.startswith(("clock", "stamps", "units", "visits"))
    )


class Work(NamedTuple):
    """A built contestant: a call of it does its work once."""

    call: Callable[[], Any]
    parameters: int
    model: Any


def build(contestant: Contestant, compiler: str | None) -> Work:
    """The work of a contestant, on the framework of this process."""
    if contestant.model in MODELS:
        model = build_model(contestant)
        parameters = count_parameters(model)
        function = getattr(timed, contestant.work)(model, compiler)
    else:
        model, parameters, function = _peer(contestant)
    inputs, targets = (
        [timed.on_device(batch) for batch in data]
        for data in draw_data(contestant)
    )
    data = list(zip(inputs, targets, strict=True))
    turn = 0

    def call() -> Any:
        nonlocal turn
        turn = (turn + 1) % len(data)
        x, y = data[turn]
        if contestant.work == "forward":
            return function(x)
        return function(x, y)

    return Work(call, parameters, model)


def _peer(contestant: Contestant) -> tuple:
    from benchmarks.baselines import peers as torch_peers

    keras.utils.set_random_seed(0)
    module, caller = torch_peers.build(
        contestant.model,
        contestant.inputs,
        contestant.hidden,
        contestant.units,
        2**contestant.depth,
        contestant.parameters,
    )
    function = getattr(torch_peers, contestant.work)(module, caller)
    return module, torch_peers.parameters(module), function
