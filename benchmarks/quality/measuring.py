"""Trains one network and measures how well it predicts.

Every network is trained in the same way: the same examples in the same order
for one seed, the same optimizer and number of steps, and a learning rate that
is searched among the same few.
"""

import math
import time
from typing import Any

import keras

from benchmarks.quality import building
from benchmarks.quality.networks import METRIC, Network
from benchmarks.quality.tasks import Task
from keras_treegate import fold, layers

LN_2 = math.log(2)


class EndsInTime(keras.callbacks.Callback):
    """Breaks training off, early, if it would not end before a deadline.

    step_ms: milliseconds of a step, without the first ones, which compile. It
        is known after training, and `None` if there were only the first ones.
    """

    FIRST, LAST = 10, 40  # the steps that tell how long one takes

    def __init__(self, steps: int, deadline: float) -> None:
        super().__init__()
        self.steps = steps
        self.deadline = deadline
        self.broken_off = False
        self.step_ms: float | None = None
        self._start = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch == self.FIRST:
            self._start = time.perf_counter()
        if batch == self.LAST:
            now = time.perf_counter()
            step = (now - self._start) / (self.LAST - self.FIRST)
            if now + step * (self.steps - self.LAST) > self.deadline:
                self.model.stop_training = self.broken_off = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.steps - 1 > self.FIRST:
            past = time.perf_counter() - self._start
            self.step_ms = past / (self.steps - 1 - self.FIRST) * 1e3


def measure(
    network: Network, task: Task, seed: int, deadline: float = math.inf
) -> dict | None:
    """Trains a network and returns its row of the results.

    `None` if the training would not end before `deadline`, a time of
    `time.perf_counter`.
    """
    keras.utils.set_random_seed(seed)
    model = building.build_model(network, task, seed)
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
    count = len(task.validation[1])
    seen = x[-count:], y[-count:]
    (loss, accuracy), (train_loss, _), *choice = score(
        model, task.validation, seen, task.choice
    )
    return network._asdict() | {
        "name": network.name,
        "seed": seed,
        "learning_rate": network.rate * task.learning_rate,
        "steps": len(y) // task.batch,
        "bits": loss / LN_2,
        "train_bits": train_loss / LN_2,
        **({"choice_bits": choice[0][0] / LN_2} if choice else {}),
        "accuracy": float(accuracy),
        "seconds": seconds,
        "step_ms": in_time.step_ms,
        **building.size(model),
    }


def score(model: keras.Model, *data: tuple | None) -> list[list[float]]:
    """Returns the loss and the accuracy on data, but where there is none.

    Of the network with the sums of all paths stored, which gives the same in a
    small part of the time.
    """
    loss = model.loss
    if any(isinstance(x, layers.TreeGatedDense) for x in model.layers):
        model = fold(model)
        model.compile(loss=loss, metrics=[METRIC])
    return [
        model.evaluate(*part, batch_size=512, verbose=0)
        for part in data
        if part is not None
    ]
