# %% [markdown]
# # One model, three backends
#
# At the end a network has been trained with JAX, saved, trained further with
# PyTorch, saved again, and served with TensorFlow: the same file all the way,
# with the optimizer's state. You see that the predictions agree.
#
# It takes about a minute, most of which is starting Python and importing
# frameworks. Nothing is downloaded. A backend that is not installed is passed
# over; its stage runs on one that is.
#
#     python tutorials/03_one_model_three_backends.py

# %%
import importlib.util
import os
import subprocess
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
from common import HERE, open_splits, parse_options
from tfds_builders.sklearn_digits import SklearnDigits

options = parse_options(
    "Train, go on and serve, each on a backend of its own.",
    "digits",
    ["mnist", "fashion_mnist"],
)
output = options.output

# %% [markdown]
# ## Data
#
# The digits of scikit-learn, as rows of 64 numbers. (Larger images are cut down
# to 8 by 8 pixels, so that one script serves all.)


# %%
def to_arrays(examples, most=2000):
    """Returns images as rows (B, 64) from 0 to 1, and labels (B,)."""
    count = min(most, len(examples))
    images = np.stack([examples[i]["image"][..., 0] for i in range(count)])
    labels = np.array([examples[i]["label"] for i in range(count)])
    step = images.shape[1] // 8
    images = images[:, : 8 * step : step, : 8 * step : step]
    return images.reshape(count, 64) / images.max(), labels


splits = open_splits(options, SklearnDigits)
x, y = to_arrays(splits["train"])
test_x, test_y = to_arrays(splits["test"])
data = output / "three_backends.npz"
np.savez(
    data,
    x=x.astype("float32"),
    y=y.astype("int32"),
    test_x=test_x.astype("float32"),
    test_y=test_y.astype("int32"),
)
print(f"{len(x)} images to train, {len(test_x)} to test")

# %% [markdown]
# ## The stages
#
# Keras fixes its backend when it is imported, so each stage is a process of its
# own, with its own `KERAS_BACKEND`. This is the whole program of a stage; it
# does not know which backend it runs on:

# %%
print((HERE / "one_backend.py").read_text())

# %%
wanted = {"train": "jax", "go_on": "torch", "serve": "tensorflow"}
installed = [name for name in wanted.values() if importlib.util.find_spec(name)]
if not installed:
    sys.exit("Install a backend: pip install jax (or torch, or tensorflow)")
model_file = output / "three_backends.keras"


def run_stage(stage):
    backend = wanted[stage] if wanted[stage] in installed else installed[0]
    process = subprocess.run(
        [
            *(sys.executable, str(HERE / "one_backend.py"), stage),
            *(str(model_file), str(data)),
            *("--epochs", "1" if options.smoke else "5"),
        ],
        env={"TF_CPP_MIN_LOG_LEVEL": "3"}
        | os.environ
        | {"KERAS_BACKEND": backend},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(process.stdout, end="")
    return np.load(f"{model_file}.{stage}.npy")


# %% [markdown]
# Train on the first backend, and go on with the second. The count of steps goes
# on where it was: the file holds the optimizer, too, with its moments. The
# weight decay that idle rows owe at the end of `fit` is paid before it ends, so
# nothing is lost on the way.

# %%
trained = run_stage("train")

# %%
went_on = run_stage("go_on")

# %% [markdown]
# Serve on the third: what it predicts is what the second one predicted after
# its training.

# %%
served = run_stage("serve")
difference = np.abs(served - went_on).max()
print(f"logits of the last two stages differ by at most {difference:.1e}")
print(f"logits lie between {served.min():.1f} and {served.max():.1f}")
same = (served.argmax(1) == went_on.argmax(1)).mean()
print(f"same prediction for {same:.1%} of the test images")
if difference > 1e-3:
    sys.exit("The backends do not agree.")

# %% [markdown]
# What makes this work: the layer saves its variables by name, and under JAX it
# has two more trainable ones in each level (the decay clock and its stamps)
# than elsewhere. A model whose layers are all saved by Keras itself needs
# nothing of the kind.
