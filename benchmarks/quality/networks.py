"""How well networks predict that differ in one hidden layer.

Every network is trained in the same way: the same examples in the same order
for one seed, the same optimizer and number of steps, and a learning rate that
is searched among the same few.
"""

import math
import time
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.baselines.mixture import TopOneMixture
from benchmarks.quality.tasks import Task
from keras_treegate import fold, gates, layers, optimizers

# The levels of nodes that stay as they start.
FROZEN = {
    "tree": slice(0),
    "leaves": slice(-1),
    "roots and leaves": slice(1, -1),
}
METRIC = "sparse_categorical_accuracy"
OPTIMIZERS = ("StepAwareAdam", "Adam")

WIDTH = {"bytes": 256, "digits": 16}
DECAY = 0.1

# Steps of training: what is done in an hour on two cores, and in five minutes.
STEPS = {"bytes": 500, "digits": 660}
QUICK_STEPS = {"bytes": 300, "digits": 66}

# What each network's learning rate is searched among: times that of the task.
RATES = {"bytes": (1.0, 2.0, 4.0, 8.0), "digits": (1.0, 0.5, 2.0, 0.25, 4.0)}

# As wide a Dense network as stores what trees of depth 4 do.
EQUAL_PARAMETERS = {"bytes": 1152, "digits": 426}


class Network(NamedTuple):
    """One of those that are compared, and how it is trained.

    `trees` is `None` for one tree for each input unit; `rate` is a factor to
    the learning rate of the task. Among the families, "leaves" are trees whose
    leaves alone are trained: each has a kernel of its own, which starts as
    those of the roots, and shares nothing with others. "roots and leaves" share
    the roots. The outputs of a "mixture" start smaller than those of a Dense
    layer by the number of experts, those of a "scaled mixture" about as large.
    """

    task: str
    family: str
    width: int
    depth: int = 0
    trees: int | None = 0
    experts: int = 0
    weight_decay: float = 0.0
    optimizer: str = "StepAwareAdam"
    rate: float = 1.0

    @property
    def name(self) -> str:
        """The name that people read."""
        trees = f"{self.trees or 'all'} tree" + "s" * (self.trees != 1)
        kind = {
            "dense": f"Dense {self.width}",
            "mixture": f"mixture of {self.experts}",
            "scaled mixture": f"scaled mixture of {self.experts}",
            "leaves": f"leaves only, depth {self.depth}, {trees}",
        }.get(self.family, f"{self.family}, depth {self.depth}, {trees}")
        if self.weight_decay:
            kind += f", decay {self.weight_decay:g}"
        return kind + (", Adam" if self.optimizer == "Adam" else "")


def quick(task: str) -> list[Network]:
    """Returns what shows the order of the families."""
    width = WIDTH[task]
    return [
        Network(task, "dense", width),
        *(tree(task, 4, trees) for trees in (64, 16, 1)),
        Network(task, "dense", EQUAL_PARAMETERS[task]),
        Network(task, "mixture", width, experts=31),
    ]


def shallow(task: str) -> list[Network]:
    """Returns all networks that are trained in about the time of these."""
    width = WIDTH[task]
    return [
        *quick(task),
        Network(task, "leaves", width, depth=4, trees=16),
        Network(task, "roots and leaves", width, depth=4, trees=16),
        Network(task, "dense", width, weight_decay=DECAY),
        tree(task, 4, 64)._replace(weight_decay=DECAY),
        *(tree(task, 2, trees) for trees in (16, 64)),
        tree(task, 4, None),
        Network(task, "mixture", width, experts=16),
        Network(task, "scaled mixture", width, experts=16),
        *(Network(task, "dense", width * times) for times in (2, 4)),
    ]


def deep(task: str) -> list[Network]:
    """Returns what takes long for bytes, the longest first."""
    return [tree(task, depth, 64) for depth in (10, 8, 6)]


def everything(task: str) -> list[Network]:
    """Returns all networks."""
    return shallow(task) + deep(task)


def tree(task: str, depth: int, trees: int | None) -> Network:
    """Returns a tree-gated network of the width of all of equal work."""
    return Network(task, "tree", WIDTH[task], depth=depth, trees=trees)


class EndsInTime(keras.callbacks.Callback):
    """Breaks training off, early, if it would not end before a deadline."""

    FIRST, LAST = 10, 40  # the steps that tell how long one takes

    def __init__(self, steps: int, deadline: float) -> None:
        super().__init__()
        self.steps = steps
        self.deadline = deadline
        self.broken_off = False
        self._start = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == self.FIRST:
            self._start = time.perf_counter()
        if batch == self.LAST:
            now = time.perf_counter()
            step = (now - self._start) / (self.LAST - self.FIRST)
            if now + step * (self.steps - self.LAST) > self.deadline:
                self.model.stop_training = self.broken_off = True


