"""A network with tables, its data, and its training in one or more processes.

`python -m tests.distribution.torch.training FOLDER RANK` is one of two
processes. It trains each of the cases and writes what it ends with into the
folder.
"""

import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import torch
from keras import ops
from torch import distributed

from keras_treegate import optimizers
from keras_treegate.backend.torch.lazy_gradient import LazyGradient
from keras_treegate.credit import Reinforce
from keras_treegate.distribution import data_parallel
from keras_treegate.gates import SignGate
from keras_treegate.layers import SparseEmbedding, TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from tests.optimizers.routing import inputs_for, zipf_codes

STEPS, TREES, DEPTH, IDS = 50, 2, 6, 300
# A batch of 4 reads the first two whole, and the others row by row.
LEVELS = (0, 2, 4, 6)
JOINT = 8  # examples of all processes together


def stock_optimizer():
    return keras.optimizers.SGD(0.1)


class Case(NamedTuple):
    """A way to train.

    optimizer: a function without arguments.
    shares: the examples of each process.
    threshold: that of the gates.
    without: a process that looks up no embedding in every third step.
    parts: the parts of a share whose gradients are accumulated.
    """

    optimizer: Callable
    shares: tuple = (4, 4)
    threshold: str = "zero"
    without: int | None = None
    parts: int = 1

    @property
    def keeps_rows(self):
        """Whether no gradient of rows is made dense.

        A process makes one dense where another read all rows, and so does an
        optimizer that knows no rows.
        """
        alike = len(set(self.shares)) == 1
        return alike and self.optimizer is not stock_optimizer


CASES = {
    "sgd": Case(lambda: optimizers.StepAwareSGD(0.1, weight_decay=0.1)),
    "adam": Case(lambda: optimizers.StepAwareAdam(0.01, weight_decay=0.1)),
    "adagrad": Case(lambda: optimizers.StepAwareAdagrad(0.1, weight_decay=0.1)),
    "rowwise": Case(
        lambda: optimizers.StepAwareAdagrad(
            0.1, rowwise=True, weight_decay=0.1, global_clipnorm=0.5
        )
    ),
    "stock": Case(stock_optimizer),
    "one process without ids": Case(
        lambda: optimizers.StepAwareAdam(0.01, weight_decay=0.1), without=1
    ),
    "shares of other sizes": Case(
        lambda: optimizers.StepAwareSGD(0.1, weight_decay=0.1), shares=(7, 1)
    ),
    "parts of a batch": Case(
        lambda: optimizers.StepAwareSGD(0.05, momentum=0.9, weight_decay=0.1),
        parts=2,
    ),
    "running means": Case(
        lambda: optimizers.StepAwareSGD(0.1, weight_decay=0.1),
        shares=(5, 3),
        threshold="running_mean",
    ),
}


class Network(keras.Model):
    """A tree layer and an embedding, added up, and a Dense layer."""

    def __init__(self, threshold):
        super().__init__()
        units = np.arange(TREES * DEPTH).reshape(TREES, DEPTH)
        self.tree = TreeGatedDense(
            3,
            depth=DEPTH,
            num_trees=TREES,
            levels=LEVELS,
            gate=SignGate(units=units, threshold=threshold),
            count_visits=True,
        )
        self.embedding = SparseEmbedding(IDS, 3)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs, training=None):
        x, ids, weights = inputs
        outputs = self.tree(x, training=training)
        if ops.any(weights != 0):
            outputs = outputs + self.embedding(ids) * weights[:, None]
        return self.dense(outputs)


def make_network(threshold, seed):
    keras.utils.set_random_seed(seed)
    network = Network(threshold)
    network([*map(ops.convert_to_tensor, batches(1, None, 0)[0][:3])])
    return network


