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
from keras_treegate import gates, layers, optimizers
from keras_treegate.transforms import fold

# The levels of nodes that stay as they start.
FROZEN = {
    "tree": slice(0),
    "leaves": slice(-1),
    "roots and leaves": slice(1, -1),
}
METRIC = "sparse_categorical_accuracy"
OPTIMIZERS = ("StepAwareAdam", "Adam")


class Case(NamedTuple):
    """One network, and how it is trained.

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
        """What people call it."""
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
    case: Case, task: Task, seed: int, deadline: float = math.inf
) -> dict | None:
    """Trains the network of a case and returns its row of the results.

    `None` if the training would not end before `deadline`, a time of
    `time.perf_counter`.
    """
    keras.utils.set_random_seed(seed)
    model = build_model(case, task, seed)
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
    return case._asdict() | {
        "name": case.name,
        "seed": seed,
        "learning_rate": case.rate * task.learning_rate,
        "steps": len(y) // task.batch,
        "bits": float(loss / np.log(2)),
        "accuracy": float(accuracy),
        "seconds": seconds,
        **size(model),
    }


def score(model: keras.Model, task: Task) -> list[float]:
    """The loss and the accuracy on the validation data.

    Of the network with the sums of all paths stored, which gives the same in a
    small part of the time.
    """
    loss = model.loss
    if any(isinstance(x, layers.TreeGatedDense) for x in model.layers):
        model = fold(model)
        model.compile(loss=loss, metrics=[METRIC])
    return model.evaluate(*task.validation, batch_size=512, verbose=0)


def build_model(case: Case, task: Task, seed: int) -> keras.Model:
    """The network of a case, compiled.

    For bytes the layer under test is the second of two hidden layers, and the
    signs that gate are those which the first one's ReLU takes. For digits it
    is the only one, and its gates ask whether a pixel is above its mean.
    """
    hidden = hidden_layer(case, seed)
    x, y = task.train
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    if case.task == "bytes":
        z = keras.layers.Embedding(task.classes, 32)(inputs)
        z = keras.layers.Flatten()(z)
        z = keras.layers.Dense(case.width)(z)
        z = keras.layers.ReLU()(keras.layers.LayerNormalization()(z))
        z = keras.layers.ReLU()(hidden(z))
    else:
        z = keras.layers.LayerNormalization()(hidden(inputs))
        z = keras.layers.ReLU()(z)
    logits = keras.layers.Dense(task.classes)(z)
    if case.family in FROZEN:
        for nodes in hidden.nodes[FROZEN[case.family]]:
            nodes.trainable = False
    model = keras.Model(inputs, logits)
    source = (
        optimizers if case.optimizer == "StepAwareAdam" else keras.optimizers
    )
    model.compile(
        getattr(source, case.optimizer)(
            keras.optimizers.schedules.CosineDecay(
                case.rate * task.learning_rate, len(y) // task.batch
            ),
            weight_decay=case.weight_decay or None,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[METRIC],
    )
    return model


def hidden_layer(case: Case, seed: int) -> Any:
    """The layer in which networks differ."""
    if case.family == "dense":
        return keras.layers.Dense(case.width)
    if case.family == "mixture":
        return TopOneMixture(case.width, case.experts)
    if case.family == "scaled mixture":
        return TopOneMixture(case.width, case.experts, scale=case.experts)
    threshold = "zero" if case.task == "bytes" else "running_mean"
    return layers.TreeGatedDense(
        case.width,
        depth=case.depth,
        num_trees=case.trees,
        gate=gates.SignGate(threshold=threshold, seed=seed),
    )


def size(model: keras.Model) -> dict:
    """Trained numbers, and multiply-adds per example, of a network.

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
