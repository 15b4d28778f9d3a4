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
    "hash": slice(0),
    "hash layer": slice(-1),
}
METRIC = "sparse_categorical_accuracy"
OPTIMIZERS = ("StepAwareAdam", "Adam")

WIDTH = {"bytes": 256, "digits": 16, "context": 128}
DECAY = 0.1

# Steps of training: what is done in an hour on two cores, and in five minutes.
STEPS = {"bytes": 500, "digits": 660, "context": 3000}
QUICK_STEPS = {"bytes": 300, "digits": 66, "context": 300}

# What each network's learning rate is searched among: times that of the task.
RATES = {
    "bytes": (1.0, 2.0, 4.0, 8.0),
    "digits": (1.0, 0.5, 2.0, 0.25, 4.0),
    "context": (1.0, 2.0, 4.0, 8.0),
}

# The bits and the numbers of an embedding of n-grams.
NGRAM_BITS = 16
NGRAM_WIDTH = 16

LN_2 = math.log(2)

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
    The gates of a "hash" tree read the last bytes, of these `orders`; a "hash
    layer" is one such tree with nothing but leaves. "n-grams" is a Dense
    network that is also given embeddings of hashes of the last bytes.
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
    levels: str = "all"
    orders: str = ""

    @property
    def name(self) -> str:
        """The name that people read."""
        trees = f"{self.trees or 'all'} tree" + "s" * (self.trees != 1)
        kind = {
            "dense": f"Dense {self.width}",
            "mixture": f"mixture of {self.experts}",
            "scaled mixture": f"scaled mixture of {self.experts}",
            "leaves": f"leaves only, depth {self.depth}, {trees}",
            "n-grams": f"Dense {self.width} and n-grams of {self.orders}",
        }.get(self.family, f"{self.family}, depth {self.depth}, {trees}")
        if self.orders and self.family != "n-grams":
            kind += f", orders {self.orders}"
        if self.levels != "all":
            kind += f", levels {self.levels}"
        if self.weight_decay:
            kind += f", decay {self.weight_decay:g}"
        return kind + (", Adam" if self.optimizer == "Adam" else "")


def numbers(text: str) -> tuple[int, ...]:
    """Returns the numbers of a text such as "1,2,3"."""
    return tuple(map(int, text.split(",")))


def hashed(depth: int, orders: str, levels: str, trees: int = 16) -> Network:
    """Returns a tree whose gates read the last bytes."""
    width = WIDTH["context"]
    return Network(
        *("context", "hash", width, depth, trees), levels=levels, orders=orders
    )


def of_context(is_quick: bool) -> list[Network]:
    """Returns networks whose trees read the context, and what they rival."""
    width = WIDTH["context"]
    few = [
        Network("context", "dense", width),
        Network("context", "dense", 4 * width),
        hashed(6, "2", "ends"),
        hashed(9, "1,2,3", "0,3,6,9"),
        Network("context", "n-grams", width, orders="2,3"),
    ]
    if is_quick:
        return few
    return [
        *few,
        *(Network("context", "dense", times * width) for times in (2, 9)),
        tree("context", 6, 64),
        tree("context", 6, 64)._replace(levels="ends"),
        hashed(6, "1", "ends"),
        hashed(6, "2", "all"),
        hashed(6, "2", "ends", trees=1),
        hashed(6, "2", "ends", trees=64),
        Network("context", "hash layer", width, 6, 1, orders="2"),
        Network("context", "n-grams", width, orders="1,2,3"),
        Network("context", "mixture", width, experts=16),
        *(hashed(depth, "2", "ends") for depth in (2, 4, 8)),
        hashed(12, "1,2,3", "0,4,8,12"),
    ]


def quick(task: str) -> list[Network]:
    """Returns what shows the order of the families."""
    width = WIDTH[task]
    if task == "context":
        return of_context(is_quick=True)
    return [
        Network(task, "dense", width),
        *(tree(task, 4, trees) for trees in (64, 16, 1)),
        Network(task, "dense", EQUAL_PARAMETERS[task]),
        Network(task, "mixture", width, experts=31),
    ]


