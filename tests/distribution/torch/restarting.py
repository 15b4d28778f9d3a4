r"""Training in two processes that is killed in the middle and started again.

    KERAS_BACKEND=torch TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 \
        torchrun --standalone --nproc-per-node 2 --max-restarts 1 \
        -m tests.distribution.torch.restarting FOLDER

Both processes train a model once undisturbed, and once more from the start. In
the middle of that one of them is killed, between two files of the model, and
`torchrun` starts both again. They go on from the last file, and write into the
folder by how much the settled weights and the slots differ from those of the
undisturbed training. Without the second variable, PyTorch 2.13 shows the new
processes the addresses of the old ones.
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
from torch import distributed

from keras_treegate.distribution import data_parallel
from keras_treegate.gates import SignGate
from keras_treegate.layers import SparseEmbedding, TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam
from tests.distribution.torch import training

STEPS, SAVES_EVERY, DIES_AT = 30, 8, 21


def make_model():
    x = keras.Input((6,))
    ids = keras.Input((), dtype="int32")
    gate = SignGate(threshold="running_mean", seed=0)
    tree = TreeGatedDense(
        3,
        depth=6,
        num_trees=2,
        levels=(0, 3, 6),
        gate=gate,
        count_visits=True,
    )
    outputs = keras.layers.Dense(2)(tree(x) + SparseEmbedding(300, 3)(ids))
    model = keras.Model([x, ids], outputs)
    model.compile(StepAwareAdam(0.01, weight_decay=0.1), "mse")
    return model


def batch_of(step, rank):
    """Returns the share of a process of the batch of a step."""
    random = np.random.default_rng((step, rank))
    return (
        random.normal(size=(4, 6)).astype("float32"),
        (300 * random.power(0.3, 4)).astype("int32"),
        random.normal(size=(4, 2)).astype("float32"),
    )


def train(model, rank, file=None, dies_at=None):
    """Trains from the step on that the model has reached."""
    parallel = data_parallel(model)
    for step in range(int(model.optimizer.iterations), STEPS):
        if step == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        model.zero_grad()
        training.add_gradients(parallel, batch_of(step, rank), 1.0)
        training.apply_gradients(model, model.optimizer)
        if file and rank == 0 and (step + 1) % SAVES_EVERY == 0:
            model.save(file.with_stem("unfinished"))
            file.with_stem("unfinished").replace(file)


def settled_state(model):
    """Returns all variables once each row has paid what it owes."""
    model.optimizer.finalize_variable_values(model.trainable_variables)
    return training.state_of(model, model.optimizer)


def main(folder):
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    restarts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    file = folder / "model.keras"
    undisturbed = folder / f"undisturbed {rank}.npz"
    if not restarts:
        keras.utils.set_random_seed(0)
        model = make_model()
        train(model, rank)
        np.savez(undisturbed, **settled_state(model))
        keras.utils.set_random_seed(0)
        train(make_model(), rank, file, dies_at=DIES_AT if rank == 1 else None)
    model = keras.saving.load_model(file)
    first = int(model.optimizer.iterations)
    train(model, rank, file)
    # By number, because Keras names a model that it loads anew.
    ended = settled_state(model).values()
    with np.load(undisturbed) as expected:
        differences = [
            np.abs(np.subtract(value, expected[name], dtype="float64")).max()
            for name, value in zip(expected, ended, strict=True)
        ]
    (folder / f"result {rank}.json").write_text(
        json.dumps(
            {
                "restarts": restarts,
                "first_step": first,
                "variables": len(differences),
                "largest_difference": max(differences),
            }
        )
    )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
