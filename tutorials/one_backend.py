"""One stage of tutorial 3, on the backend that `KERAS_BACKEND` names.

python tutorials/one_backend.py train model.keras data.npz --epochs 2
"""

import argparse
import sys

import keras
import numpy as np

from keras_treegate.gates import SignGate
from keras_treegate.layers import TreeGatedDense
from keras_treegate.optimizers import StepAwareAdam


def new_model():
    gate = SignGate(threshold="running_mean", seed=0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            TreeGatedDense(32, depth=3, num_trees=16, gate=gate),
            keras.layers.LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        StepAwareAdam(5e-3, weight_decay=0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


parser = argparse.ArgumentParser()
parser.add_argument("stage", choices=["train", "go_on", "serve"])
parser.add_argument("model")
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()
data = np.load(options.data)
keras.utils.set_random_seed(0)

if options.stage == "train":
    model = new_model()
else:
    model = keras.models.load_model(options.model)
if keras.backend.backend() == "torch":
    model.jit_compile = False  # compiling would take longer than training
framework = sys.modules[keras.backend.backend()]
print(f"{options.stage} on {framework.__name__} {framework.__version__}")

if options.stage != "serve":
    print("  steps so far:", int(model.optimizer.iterations.value))
    history = model.fit(
        data["x"], data["y"], epochs=options.epochs, verbose=0
    ).history
    losses = " ".join(f"{loss:.3f}" for loss in history["loss"])
    print("  loss of each epoch:", losses)
    model.save(options.model)

accuracy = model.evaluate(data["test_x"], data["test_y"], verbose=0)[1]
print(f"  test accuracy: {accuracy:.4f}")
logits = model.predict(data["test_x"], verbose=0)
np.save(f"{options.model}.{options.stage}.npy", logits)
