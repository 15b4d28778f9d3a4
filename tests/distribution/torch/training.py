"""A network with tables, its data, and its training in one or more processes.

`python -m tests.distribution.torch.training FOLDER` is a process of a group,
started as `torchrun` starts it. It trains each of the cases and writes what it
ends with into the folder.
"""

import sys
import traceback
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

STEPS, TREES, DEPTH, IDS = 60, 2, 7, 300
JOINT = 8  # examples of all processes together


class Case(NamedTuple):
    """A way to train.

    optimizer: a function without arguments.
    shares: the examples of each process.
    threshold: that of the gates.
    without: a process that looks up no embedding in every third step.
    """

    optimizer: type
    shares: tuple = (4, 4)
    threshold: str = "zero"
    without: int | None = None

    @property
    def keeps_rows(self):
        """Whether each gradient has the same form in all processes."""
        return len(set(self.shares)) == 1


CASES = {
    "sgd": Case(lambda: optimizers.StepAwareSGD(0.1, weight_decay=0.1)),
    "momentum": Case(
        lambda: optimizers.StepAwareSGD(0.05, momentum=0.9, weight_decay=0.1)
    ),
    "adam": Case(lambda: optimizers.StepAwareAdam(0.01, weight_decay=0.1)),
    "adagrad": Case(lambda: optimizers.StepAwareAdagrad(0.1, weight_decay=0.1)),
    "rowwise": Case(
        lambda: optimizers.StepAwareAdagrad(
            0.1, rowwise=True, weight_decay=0.1, global_clipnorm=0.5
        )
    ),
    "stock": Case(lambda: keras.optimizers.SGD(0.1)),
    "one process without ids": Case(
        lambda: optimizers.StepAwareAdam(0.01, weight_decay=0.1), without=1
    ),
    "shares of other sizes": Case(
        lambda: optimizers.StepAwareSGD(0.1, weight_decay=0.1), shares=(7, 1)
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
    called, part, share = network, slice(None), 1.0
    if rank is not None:
        called = data_parallel(network)
        first = sum(case.shares[:rank])
        part = slice(first, first + case.shares[rank])
        share = case.shares[rank] * len(case.shares) / JOINT
    for batch in batches(STEPS, case.without):
        inputs = [ops.convert_to_tensor(array[part]) for array in batch]
        step(network, called, optimizer, inputs, share)
    return network, optimizer


def step(network, called, optimizer, batch, share=1.0):
    network.zero_grad()
    *inputs, targets = batch
    outputs = called(inputs, training=True)
    loss = ops.mean(ops.square(outputs - targets)) * share
    loss.backward()
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


def refuse(self):
    raise AssertionError("A gradient of rows was made dense.")


def main(folder):
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    to_dense, become_dense = LazyGradient.to_dense, LazyGradient.become_dense
    for name, case in CASES.items():
        if case.keeps_rows and name != "stock":
            LazyGradient.to_dense = LazyGradient.become_dense = refuse
        else:
            LazyGradient.to_dense = to_dense
            LazyGradient.become_dense = become_dense
        state = state_of(*train(case, rank, seed=rank))
        np.savez(folder / f"{name} {rank}.npz", **state)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