def batches(steps, without, start=JOINT // 2):
    """Returns the joint batches: inputs, ids, their weights, and targets."""
    random = np.random.default_rng(0)
    result = []
    for step in range(steps):
        codes = zipf_codes(random, JOINT, TREES, DEPTH)
        ids = (IDS * random.power(0.3, JOINT)).astype("int32")
        weights = np.ones(JOINT, "float32")
        if without is not None and step % 3 == 0:
            weights[start:] = 0
        targets = random.normal(size=(JOINT, 2)).astype("float32")
        result.append((inputs_for(random, codes, DEPTH), ids, weights, targets))
    return result


def train(case, rank=None, seed=0):
    """Returns the network and the optimizer after the training of a case."""
    network = make_network(case.threshold, seed)
    optimizer = case.optimizer()
    called, share, scale = network, slice(None), 1.0
    if rank is not None:
        called = data_parallel(network)
        first = sum(case.shares[:rank])
        share = slice(first, first + case.shares[rank])
        scale = case.shares[rank] * len(case.shares) / JOINT
    for batch in batches(STEPS, case.without):
        network.zero_grad()
        *parts, last = zip(
            *(np.split(array[share], case.parts) for array in batch),
            strict=True,
        )
        for part in parts:
            with called.no_sync() if rank is not None else nullcontext():
                add_gradients(called, part, scale / case.parts)
        add_gradients(called, last, scale / case.parts)
        apply_gradients(network, optimizer)
    return network, optimizer


def add_gradients(called, batch, scale):
    *inputs, targets = map(ops.convert_to_tensor, batch)
    outputs = called(inputs, training=True)
    (ops.mean(ops.square(outputs - targets)) * scale).backward()


def apply_gradients(network, optimizer):
    weights = network.trainable_variables
    with torch.no_grad():
        optimizer.apply([weight.value.grad for weight in weights], weights)


def state_of(network, optimizer):
    """Returns all weights and the state of the optimizer, by number."""
    variables = [*network.variables, *optimizer.variables]
    return {
        f"{number:03d} {variable.path}": ops.convert_to_numpy(variable)
        for number, variable in enumerate(variables)
    }


def reinforced(rank):
    """Returns the losses of steps of `Reinforce` and the baseline after each.

    Each process has targets of another size, so that their losses differ.
    """
    keras.utils.set_random_seed(rank)
    layer = TreeGatedDense(2, depth=3, num_trees=2, credit=Reinforce())
    model = keras.Sequential([keras.Input((6,)), layer])
    parallel = data_parallel(model)
    loss, optimizer = ReinforceLoss("mse"), optimizers.StepAwareSGD(0.01)
    random = np.random.default_rng(rank)
    losses, baselines = [], []
    for _ in range(3):
        x = ops.convert_to_tensor(random.normal(size=(4, 6)).astype("float32"))
        targets = ops.full((4, 2), 1.0 + rank)
        model.zero_grad()
        value = loss(targets, parallel(x, training=True))
        value.backward()
        apply_gradients(model, optimizer)
        losses.append(float(value.detach()))
        baselines.append(ops.convert_to_numpy(layer.credit.moving_means)[0])
    return {"losses": losses, "baselines": baselines}


def refuse(self):
    raise AssertionError("A gradient of rows was made dense.")


class Sent:
    """Notes the bytes that a process sends, in place of a function."""

    def __init__(self, send):
        self.send = send
        self.largest = 0

    def __call__(self, *args, **kwargs):
        tensor = args[1] if isinstance(args[0], list) else args[0]
        self.largest = max(self.largest, tensor.numel() * tensor.itemsize)
        return self.send(*args, **kwargs)


def main(folder, rank):
    warnings.simplefilter("error", UserWarning)
    distributed.init_process_group(
        "gloo", f"file://{folder / 'group'}", rank=rank, world_size=2
    )
    to_dense, become_dense = LazyGradient.to_dense, LazyGradient.become_dense
    all_gather, all_reduce = distributed.all_gather, distributed.all_reduce
    for name, case in CASES.items():
        LazyGradient.to_dense, LazyGradient.become_dense = (
            (refuse, refuse) if case.keeps_rows else (to_dense, become_dense)
        )
        distributed.all_gather = gathers = Sent(all_gather)
        distributed.all_reduce = reduces = Sent(all_reduce)
        state = state_of(*train(case, rank, seed=rank))
        largest = [gathers.largest, reduces.largest]
        np.savez(folder / f"{name} {rank}.npz", largest=largest, **state)
    np.savez(folder / f"reinforced {rank}.npz", **reinforced(rank))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