def shallow(task: str) -> list[Network]:
    """Returns all networks that are trained in about the time of these."""
    width = WIDTH[task]
    if task == "context":
        return of_context(is_quick=False)
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
    if task == "context":
        return []
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
    loss, accuracy = score(model, task.validation)
    chosen_by = {}
    if task.choice is not None:
        chosen_by["choice_bits"] = score(model, task.choice)[0] / LN_2
    return network._asdict() | {
        "name": network.name,
        "seed": seed,
        "learning_rate": network.rate * task.learning_rate,
        "steps": len(y) // task.batch,
        "bits": loss / LN_2,
        **chosen_by,
        "accuracy": float(accuracy),
        "seconds": seconds,
        **size(model),
    }


def score(model: keras.Model, data: tuple) -> list[float]:
    """Returns the loss and the accuracy on some data.

    Of the network with the sums of all paths stored, which gives the same in a
    small part of the time.
    """
    loss = model.loss
    if any(isinstance(x, layers.TreeGatedDense) for x in model.layers):
        model = fold(model)
        model.compile(loss=loss, metrics=[METRIC])
    return model.evaluate(*data, batch_size=512, verbose=0)


def build_model(network: Network, task: Task, seed: int) -> keras.Model:
    """Builds a network, compiled.

    For bytes the layer under test is the second of two hidden layers, and the
    signs that gate are those which the first one's ReLU takes, or hashes of the
    bytes. For digits it is the only one, and its gates ask whether a pixel is
    above its mean.
    """
    hidden = hidden_layer(network, seed)
    x, y = task.train
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    if network.task == "digits":
        z = keras.layers.LayerNormalization()(hidden(inputs))
        z = keras.layers.ReLU()(z)
    else:
        z = keras.layers.Embedding(task.classes, 32)(inputs)
        z = keras.layers.Flatten()(z)
        if network.family == "n-grams":
            z = keras.layers.Concatenate()([z, *n_grams(network, seed, inputs)])
        z = keras.layers.Dense(network.width)(z)
        z = keras.layers.ReLU()(keras.layers.LayerNormalization()(z))
        hashes = network.family in ("hash", "hash layer")
        z = hidden(z, gate_inputs=inputs) if hashes else hidden(z)
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


def n_grams(network: Network, seed: int, inputs: Any) -> list[Any]:
    """Returns embeddings (B, 16) of hashes of the last bytes, by order.

    A hash gate of one tree tells apart `2^NGRAM_BITS` classes.
    """
    found = []
    for order in numbers(network.orders):
        gate = gates.HashGate(order, seed=seed)
        gate.setup(1, NGRAM_BITS)
        rows = keras.layers.Embedding(2**NGRAM_BITS, NGRAM_WIDTH)(gate(inputs))
        found.append(keras.layers.Flatten()(rows))
    return found


def hidden_layer(network: Network, seed: int) -> Any:
    """Builds the layer in which networks differ."""
    if network.family in ("dense", "n-grams"):
        return keras.layers.Dense(network.width)
    if network.family == "mixture":
        return TopOneMixture(network.width, network.experts)
    if network.family == "scaled mixture":
        return TopOneMixture(
            network.width, network.experts, scale=network.experts
        )
    if network.orders:
        gate = gates.HashGate(numbers(network.orders), seed=seed)
    else:
        threshold = "running_mean" if network.task == "digits" else "zero"
        gate = gates.SignGate(threshold=threshold, seed=seed)
    named = network.levels in ("all", "ends")
    return layers.TreeGatedDense(
        network.width,
        depth=network.depth,
        num_trees=network.trees,
        levels=network.levels if named else numbers(network.levels),
        gate=gate,
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
        parameters += sum(
            int(np.prod(weight.shape)) for weight in layer.trainable_weights
        )
        if isinstance(layer, TopOneMixture):
            tree += layer.multiply_adds
            folded += layer.multiply_adds
        elif isinstance(layer, keras.layers.Dense):
            tree += int(np.prod(layer.kernel.shape))
            folded += int(np.prod(layer.kernel.shape))
    return {"parameters": parameters, "multiply_adds": tree, "folded": folded}
