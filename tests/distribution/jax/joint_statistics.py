"""Prints how running means and baselines of four devices differ from one's.

A program of its own, because devices are set before the first use:
`python -m tests.distribution.jax.joint_statistics data rows`.
"""

import json
import sys

import keras
import numpy as np

from keras_treegate.credit import Reinforce
from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.losses import ReinforceLoss
from keras_treegate.optimizers import StepAwareSGD
from tests.distribution.jax.engines import use

STEPS, BATCH = 20, 8


def statistics(engine):
    """Returns a gate's means and its credit's baseline after training."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    use(engine)
    gate, credit = SignGate(threshold="running_mean", seed=1), Reinforce(seed=2)
    layer = TreeGatedDense(4, depth=2, num_trees=2, gate=gate, credit=credit)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(StepAwareSGD(1e-2), ReinforceLoss("mse"))
    random = np.random.default_rng(0)
    x = random.normal(size=(STEPS * BATCH, 6)).astype("float32") + 1
    model.fit(x, x[:, :4], batch_size=BATCH, shuffle=False, verbose=0)
    assert credit.updates.numpy()[0] == gate.updates.numpy() == STEPS
    return [
        variable.numpy() for variable in (gate.moving_mean, credit.moving_means)
    ]


def main(*engines):
    one = statistics("one")
    assert all(np.any(array) for array in one)
    report = {}
    for engine in engines:
        pairs = zip(statistics(engine), one, strict=True)
        report[engine] = max(float(np.max(np.abs(a - b))) for a, b in pairs)
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
