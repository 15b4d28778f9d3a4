"""Trains in one of two processes that know each other by a loopback address.

    python -m tests.distribution.jax.two_processes FOLDER PORT RANK [EPOCH]

Each process feeds half of each batch, and keeps a backup of its own after each
epoch, from which it goes on if it is started again. In the epoch that is given,
it kills itself. At the end it writes what it ended with into the folder.
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from keras_treegate.optimizers import StepAwareAdam
from tests.distribution.jax.engines import batches, build_model

PROCESSES, EPOCHS, STEPS, BATCH = 2, 4, 50, 8
DEPTH, LEVELS = 6, (0, 6)


class Share(keras.utils.PyDataset):
    """The part of each batch that a process feeds, the same in each epoch."""

    def __init__(self, rank=0, processes=1):
        super().__init__()
        self.batches = list(batches(STEPS, BATCH))
        size = BATCH // processes
        self.mine = slice(rank * size, (rank + 1) * size)

    def __len__(self):
        return STEPS

    def __getitem__(self, step):
        (x, tokens), y = self.batches[step]
        return (x[self.mine], tokens[self.mine]), y[self.mine]


class Epochs(keras.callbacks.Callback):
    """Notes the epochs that are begun; kills the process in the middle."""

    def __init__(self, killed_in=None):
        super().__init__()
        self.begun, self.killed_in = [], killed_in

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if self.begun[-1] == self.killed_in and batch == STEPS // 2:
            os.kill(os.getpid(), signal.SIGKILL)


def train(share, *callbacks):
    """Returns the state of a model by the paths of its variables."""
    keras.utils.set_random_seed(0)
    model = build_model(DEPTH, LEVELS)
    model.compile(StepAwareAdam(0.003, weight_decay=0.1), "mse")
    model.fit(
        share,
        epochs=EPOCHS,
        shuffle=False,  # else another order after a new start
        verbose=0,
        callbacks=list(callbacks),
    )
    variables = [*model.variables, *model.optimizer.variables]
    return {
        variable.path.replace("/", "."): np.asarray(variable.value)
        for variable in variables
    }


def main(folder, port, rank, killed_in=None):
    folder, rank = Path(folder), int(rank)
    addresses = ",".join([f"127.0.0.1:{port}"] * PROCESSES)
    keras.distribution.initialize(addresses, PROCESSES, rank)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    epochs = Epochs(None if killed_in is None else int(killed_in))
    backup = keras.callbacks.BackupAndRestore(folder / f"backup {rank}")
    state = train(Share(rank, PROCESSES), backup, epochs)
    np.savez(folder / f"{rank}.npz", epochs=epochs.begun, **state)


if __name__ == "__main__":
    main(*sys.argv[1:])