def measure(
    network: Network, task: Task, seed: int, deadline: float = math.inf
) -> dict | None:
    """Trains a network and returns its row of the results.

    `None` if the training would not end before `deadline`, a time of
    `time.perf_counter`.
    """
    keras.utils.set_random_seed(seed)
    model = build_model(network, task, seed)
    start = time.perf_counter()
    x, y = task.train
    in_time = EndsInTime(len(y) // task.batch, deadline)
    model.fit(
        x,
        y,
        batch_size=task.batch,
        shuffle=False,
        verbose=0,
        callbacks=[in_time],
    )
    if in_time.broken_off:
        return None
    seconds = time.perf_counter() - start
    loss, accuracy = score(model, task)
    return network._asdict() | {
        "name": network.name,
        "seed": seed,
        "learning_rate": network.rate * task.learning_rate,
        "steps": len(y) // task.batch,
        "bits": float(loss / np.log(2)),
        "accuracy": float(accuracy),
        "seconds": seconds,
        **size(model),
    }


def score(model: keras.Model, task: Task) -> list[float]:
    """Returns the loss and the accuracy on the validation data.

    Of the network with the sums of all paths stored, which gives the same in a
    small part of the time.
    """
    loss = model.loss
    if any(isinstance(x, layers.TreeGatedDense) for x in model.layers):
        model = fold(model)
        model.compile(loss=loss, metrics=[METRIC])
    return model.evaluate(*task.validation, batch_size=512, verbose=0)


def build_model(network: Network, task: Task, seed: int) -> keras.Model:
    """Builds a network, compiled.

    For bytes the layer under test is the second of two hidden layers, and the
    signs that gate are those which the first one's ReLU takes. For digits it
    is the only one, and its gates ask whether a pixel is above its mean.
    """
    hidden = hidden_layer(network, seed)
    x, y = task.train
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    if network.task == "bytes":
        z = keras.layers.Embedding(task.classes, 32)(inputs)
        z = keras.layers.Flatten()(z)
        z = keras.layers.Dense(network.width)(z)
        z = keras.layers.ReLU()(keras.layers.LayerNormalization()(z))
        z = keras.layers.ReLU()(hidden(z))
    else:
        z = keras.layers.LayerNormalization()(hidden(inputs))
        z = keras.layers.ReLU()(z)
    logits = keras.layers.Dense(task.classes)(z)
    if network.family in FROZEN:
        for nodes in hidden.nodes[FROZEN[network.family]]:
            nodes.trainable = False
    model = keras.Model(inputs, logits)
    source = (
        optimizers if network.optimizer == "StepAwareAdam" else keras.optimizers
    )
    model.compile(
        getattr(source, network.optimizer)(
            keras.optimizers.schedules.CosineDecay(
                network.rate * task.learning_rate, len(y) // task.batch
            ),
            weight_decay=network.weight_decay or None,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[METRIC],
    )
    return model


def hidden_layer(network: Network, seed: int) -> Any:
    """Builds the layer in which networks differ."""
    if network.family == "dense":
        return keras.layers.Dense(network.width)
    if network.family == "mixture":
        return TopOneMixture(network.width, network.experts)
    if network.family == "scaled mixture":
        return TopOneMixture(
            network.width, network.experts, scale=network.experts
        )
    threshold = "zero" if network.task == "bytes" else "running_mean"
    return layers.TreeGatedDense(
        network.width,
        depth=network.depth,
        num_trees=network.trees,
        gate=gates.SignGate(threshold=threshold, seed=seed),
    )


def size(model: keras.Model) -> dict:
    """Counts trained numbers, and multiply-adds per example, of a network.

    `folded` is the arithmetic with the sums of all paths stored. An embedding
    reads a row and multiplies nothing.
    """
    parameters = tree = folded = 0
    for layer in model.layers:
        if isinstance(layer, layers.TreeGatedDense):
            learnt = [nodes for nodes in layer.nodes if nodes.trainable]
            work = layer.multiply_adds
            parameters += sum(int(np.prod(nodes.shape)) for nodes in learnt)
            parameters += layer.units
            folded += work.folded
            tree += work.folded * len(learnt)
            continue
        parameters += layer.count_params()
        if isinstance(layer, TopOneMixture):
            tree += layer.multiply_adds
            folded += layer.multiply_adds
        elif isinstance(layer, keras.layers.Dense):
            tree += int(np.prod(layer.kernel.shape))
            folded += int(np.prod(layer.kernel.shape))
    return {"parameters": parameters, "multiply_adds": tree, "folded": folded}
